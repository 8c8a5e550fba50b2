"""`hivectl rebuild-all`: every cage anew from what is deployed, the manager's first, so that it is there for the rest.

Cages that were stopped on purpose stay stopped. One that does not come up holds up no other; the exit code says so.
"""

import argparse
from typing import Final

import trio

from hivectl import tables
from hivectl.progress import shown
from protocol.privd import Cage, ListCages, Power, RebuildCage
from protocol.problem import Refused
from protocol.settings import AgentRole
from runtime.client import Client

PATIENCE_S: Final = 5.0
AT_ONCE_MAX: Final = 4
"""Cages that are rebuilt at the same time; each may let a turn end first."""
RESTING: Final = frozenset({Power.STOPPED, Power.STOPPING, Power.KEPT, Power.DRAFT})
EXIT_SOME_FAILED: Final = 1


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser(
        "rebuild-all", help="make every cage anew from what is deployed, the manager's first"
    )
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    rebuilt: list[Cage] = []
    failed: dict[str, str] = {}
    async with Client(values.places.socket("privd")) as privd, shown("rebuild-all"):
        cages = [each for each in await privd.call(ListCages(), patience_s=PATIENCE_S) if is_up(each)]
        room = trio.CapacityLimiter(AT_ONCE_MAX)

        async def rebuild(agent: str) -> None:
            async with room:
                try:
                    rebuilt.append(await privd.call(RebuildCage(agent), patience_s=PATIENCE_S))
                except Refused as refused:
                    failed[agent] = refused.detail

        for stage in in_order(cages):
            async with trio.open_nursery() as nursery:
                for agent in stage:
                    nursery.start_soon(rebuild, agent)
    print(tables.document({"rebuilt": rebuilt, "failed": failed}) if values.json else told(rebuilt, failed))
    return EXIT_SOME_FAILED if failed else 0


def is_up(cage: Cage) -> bool:
    return cage.power not in RESTING


def in_order(cages: list[Cage]) -> tuple[list[str], list[str]]:
    """The manager, then everybody else."""
    managers = [each.agent for each in cages if each.settings.role is AgentRole.MANAGER]
    return managers, [each.agent for each in cages if each.agent not in managers]


def told(rebuilt: list[Cage], failed: dict[str, str]) -> str:
    lines = [tables.cage(each) for each in rebuilt]
    lines += [f"{agent}: not rebuilt: {tables.printable(reason)}" for agent, reason in failed.items()]
    return "\n".join(lines) or "no cage runs"
