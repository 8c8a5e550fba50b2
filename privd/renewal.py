"""Rebuilds stale cages by themselves: the manager's first, one at a time, each well before the next one's turn.

A cage that somebody stopped stays stopped, and one that is being deployed is left to its deployment. Where a cage is
not well after it was rebuilt, the round ends: what an upgrade broke, it breaks in one cage. It goes on when that cage
is well, or was stopped.
"""

from collections.abc import Iterable
from typing import Final, Protocol

import trio

from privd.keeper import Keeper
from privd.policy.base import may_renew
from privd.systems import Systems
from protocol.limits import HEALTH_GATE_S
from protocol.privd import Cage, Power
from protocol.problem import Refused
from protocol.settings import AgentRole
from runtime.log import Log

LOOK_S: Final = 0.1
"""How often a cage that was rebuilt is asked about."""
NOT_WELL: Final = frozenset({Power.CRASHED, Power.FAILED, Power.STARTING})


class Agents(Protocol):
    """What renewal needs of the hive."""

    systems: Systems

    def keepers(self) -> Iterable[Keeper]: ...
    def base(self, agent: str) -> str | None: ...

    def look_at_base(self) -> None:
        """Find out what a new cage would be made from, and tell whose row that changes."""
        ...


class Going(Protocol):
    """What it needs to know of deployments."""

    def is_idle(self, agent: str) -> bool:
        """Whether nothing is being deployed for it."""
        ...

    def is_well(self, row: Cage) -> bool:
        """Whether the harness of this start of a cage has said that it is well."""
        ...


class Renewal:
    """The automatic rebuilds of one hive."""

    def __init__(self, agents: Agents, going: Going, grace_s: float, log: Log, *, rebuilds: bool) -> None:
        self._agents = agents
        self._going = going
        self._grace_s = grace_s
        self._log = log
        self._rebuilds = rebuilds
        self._doubt: Keeper | None = None
        """The cage that was rebuilt last, until it is well."""
        self._unbuilt: dict[str, str] = {}
        """Whose system could not be built anew, and why it would have been: it is not tried twice over one base."""

    async def look(self) -> None:
        """Find what is stale, and rebuild it if that is the hive's way."""
        self._agents.look_at_base()
        if not self._rebuilds:
            return
        for keeper in in_order(self._agents.keepers()):
            if self._doubts():
                return
            await self._renew(keeper)

    def _doubts(self) -> bool:
        """Whether the one that was rebuilt last is still not well; one that somebody stopped is not in doubt."""
        if self._doubt is None:
            return False
        row = self._doubt.row()
        if row.power in NOT_WELL or (row.power is Power.RUNNING and not self._going.is_well(row)):
            return True
        self._doubt = None
        return False

    async def _renew(self, keeper: Keeper) -> None:
        agent, stale = keeper.record.agent, keeper.row().stale
        if not may_renew(keeper.power, stale, wanted=keeper.record.wanted) or not self._going.is_idle(agent):
            return
        if self._unbuilt.get(agent) == stale:
            return
        self._log.info("rebuilding a stale cage", agent=agent, stale=stale)
        try:
            await self._agents.systems.build_again(agent, self._agents.base(agent))
        except Refused as refused:
            self._log.error("a stale cage stays as it is", agent=agent, reason=refused.detail)
            self._unbuilt[agent] = stale
            return
        try:
            if not await keeper.renew(self._grace_s):
                return
        except Refused as refused:
            self._log.error(
                "a stale cage was not rebuilt; the others stay", agent=agent, reason=refused.detail
            )
            self._doubt = keeper
            return
        self._doubt = keeper
        with trio.move_on_after(HEALTH_GATE_S):
            while self._doubts():  # noqa: ASYNC110 - the broker says it, or the cage ends: two sources
                await trio.sleep(LOOK_S)
        if self._doubts():
            self._log.error("a cage is not well after its rebuild; the others stay", agent=agent)


def in_order(keepers: Iterable[Keeper]) -> list[Keeper]:
    """The manager, then everybody else by name."""
    return sorted(
        keepers,
        key=lambda each: (each.record.settings.role is not AgentRole.MANAGER, each.record.agent),
    )
