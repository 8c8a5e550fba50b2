"""Whether the harness of a cage that was deployed or rebuilt is well: asked of it, told to privd until it is taken.

A harness is asked with the time at which its cage was started, and answers with it. So no answer of the cage before
passes for the new one's, whatever comes late.
"""

from typing import Final

import trio

from brokerd.live.harnesses import Harnesses
from protocol.agent import ProveHealth, ReportHealth
from protocol.configuration import ConfirmHealth
from protocol.limits import DETAIL_CHARS_MAX
from protocol.problem import Problem, Refused
from runtime.client import Client, Disconnected
from runtime.log import Log

PATIENCE_S: Final = 5.0
AGAIN_S: Final = 0.5
PASSING: Final = frozenset({Problem.BUSY, Problem.STOPPING, Problem.LIMIT, Problem.INTERNAL})
"""Refusals after which asking again may help."""


class Health:
    """One task tells privd; nobody waits for it."""

    def __init__(self, harnesses: Harnesses, log: Log) -> None:
        self._harnesses = harnesses
        self._log = log
        self._started: dict[str, int] = {}
        self._checked: set[str] = set()
        self._rebuilt: set[str] = set()
        """Whose harness has not answered since its cage was rebuilt."""
        self._found: dict[str, ConfirmHealth] = {}
        self._lacking: dict[str, str] = {}
        self._came = trio.Event()

    def runs(self, agent: str, started_ms: int | None) -> None:
        """An agent's cage runs since then; None: it does not."""
        if started_ms is None:
            self._started.pop(agent, None)
        elif self._started.get(agent) != started_ms:
            self._started[agent] = started_ms
            self.ask(agent)

    def check(self, agent: str, *, wanted: bool) -> None:
        """Privd wants to know, or does not want to any more."""
        if wanted:
            self._checked.add(agent)
            self.ask(agent)
        else:
            self._checked.discard(agent)

    def rebuilt(self, agent: str) -> None:
        """A cage was made anew: privd rebuilds no other by itself before it knows how this one is."""
        self._rebuilt.add(agent)
        self.ask(agent)

    def ask(self, agent: str) -> None:
        """Ask the harness that listens, if privd wants to know; one that comes later is asked when it comes."""
        started_ms = self._started.get(agent)
        if started_ms is not None and agent in self._checked | self._rebuilt:
            self._harnesses.command(agent, ProveHealth(started_ms))

    def lacks(self, agent: str, fault: str) -> None:
        """What of an agent's settings is not in force here, and why; nothing when all is. It is no more well then."""
        if fault:
            self._lacking[agent] = fault[:DETAIL_CHARS_MAX]
        else:
            self._lacking.pop(agent, None)

    def report(self, agent: str, report: ReportHealth) -> None:
        """What a harness found, and what we did."""
        fault = report.fault or self._lacking.get(agent, "")
        if report.started_ms == self._started.get(agent):
            self._rebuilt.discard(agent)
        self._found[agent] = ConfirmHealth(agent, report.started_ms, fault)
        self._came.set()

    async def tell_on(self, privd: Client) -> None:
        """For ever: tell privd."""
        while True:
            await self._came.wait()
            self._came = trio.Event()
            while self._found:
                agent = next(iter(self._found))
                if not await self._told(privd, self._found.pop(agent)):
                    await trio.sleep(AGAIN_S)

    async def _told(self, privd: Client, found: ConfirmHealth) -> bool:
        """Whether privd took it, or never will; what is left is tried again, unless a newer answer came."""
        try:
            await privd.call(found, patience_s=PATIENCE_S)
        except (Disconnected, Refused) as fault:
            if isinstance(fault, Refused) and fault.problem not in PASSING:
                self._log.warning("privd does not want to know", agent=found.agent, reason=str(fault))
                return True
            self._found.setdefault(found.agent, found)
            self._log.warning(
                "privd cannot be told how a harness is; trying on", agent=found.agent, reason=str(fault)
            )
            return False
        self._log.info("told how a harness is", agent=found.agent, fault=found.fault)
        return True
