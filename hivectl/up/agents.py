"""The agents of a hive that comes up or goes down: created, started, awaited, stopped, through privd and brokerd."""

import os
from collections.abc import Callable
from typing import Final

import trio

from hivectl.places import Places
from hivectl.program import program, typed
from hivectl.proposals import waits
from hivectl.spawning import spawn, spawned
from hivectl.up.configuration import CLAUDE_VARIABLE, HiveSettings
from protocol.approvals import ProposalKind
from protocol.brokerd import Activity, TakeSnapshot
from protocol.configuration import Propose
from protocol.names import MANAGER_NAME, agent_name_fault
from protocol.privd import Cage, ListCages, Power, StartCage, StopCage
from protocol.problem import Problem, Refused
from protocol.settings import Runner
from runtime.client import Client, Disconnected

AGENT_READY_S: Final = 60.0
LOOK_S: Final = 0.05
PATIENCE_S: Final = 5.0

Say = Callable[[str, str], None]
"""A glyph and a line."""


def named(text: str) -> tuple[str, ...]:
    """`iris,damocles` → names, each once. Refused(malformed) says what is wrong with which."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        fault = None if name == MANAGER_NAME else agent_name_fault(name)
        if fault:
            raise Refused(Problem.MALFORMED, f"--agents: {fault}")
    return tuple(dict.fromkeys(names))


class Agents:
    """What `up` does with the agents of one hive."""

    def __init__(self, places: Places, say: Say) -> None:
        self._places = places
        self._say = say

    async def wake(self, asked: tuple[str, ...] | None, settings: HiveSettings) -> None:
        """Create what is missing, start what should run, and show each as its harness attaches.

        `asked` are the names from the command line; without them a hive that is new gets the first ones of hive.toml.
        """
        async with Client(self._places.socket("privd")) as privd:
            cages = {cage.agent: cage for cage in await privd.call(ListCages(), patience_s=PATIENCE_S)}
            if asked is None:
                asked = () if cages else settings.agents.first
            wanted = (MANAGER_NAME, *asked)
            missing = [name for name in wanted if name not in cages or cages[name].power is Power.KEPT]
            spawns = [
                Propose(name, ProposalKind.SPAWN, runner=None if name in cages else settings.agents.runner)
                for name in missing
            ]
            # the manager first: whose the others' configurations are
            await self._spawn_all(privd, [each for each in spawns if each.agent == MANAGER_NAME])
            await self._spawn_all(privd, [each for each in spawns if each.agent != MANAGER_NAME])
            cages = {cage.agent: cage for cage in await privd.call(ListCages())}
            starting = [
                cage
                for cage in cages.values()
                if cage.agent in wanted or cage.power in (Power.RUNNING, Power.STARTING)
            ]
            async with trio.open_nursery() as nursery:
                for cage in starting:
                    nursery.start_soon(self._start, privd, cage)
        names = sorted((cage.agent for cage in starting), key=lambda name: (name != MANAGER_NAME, name))
        await self._await_idle(names)

    async def _spawn_all(self, privd: Client, asked: list[Propose]) -> None:
        """All at once; the first that is refused ends `up`, when the others are done."""
        faults: list[Refused] = []

        async def one(each: Propose) -> None:
            try:
                approval = await spawn(privd, each, self._places)
                if approval.deployment is None:
                    self._say("?", waits(approval.proposal))
                else:
                    await spawned(privd, approval.deployment)
            except Refused as refused:
                faults.append(refused)

        async with trio.open_nursery() as nursery:
            for each in asked:
                nursery.start_soon(one, each)
        if faults:
            raise faults[0]

    async def _start(self, privd: Client, cage: Cage) -> None:
        if cage.settings.runner is Runner.CLAUDE and not os.environ.get(CLAUDE_VARIABLE):
            install = f"{program()} env claude"
            self._say("⚠", f"{cage.agent}: Claude Code is not installed here; {install}, then start again")
        try:
            await privd.call(StartCage(agent=cage.agent), patience_s=PATIENCE_S)
        except Refused as refused:
            self._say("✗", f"{cage.agent}: {refused.detail}")

    async def _await_idle(self, waiting: list[str]) -> None:
        """One that is late (AGENT_READY_S) is named, and `up` goes on."""
        async with Client(self._places.socket("brokerd")) as brokerd:
            with trio.move_on_after(AGENT_READY_S):
                while waiting:
                    snapshot = await brokerd.call(TakeSnapshot(), patience_s=PATIENCE_S)
                    present = {row.agent.name: row.agent for row in snapshot.agents}
                    for name in tuple(waiting):
                        agent = present.get(name)
                        if agent is not None and agent.activity is not Activity.ABSENT:
                            self._say("●", f"{name} · {agent.activity}")
                            waiting.remove(name)
                    if waiting:
                        await trio.sleep(LOOK_S)
        for name in waiting:
            why = typed(f"journal {name}", self._places)
            self._say("✗", f"{name} is not there after {AGENT_READY_S:g} s; to see why: {why}")

    async def stop(self) -> None:
        """Stop every cage that runs, until privd next starts."""
        async with Client(self._places.socket("privd")) as privd:
            try:
                cages = await privd.call(ListCages())
            except (Disconnected, Refused) as fault:
                self._say("⚠", f"privd cannot be asked to stop the cages: {fault}")
                return
            async with trio.open_nursery() as nursery:
                for cage in cages:
                    if cage.power in (Power.RUNNING, Power.STARTING, Power.CRASHED):
                        nursery.start_soon(self._stop_one, privd, cage)

    async def _stop_one(self, privd: Client, cage: Cage) -> None:
        try:
            await privd.call(StopCage(agent=cage.agent, until_next_start=True))
        except (Disconnected, Refused) as fault:
            self._say("⚠", f"{cage.agent}: {fault}")
