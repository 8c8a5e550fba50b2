"""Cages as children of privd, where no service manager takes them: forked, and limited by control groups of ours."""

import os
import sys
from pathlib import Path
from typing import Final

import msgspec
import trio
from msgspec import Struct

from privd.cages import control_groups
from privd.cages.boot import UNHANDLED, Handed, Launched, Order, Ordering, end_holders
from privd.cages.processes import Process
from privd.cages.spec import CageSpec, Exit, Places

PROGRAM: Final = Path(__file__).with_name("launch.py")


class Children(Struct, frozen=True):
    """The launcher of one hive that has none."""

    hive: str

    async def launch(self, spec: CageSpec, places: Places, order: Ordering, handed: Handed) -> Launched:
        """See `boot.Launcher`."""
        groups = await control_groups.create(self.hive, spec.agent, spec.limits)
        try:
            return Launched(_spawn(order(groups), handed), groups)
        except BaseException:
            with trio.CancelScope(shield=True):
                await control_groups.remove(groups.folders)
            raise

    async def settle(self, agent: str, groups: tuple[str, ...]) -> Exit | None:
        """See `boot.Launcher`. How a child ended, its parent knows already."""
        await control_groups.remove(groups)
        return None

    async def end(self, places: Places) -> None:
        """See `boot.Launcher`."""
        await end_holders(places)


def _spawn(order: Order, handed: Handed) -> Process:
    """The launcher, in a session of its own."""
    text = msgspec.json.encode(order).decode()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", str(PROGRAM), text],
        {},
        file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(handed)],
        setsid=True,
        setsigmask=[],
        setsigdef=UNHANDLED,
    )
    return Process.child(pid)
