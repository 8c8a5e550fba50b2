"""Booting a cage: take its lock, have the program started that makes it, wait until its init says that it is up.

The lock is the cage's standard input. privd locks `<state>/cages/<name>/lock`, hands that open file to the new
process as descriptor 0 and closes its own: nspawn or bwrap and the cage's init hold it, and nobody else inside
gets it. So the lock is held as long as any part of the cage lives, whoever dies first, and a second cage for the
same agent cannot be. Who holds a lock that no record explains is found by looking (`processes.holders`).

Init says that it is up on a socket of its own (descriptor 3), where the kernel adds its real pid. NOTIFY_SOCKET is
not used: nspawn blocks as soon as nobody reads it, which would tie the cage's life to privd's.

Who starts the program is a launcher's business: `children` for a privd that does it itself, `units` under systemd.
"""

import fcntl
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import trio
from msgspec import Struct

from privd.cages.control_groups import Groups
from privd.cages.identity import Identity
from privd.cages.journal import Journal
from privd.cages.processes import Process, holders, with_descendants
from privd.cages.spec import CageSpec, Exit, Places
from protocol.problem import Problem, Refused

READY_FD: Final = 3
READY_BYTES_MAX: Final = 1024
READY_DEADLINE_S: Final = 30.0
ENDING_DEADLINE_S: Final = 10.0
ENDING_PAUSE_MS: Final = 20
OOM_SCORE: Final = 300
"""Of every cage, so that the kernel ends a cage before a daemon."""
GIVING_WAY: Final = 10
"""How nice a cage is to others where nothing limits its processor time."""
FAILURE_LINES_MAX: Final = 5
CREDENTIALS: Final = struct.Struct("=iii")
NO_USERS: Final = "only root may, for users that no other cage has"
"""Why a cage whose launcher was told of no quotas has none."""
UNHANDLED: Final = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
"""What a new process of ours handles as if nobody had ever handled it."""


class Disk(Struct, frozen=True):
    """Whose quotas the launcher sets, and on the file system of which folder."""

    folder: str
    uids: tuple[int, ...]
    mib_max: int


class Order(Struct, frozen=True):
    """What `launch.py` is told to do, in this order."""

    argv: tuple[str, ...]
    join: tuple[str, ...] = ()
    """Files into which it writes its pid: control groups."""
    oom_score_adj: int = OOM_SCORE
    nice: int = 0
    disk: Disk | None = None
    stage: tuple[tuple[str, str], ...] = ()
    """(source, name): put under the stage in a private mount namespace."""
    cover: tuple[str, ...] = ()
    """Folders that get a private tmpfs there; made where they are missing."""
    become: tuple[int, int] | None = None
    """(uid, gid) of the program."""


Ordering = Callable[[Groups], Order]
"""The order for a cage in these groups."""
Handed = tuple[int, int, int, int]
"""What becomes descriptors 0 to 3 of the new process: the lock, the journal twice, the socket to say it is up on."""


class Launched(Struct, frozen=True):
    """The program that makes a cage, running with its limits."""

    supervisor: Process
    groups: Groups


class Launcher(Protocol):
    """Starts the programs that make cages, and limits them."""

    async def launch(self, spec: CageSpec, places: Places, order: Ordering, handed: Handed) -> Launched:
        """Start one. When this fails nothing is left of it; Refused(failed) says why."""
        ...

    async def settle(self, agent: str, groups: tuple[str, ...]) -> Exit | None:
        """Once a cage has ended: take away what limited it, and say how it ended if this launcher knows."""
        ...

    async def end(self, places: Places) -> None:
        """End by force whatever is left of a cage, and return when nothing is. `failed` when it will not end."""
        ...


class Booted(Struct, frozen=True):
    """A cage that is up: what made it, its init, its groups.

    `disk` is why nothing limits it: empty when something does, None when nothing shall.
    """

    supervisor: Process
    leader: Process
    groups: Groups
    disk: str | None


def disk_of(spec: CageSpec, identity: Identity) -> Disk | None:
    """The quotas of a cage whose users are nobody else's; None when its settings name no bound."""
    folder = next((bind.source for bind in spec.binds if bind.writable), None)
    if spec.limits.disk_mib_max is None or folder is None:
        return None
    uids = tuple(sorted({identity.init_uid, identity.agent_uid, identity.harness_uid}))
    return Disk(folder, uids, spec.limits.disk_mib_max)


