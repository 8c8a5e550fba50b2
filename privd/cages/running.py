"""A cage that runs: watched by two pidfds, recorded so that the next privd can adopt it.

    start    lock → skeleton → boot (the launcher limits it) → record
    adopt    record + lock + both processes alive, else whatever is left is ended
    wait     whichever process ends first; a lost supervisor takes the cage with it; groups and record go

Nothing here depends on which program made the cage, nor on what launched that.
"""

import os
import signal
from typing import Final

import msgspec
import trio
from msgspec import Struct

from privd.cages import folders, skeleton
from privd.cages.boot import Launcher, Ordering, boot, is_locked, take_lock
from privd.cages.journal import Journal
from privd.cages.limit_counts import LimitCounts, count
from privd.cages.processes import Process, ProcessName, boot_id
from privd.cages.spec import CageSpec, Exit, How, Places
from runtime.clock import now_ms

DISK: Final = "disk"
QUOTAS: Final = "the kernel's user quotas"
COUNTED: Final = "nothing limits the disk: {reason}; what it holds is counted now and then"
SUPERVISOR_END_S: Final = 10.0
"""How long nspawn or bwrap may take to clean up after the cage's init has ended."""


class Record(Struct, frozen=True):
    """What runs, on disk."""

    boot: str
    supervisor: ProcessName
    leader: ProcessName
    started_ms: int
    groups: tuple[str, ...] = ()
    held: dict[str, str] = {}
    """Resource → what limits it."""
    degraded: tuple[str, ...] = ()
    asked: bool = False
    """Whether somebody asked it to end."""
    base: dict[str, str] = {}
    """What it was made from."""


class BootedCage:
    """A running cage of nspawn or bwrap; see `backend.RunningCage` for what each method promises."""

    def __init__(
        self, record: Record, supervisor: Process, leader: Process, places: Places, launcher: Launcher
    ) -> None:
        self._record = record
        self._supervisor = supervisor
        self._leader = leader
        self._places = places
        self._launcher = launcher
        self._counts = LimitCounts()
        self._turn = trio.Lock()
        self._forced = False
        self._exit: Exit | None = None
        self._held = True

    @property
    def leader_pid(self) -> int:
        return self._record.leader.pid

    @property
    def started_ms(self) -> int:
        return self._record.started_ms

    @property
    def degraded(self) -> tuple[str, ...]:
        return self._record.degraded

    @property
    def held(self) -> dict[str, str]:
        return self._record.held

    @property
    def base(self) -> dict[str, str]:
        return self._record.base

    def limit_counts(self) -> LimitCounts:
        """See `backend.RunningCage`."""
        if self._exit is None:
            self._counts = count(self._record.groups).at_least(self._counts)
        return self._counts

    async def wait(self) -> Exit:
        """See `backend.RunningCage`. One task watches, the others wait for it; a cancelled watcher is replaced."""
        async with self._turn:
            if self._exit is not None:
                return self._exit
            if not self._held:
                await trio.sleep_forever()
            await self._ended()
            self._exit = await self._cleared()
            return self._exit

    async def stop(self, grace_s: float) -> Exit:
        """See `backend.RunningCage`."""
        if self._held:
            self._ask_for_its_end()
            self._leader.send(signal.SIGTERM)
        with trio.move_on_after(grace_s):
            return await self.wait()
        return await self.kill()

    async def kill(self) -> Exit:
        """See `backend.RunningCage`."""
        if self._held:
            self._forced = True
            self._ask_for_its_end()
            self._leader.send(signal.SIGKILL)
        return await self.wait()

    def let_go(self) -> None:
        """See `backend.RunningCage`."""
        if self._held:
            self._close()

    async def _ended(self) -> None:
        """Until both have ended. The cage never outlives its supervisor, nor the supervisor its cage for long."""
        leader, supervisor = self._leader, self._supervisor
        async with trio.open_nursery() as either:
            either.start_soon(_then_cancel, leader, either.cancel_scope)
            either.start_soon(_then_cancel, supervisor, either.cancel_scope)
        leader.send(signal.SIGKILL)
        await leader.ended()
        with trio.move_on_after(SUPERVISOR_END_S) as patience:
            await supervisor.ended()
        if patience.cancelled_caught:
            supervisor.send(signal.SIGKILL)
            await supervisor.ended()

    def _ask_for_its_end(self) -> None:
        """Noted first: a privd that dies now must not take what follows for a crash."""
        if not self._record.asked:
            self._record = msgspec.structs.replace(self._record, asked=True)
            _write_record(self._record, self._places)

    async def _cleared(self) -> Exit:
        """Take away what the cage leaves, and say how it ended: the kernel knows best, then who waited for it."""
        self.limit_counts()
        reported, kept = self._supervisor.exit(), self._leader.exit()
        with trio.CancelScope(shield=True):  # the exit was taken and cannot be asked for again
            told = await self._launcher.settle(self._places.folder.name, self._record.groups)
        self._places.record.unlink(missing_ok=True)
        self._close()
        if self._forced:
            return Exit(How.SIGNAL, signal.SIGKILL)
        return kept or reported or told or Exit(How.UNKNOWN)

    def _close(self) -> None:
        self._held = False
        self._leader.close()
        self._supervisor.close()


async def _then_cancel(process: Process, scope: trio.CancelScope) -> None:
    await process.ended()
    scope.cancel()


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
    _write_record(record, places)
    return BootedCage(record, booted.supervisor, booted.leader, places, launcher)


async def adopt(places: Places, launcher: Launcher) -> BootedCage | Exit | None:
    """The cage of an earlier privd; how it ended when it did so unasked; None when none ran. Nothing else is left."""
    record = _read_record(places)
    locked = places.folder.is_dir() and is_locked(places)
    if locked and record is not None and record.boot == boot_id():
        supervisor, leader = Process.hold(record.supervisor), Process.hold(record.leader)
        if supervisor is not None and leader is not None:
            return BootedCage(record, supervisor, leader, places, launcher)
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


def _write_record(record: Record, places: Places) -> None:
    fresh = places.record.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(record))
    fresh.rename(places.record)


def _read_record(places: Places) -> Record | None:
    """The record; one that cannot be read counts as none, so that what runs under it is ended."""
    try:
        return msgspec.json.decode(places.record.read_bytes(), type=Record)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
