"""A cage that runs: watched by two pidfds, recorded so that the next privd can adopt it.

    start    lock → skeleton → boot (the launcher limits it) → record
    adopt    record + lock + both processes alive, else whatever is left is ended
    wait     whichever process ends first; a lost supervisor takes the cage with it; groups and record go

Nothing here depends on which program made the cage, nor on what launched that.
"""

import os
import signal
from typing import Final

import trio

from privd.cages import folders, skeleton
from privd.cages.boot import Launcher, Ordering, boot, is_locked, take_lock
from privd.cages.held import HeldCage, Record, read_record
from privd.cages.journal import Journal
from privd.cages.processes import Process, boot_id
from privd.cages.spec import CageSpec, Exit, How, Places
from runtime.clock import now_ms

DISK: Final = "disk"
QUOTAS: Final = "the kernel's user quotas"
COUNTED: Final = "nothing limits the disk: {reason}; what it holds is counted now and then"
SUPERVISOR_END_S: Final = 10.0
"""How long nspawn or bwrap may take to clean up after the cage's init has ended."""


class BootedCage(HeldCage):
    """A running cage of nspawn or bwrap."""

    def __init__(
        self, record: Record, held: tuple[Process, Process], places: Places, launcher: Launcher
    ) -> None:
        super().__init__(record, held, places, SUPERVISOR_END_S)
        self._launcher = launcher

    async def stop(self, grace_s: float) -> Exit:
        """See `backend.RunningCage`."""
        if self._held:
            self._ask_for_its_end()
            self._leader.send(signal.SIGTERM)
        with trio.move_on_after(grace_s):
            return await self.wait()
        return await self.kill()

    async def _settle(self) -> Exit:
        """The kernel knows best how it ended, then who waited for it."""
        reported, kept = self._supervisor.exit(), self._leader.exit()
        with trio.CancelScope(shield=True):  # the exit was taken and cannot be asked for again
            told = await self._launcher.settle(self._places.folder.name, self._record.groups)
        return kept or reported or told or Exit(How.UNKNOWN)


def prepare(spec: CageSpec, places: Places) -> None:
    """Folders and skeleton of a cage."""
    for folder in spec.folders:
        folders.make(folder)
    skeleton.make(spec, places)


async def start(
    spec: CageSpec, places: Places, launcher: Launcher, order: Ordering, degraded: tuple[str, ...]
) -> BootedCage:
    """Boot one cage. Refusals: `conflict` while it runs, `failed` with the journal's last lines."""
    lock = take_lock(places)
    try:
        prepare(spec, places)
    except BaseException:
        os.close(lock)
        raise
    booted = await boot(launcher, spec, places, order, lock)
    limits, disk = booted.groups, booted.disk
    record = Record(
        boot=boot_id(),
        supervisor=booted.supervisor.name,
        leader=booted.leader.name,
        started_ms=now_ms(),
        groups=limits.folders,
        held=limits.held | ({DISK: QUOTAS} if disk == "" else {}),
        degraded=(*degraded, *limits.degraded, *((COUNTED.format(reason=disk),) if disk else ())),
        base=spec.base,
    )
    record.write(places)
    return BootedCage(record, (booted.supervisor, booted.leader), places, launcher)


async def adopt(places: Places, launcher: Launcher) -> BootedCage | Exit | None:
    """The cage of an earlier privd; how it ended when it did so unasked; None when none ran. Nothing else is left."""
    record = read_record(places)
    locked = places.folder.is_dir() and is_locked(places)
    if locked and record is not None and record.boot == boot_id():
        supervisor, leader = Process.hold(record.supervisor), Process.hold(record.leader)
        if supervisor is not None and leader is not None:
            return BootedCage(record, (supervisor, leader), places, launcher)
        if supervisor is not None:
            supervisor.close()
        if leader is not None:
            leader.send(signal.SIGKILL)
            await leader.ended()
            leader.close()
    if locked:
        await launcher.end(places)
    if record is None:
        return None
    told = await launcher.settle(places.folder.name, record.groups)
    places.record.unlink(missing_ok=True)
    if record.boot != boot_id() or record.asked:
        return None
    return told or Exit(How.UNKNOWN)


async def clear(places: Places) -> None:
    """Delete the skeleton of a cage that does not run; `conflict` while it does."""
    lock = take_lock(places)
    try:
        await trio.to_thread.run_sync(folders.remove, places.root)
    finally:
        os.close(lock)


async def remove(places: Places) -> None:
    """Delete skeleton, record, journal and lock of a cage that does not run."""
    if not places.folder.is_dir():
        return
    lock = take_lock(places)
    try:
        await trio.to_thread.run_sync(folders.remove, places.root)
        Journal(places.journal).remove()
        places.record.unlink(missing_ok=True)
        places.lock.unlink(missing_ok=True)
    finally:
        os.close(lock)
