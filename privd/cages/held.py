"""A cage that runs, held by two pidfds: what made it, and its init. Recorded, so that the next privd can adopt it.

What ends it and what it leaves behind is each backend's matter (`running`, `nixos_running`); that neither process
outlives the other for long, that an end was asked for, and who may wait for it, is the same for all.
"""

import signal
from abc import ABC, abstractmethod

import msgspec
import trio
from msgspec import Struct

from privd.cages.limit_counts import LimitCounts, count
from privd.cages.processes import Process, ProcessName
from privd.cages.spec import Exit, How, Places


class Record(Struct, frozen=True):
    """What runs, on disk."""

    boot: str
    supervisor: ProcessName
    leader: ProcessName
    started_ms: int
    groups: tuple[str, ...] = ()
    """Control groups, where limits stand and are counted."""
    held: dict[str, str] = {}
    """Resource → what limits it."""
    degraded: tuple[str, ...] = ()
    asked: bool = False
    """Whether somebody asked it to end."""
    base: dict[str, str] = {}
    """What it was made from."""
    unit: str = ""
    """Where a unit of systemd runs it: the unit's invocation. Another one is another cage."""

    def write(self, places: Places) -> None:
        fresh = places.record.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(self))
        fresh.rename(places.record)


def read_record(places: Places) -> Record | None:
    """The record; one that cannot be read counts as none, so that what runs under it is ended."""
    try:
        return msgspec.json.decode(places.record.read_bytes(), type=Record)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def hold(record: Record) -> tuple[Process, Process] | None:
    """Both processes of a record; None when one of them has ended."""
    return both(Process.hold(record.supervisor), Process.hold(record.leader))


def both(supervisor: Process | None, leader: Process | None) -> tuple[Process, Process] | None:
    """Two processes, or neither: one alone is let go of."""
    if supervisor is not None and leader is not None:
        return supervisor, leader
    for process in (supervisor, leader):
        if process is not None:
            process.close()
    return None


class HeldCage(ABC):
    """A running cage; see `backend.RunningCage` for what each method promises."""

    def __init__(self, record: Record, held: tuple[Process, Process], places: Places, end_s: float) -> None:
        """`end_s` is how long the supervisor may take to clean up after the cage's init has ended."""
        self._record = record
        self._supervisor, self._leader = held
        self._places = places
        self._end_s = end_s
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
            await self._until_both_ended()
            self.limit_counts()
            told = await self._settle()
            self._places.record.unlink(missing_ok=True)
            self._close()
            self._exit = Exit(How.SIGNAL, signal.SIGKILL) if self._forced else told
            return self._exit

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

    @abstractmethod
    async def stop(self, grace_s: float) -> Exit:
        """See `backend.RunningCage`."""

    @abstractmethod
    async def _settle(self) -> Exit:
        """Take away what the cage leaves, and say how it ended."""

    def _ask_for_its_end(self) -> None:
        """Noted first: a privd that dies now must not take what follows for a crash."""
        if self._held and not self._record.asked:
            self._record = msgspec.structs.replace(self._record, asked=True)
            self._record.write(self._places)

    async def _until_both_ended(self) -> None:
        """The cage never outlives its supervisor, nor the supervisor its cage for long."""
        async with trio.open_nursery() as either:
            for process in (self._leader, self._supervisor):
                either.start_soon(_then_cancel, process, either.cancel_scope)
        self._leader.send(signal.SIGKILL)
        await self._leader.ended()
        with trio.move_on_after(self._end_s) as patience:
            await self._supervisor.ended()
        if patience.cancelled_caught:
            self._supervisor.send(signal.SIGKILL)
            await self._supervisor.ended()

    def _close(self) -> None:
        self._held = False
        self._leader.close()
        self._supervisor.close()


async def _then_cancel(process: Process, scope: trio.CancelScope) -> None:
    await process.ended()
    scope.cancel()