def take_lock(places: Places) -> int:
    """The cage's lock as an open file. `conflict` while any process of a cage holds it."""
    places.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(places.lock, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise Refused(Problem.CONFLICT, f"the cage of {places.folder.name} runs already") from error
    return lock


def is_locked(places: Places) -> bool:
    """Whether any process of a cage is left."""
    try:
        os.close(take_lock(places))
    except Refused:
        return True
    return False


async def boot(launcher: Launcher, spec: CageSpec, places: Places, order: Ordering, lock: int) -> Booted:
    """Have the program started and wait for init; the lock passes to them. A failure leaves nothing of a cage."""
    journal = Journal(places.journal)
    begun = journal.end()
    ours, launched = await _launch(launcher, spec, places, order, lock)
    booted = None
    try:
        with ours:
            booted = await _up(launched, ours, disk_wanted=spec.limits.disk_mib_max is not None)
    finally:
        if booted is None:
            with trio.CancelScope(shield=True):
                await _clear_away(launched.supervisor)
                await launcher.end(places)
                await launcher.settle(spec.agent, launched.groups.folders)
    if booted is None:
        lines = [line.text for line in journal.since(begun)[0][-FAILURE_LINES_MAX:]]
        raise Refused(
            Problem.FAILED, f"the cage of {spec.agent} did not come up: {' / '.join(lines) or 'no output'}"
        )
    return booted


async def _launch(
    launcher: Launcher, spec: CageSpec, places: Places, order: Ordering, lock: int
) -> tuple[socket.socket, Launched]:
    """Our end of the socket on which it reports; our copies of everything else are closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    output = -1
    try:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        ours.setblocking(False)
        output = Journal(places.journal).open_for_cage()
        launched = await launcher.launch(spec, places, order, (lock, output, output, theirs.fileno()))
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(lock)
        if output >= 0:
            os.close(output)
    return ours, launched


async def _up(launched: Launched, ours: socket.socket, *, disk_wanted: bool) -> Booted | None:
    """The cage once its init has reported; None when the program ends first or the deadline passes.

    Both speak here, and the kernel says who: the launcher, of the disk, and then init.
    """
    supervisor, init = launched.supervisor, 0
    disk = NO_USERS if disk_wanted else None

    async def report() -> None:
        nonlocal disk, init
        reports = trio.socket.from_stdlib_socket(ours)
        while not init:
            text, extra, _, _ = await reports.recvmsg(READY_BYTES_MAX, socket.CMSG_SPACE(CREDENTIALS.size))
            pid = next(
                (CREDENTIALS.unpack(value)[0] for _, kind, value in extra if kind == socket.SCM_CREDENTIALS),
                0,
            )
            if not pid:  # nobody is left at the other end
                break
            if pid == supervisor.pid:
                disk = text.decode("utf-8", "replace")
            else:
                init = pid
        either.cancel_scope.cancel()

    async def end() -> None:
        await supervisor.ended()
        either.cancel_scope.cancel()

    with trio.move_on_after(READY_DEADLINE_S):
        async with trio.open_nursery() as either:
            either.start_soon(report)
            either.start_soon(end)
    leader = Process.found(init) if init > 0 else None
    return None if leader is None else Booted(supervisor, leader, launched.groups, disk)


async def _clear_away(supervisor: Process) -> None:
    """End what was started, children first: one whose parent has gone waits for it for ever, and may be hidden."""
    supervisor.send(signal.SIGSTOP)
    await _end_all(with_descendants([supervisor.pid]) - {supervisor.pid})
    supervisor.send(signal.SIGKILL)
    await supervisor.ended()
    supervisor.exit()
    supervisor.close()


async def _end_all(pids: Iterable[int]) -> None:
    """End these processes by force, and return when they have ended."""
    held = [process for pid in pids if (process := Process.found(pid))]
    for process in held:
        process.send(signal.SIGKILL)
    for process in held:
        await process.ended()
        process.close()


async def end_holders(places: Places) -> None:
    """End whatever holds the cage's lock, by force, and return when nothing does. `failed` when it will not end.

    Descendants go with them: an ordinary user may not see what its own cage's init has open.
    """
    with trio.move_on_after(ENDING_DEADLINE_S):
        while is_locked(places):
            await _end_all(with_descendants(holders(places.lock)))
            await trio.sleep(ENDING_PAUSE_MS / 1000)
        return
    raise Refused(
        Problem.FAILED, f"what is left of the cage of {places.folder.name} does not end; see {places.lock}"
    )
