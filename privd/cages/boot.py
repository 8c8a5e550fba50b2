"""Booting a cage: take its lock, start the program that makes it, wait until its init says that it is up.

The lock is the cage's standard input. privd locks `<state>/cages/<name>/lock`, hands that open file to the new
process as descriptor 0 and closes its own: nspawn or bwrap and the cage's init hold it, and nobody else inside
gets it. So the lock is held as long as any part of the cage lives, whoever dies first, and a second cage for the
same agent cannot be. Who holds a lock that no record explains is found by looking (`processes.holders`).

Init says that it is up on a socket of its own (descriptor 3), where the kernel adds its real pid. NOTIFY_SOCKET is
not used: nspawn blocks as soon as nobody reads it, which would tie the cage's life to privd's.
"""

import fcntl
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import trio
from msgspec import Struct

from privd.cages.journal import Journal
from privd.cages.processes import Process, holders, with_descendants
from privd.cages.spec import Places
from protocol.problem import Problem, Refused

LAUNCHER: Final = Path(__file__).with_name("launch.py")
READY_FD: Final = 3
READY_BYTES_MAX: Final = 64
READY_DEADLINE_S: Final = 30.0
ENDING_DEADLINE_S: Final = 10.0
ENDING_PAUSE_MS: Final = 20
OOM_SCORE: Final = 300
"""Of every cage, so that the kernel ends a cage before a daemon."""
FAILURE_LINES_MAX: Final = 5
CREDENTIALS: Final = struct.Struct("=iii")
UNHANDLED: Final = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


class Order(Struct, frozen=True):
    """What `launch.py` is told to do, in this order."""

    argv: tuple[str, ...]
    join: tuple[str, ...] = ()
    """Files into which it writes its pid: control groups."""
    stage: tuple[tuple[str, str], ...] = ()
    """(source, name): put under the stage in a private mount namespace."""
    cover: tuple[str, ...] = ()
    """Folders that get a private tmpfs there; made where they are missing."""
    become: tuple[int, int] | None = None
    """(uid, gid) of the program."""
    oom_score_adj: int = OOM_SCORE


class Booted(Struct, frozen=True):
    """The two processes of a cage that is up: what made it, and its init."""

    supervisor: Process
    leader: Process


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


async def boot(order: Order, places: Places, lock: int) -> Booted:
    """Start the program and wait for init; the lock passes to them. After a failure nothing of a cage is left."""
    journal = Journal(places.journal)
    begun = journal.end()
    ours, supervisor = _spawn(order, journal, lock)
    leader = None
    try:
        with ours:
            leader = await _leader(supervisor, ours)
    finally:
        if leader is None:
            with trio.CancelScope(shield=True):
                await _clear_away(supervisor, places)
    if leader is None:
        lines = [line.text for line in journal.since(begun)[0][-FAILURE_LINES_MAX:]]
        raise Refused(
            Problem.FAILED,
            f"the cage of {places.folder.name} did not come up: {' / '.join(lines) or 'no output'}",
        )
    return Booted(supervisor, leader)


def _spawn(order: Order, journal: Journal, lock: int) -> tuple[socket.socket, Process]:
    """Start the launcher in a session of its own; our copy of the lock is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        ours.setblocking(False)
        output = journal.open_for_cage()
        handed = {0: lock, 1: output, 2: output, READY_FD: theirs.fileno()}
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", str(LAUNCHER), msgspec.json.encode(order).decode()],
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for target, source in handed.items()],
                setsid=True,
                setsigmask=[],
                setsigdef=UNHANDLED,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(output)
            os.close(lock)
    return ours, Process.child(pid)


async def _leader(supervisor: Process, ours: socket.socket) -> Process | None:
    """The init that reports on our socket; None when the program ends first or the deadline passes."""
    pid = 0

    async def report() -> None:
        nonlocal pid
        _, extra, _, _ = await trio.socket.from_stdlib_socket(ours).recvmsg(
            READY_BYTES_MAX, socket.CMSG_SPACE(CREDENTIALS.size)
        )
        pid = next(
            (CREDENTIALS.unpack(value)[0] for _, kind, value in extra if kind == socket.SCM_CREDENTIALS), 0
        )
        either.cancel_scope.cancel()

    async def end() -> None:
        await supervisor.ended()
        either.cancel_scope.cancel()

    with trio.move_on_after(READY_DEADLINE_S):
        async with trio.open_nursery() as either:
            either.start_soon(report)
            either.start_soon(end)
    return Process.found(pid) if pid > 0 else None


async def _clear_away(supervisor: Process, places: Places) -> None:
    """End what was started, children first: one whose parent has gone waits for it for ever, and may be hidden from us."""
    supervisor.send(signal.SIGSTOP)
    await _end_all(with_descendants([supervisor.pid]) - {supervisor.pid})
    supervisor.send(signal.SIGKILL)
    await supervisor.ended()
    supervisor.exit()
    supervisor.close()
    await end_holders(places)


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
