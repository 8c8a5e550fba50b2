"""A NixOS container that runs: two of its processes held by pidfd, its unit asked what became of it.

The unit lives in systemd, so nothing here must run for the cage to live. How it ended systemd alone knows.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import trio
from msgspec import Struct

from privd.cages.limit_counts import LimitCounts, count
from privd.cages.nixos_conf import container_of, unit_of
from privd.cages.nixos_host import NixosHost, UnitState, own_folder
from privd.cages.processes import Process, ProcessName
from privd.cages.spec import CageSpec, Exit, How, Places
from protocol.problem import Problem, Refused

UNIT_END_S: Final = 20.0
"""How long systemd may take to notice that a container has ended."""
LOOK_MS: Final = 50


class Record(Struct, frozen=True):
    """What runs, on disk. `unit` is the unit's invocation: another one is another cage."""

    boot: str
    unit: str
    supervisor: ProcessName
    leader: ProcessName
    started_ms: int
    degraded: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    """The unit's control group, where limits stand and are counted."""
    held: dict[str, str] = {}
    asked: bool = False
    """Whether somebody asked it to end."""
    base: dict[str, str] = {}
    """What its system was built from."""

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


class NixosCage:
    """A running container; see `backend.RunningCage` for what each method promises."""

    def __init__(
        self, host: NixosHost, agent: str, places: Places, record: Record, held: tuple[Process, Process]
    ) -> None:
        self._host = host
        self._agent = agent
        self._places = places
        self._record = record
        self._supervisor, self._leader = held
        self._turn = trio.Lock()
        self._held = True
        self._forced = False
        self._exit: Exit | None = None
        self._counts = LimitCounts()

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
            if self._exit is None:
                if not self._held:
                    await trio.sleep_forever()
                self._exit = await self._ended()
            return self._exit

    async def stop(self, grace_s: float) -> Exit:
        """See `backend.RunningCage`. Stopping is asked of `nixos-container`; whether it worked the kernel says."""
        self._ask_for_its_end()
        with trio.move_on_after(grace_s):
            async with trio.open_nursery() as asking:
                asking.start_soon(self._ask_to_stop, grace_s)
                ended = await self.wait()
                asking.cancel_scope.cancel()
            return ended
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

    def _ask_for_its_end(self) -> None:
        """So that a privd that comes later does not take it for a crash."""
        if self._held and self._exit is None:
            self._record = msgspec.structs.replace(self._record, asked=True)
            self._record.write(self._places)

    async def _ask_to_stop(self, grace_s: float) -> None:
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with own_folder(self._places) as work:
                words = ("stop", container_of(self._agent))
                await self._host.call(work, self._places, nothing, words, grace_s)
        finally:
            os.close(nothing)

    async def _ended(self) -> Exit:
        """Until both processes and the unit have ended; the container never outlives its supervisor."""
        async with trio.open_nursery() as either:
            for process in (self._leader, self._supervisor):
                either.start_soon(_then_cancel, process, either.cancel_scope)
        self._leader.send(signal.SIGKILL)
        await self._leader.ended()
        with trio.move_on_after(UNIT_END_S) as patience:
            await self._supervisor.ended()
        if patience.cancelled_caught:
            self._supervisor.send(signal.SIGKILL)
            await self._supervisor.ended()
        ended = await self._told()
        self._places.record.unlink(missing_ok=True)
        self._close()
        return Exit(How.SIGNAL, signal.SIGKILL) if self._forced else ended

    async def _told(self) -> Exit:
        """How systemd says that it ended. A unit that runs again is ended: nobody asked it to."""
        state = await settled(self._host, self._agent)
        if state is None:
            try:
                state = await end_unit(self._host, self._agent)
            except Refused:  # both processes have ended all the same; the next start looks at the unit again
                return Exit(How.UNKNOWN)
        return state.exit

    def _close(self) -> None:
        self._held = False
        self._leader.close()
        self._supervisor.close()


async def _then_cancel(process: Process, scope: trio.CancelScope) -> None:
    await process.ended()
    scope.cancel()


async def settled(host: NixosHost, agent: str) -> UnitState | None:
    """The unit's state once it has ended; None when it has not within UNIT_END_S, or systemd does not say."""
    with trio.move_on_after(UNIT_END_S):
        while True:
            with suppress(Refused):  # systemd starts itself anew now and then
                state = await host.state(agent)
                if not state.runs:
                    return state
            await trio.sleep(LOOK_MS / 1000)
    return None


async def end_unit(host: NixosHost, agent: str) -> UnitState:
    """End whatever of the unit there is, by force; also a start that waits. Refused(failed) when it does not end."""
    unit = unit_of(agent)
    await host.ask("systemctl", "kill", "--kill-whom=all", "--signal=SIGKILL", "--", unit)
    await host.ask("systemctl", "stop", "--", unit)
    state = await settled(host, agent)
    if state is None:
        raise Refused(Problem.FAILED, f"{unit} does not end; see `systemctl status {unit}`")
    return state


def leader_fault(pid: int, spec: CageSpec) -> str | None:
    """Where the container's init is not boxed in as it was told to be, seen in /proc; None when it is."""
    process = Path("/proc") / str(pid)
    try:
        mapped = (process / "uid_map").read_text().split()
        status = (process / "status").read_text()
        network = (process / "ns/net").readlink()
    except OSError as error:
        return f"its init cannot be looked at: {error.strerror}"
    if mapped != ["0", str(spec.uid_base), "65536"]:
        return f"its users are {' '.join(mapped)} of the host, not 0 {spec.uid_base} 65536"
    if "NoNewPrivs:\t1" not in status:
        return "its programs can gain privileges"
    if network == Path("/proc/self/ns/net").readlink():
        return "it is on the host's network"
    return None


def hold(record: Record) -> tuple[Process, Process] | None:
    supervisor, leader = Process.hold(record.supervisor), Process.hold(record.leader)
    if supervisor is not None and leader is not None:
        return supervisor, leader
    for process in (supervisor, leader):
        if process is not None:
            process.close()
    return None


def found(main: str, leader: int) -> tuple[Process, Process] | None:
    """Hold nspawn and the container's init; None when one of them has ended."""
    supervisor = Process.found(int(main)) if main.isdecimal() and main != "0" else None
    init = Process.found(leader)
    if supervisor is not None and init is not None:
        return supervisor, init
    for process in (supervisor, init):
        if process is not None:
            process.close()
    return None
