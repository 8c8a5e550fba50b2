"""The process that starts programs as the agent's user, at the harness's word. Standard library only.

It owns no privilege: the user decides what it may do. The harness talks to it over a SOCK_SEQPACKET pair, one JSON
object a packet, at most 64 KiB:

    {"argv": [...], "env": {...}, "cwd": "..."} + descriptors 0, 1, 2     start it in a session of its own
    {"size": "/path"}                                                     how large is that file
    {"kill": pid, "signal": n}                                            to its whole process group; no answer

    {"pid": n} or {"error": "why"}     one answer for each start, in order
    {"size": n} or {"error": "why"}    the same for each file; nothing is opened, and no link is followed
    {"exit": pid, "code": n}           when it has ended; -n after signal n

It ends when the harness closes its side, and takes what it started with it.
"""

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import stat
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from typing import Final, NoReturn

CHANNEL_VARIABLE: Final = "HIVE_SPAWNER_FD"
PACKET_BYTES_MAX: Final = 64 * 1024
PROGRAMS_MAX: Final = 64
DESCRIPTORS: Final = 3
OOM_SCORE: Final = 300
"""Added for all it starts, so that the kernel ends an agent's program before its harness."""
PR_SET_DUMPABLE: Final = 4


class BadOrder(Exception):
    """An order that cannot be done; the harness is told why."""


class Spawner:
    """Serves one harness until it is gone."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._events = selectors.DefaultSelector()
        self._events.register(channel, selectors.EVENT_READ)
        self._programs: dict[int, subprocess.Popen[bytes]] = {}
        self._ended: deque[int] = deque(maxlen=PROGRAMS_MAX)
        """Their groups may still hold what they left behind, which the harness may end too."""

    def serve(self) -> None:
        """Until the harness closes its side."""
        open_ = True
        try:
            while open_:
                for key, _ in self._events.select():
                    if key.fileobj is self._channel:
                        open_ = self._take_order()
                    else:
                        self._report_end(key.fd, key.data)
        except (BrokenPipeError, ConnectionResetError):
            return
        finally:
            for pid in (*self._programs, *self._ended):
                _signal_group(pid, signal.SIGKILL)

    def _take_order(self) -> bool:
        packet, descriptors, flags, _ = socket.recv_fds(
            self._channel, PACKET_BYTES_MAX + 1, DESCRIPTORS + 1, socket.MSG_CMSG_CLOEXEC
        )
        try:
            if not packet and not descriptors:
                return False
            if len(packet) > PACKET_BYTES_MAX or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise BadOrder(f"an order has at most {PACKET_BYTES_MAX} bytes and {DESCRIPTORS} descriptors")
            self._obey(_decoded(packet), descriptors)
        except BadOrder as fault:
            self._answer({"error": str(fault)})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _obey(self, order: dict[str, object], descriptors: list[int]) -> None:
        match order:
            case {"kill": int(pid), "signal": int(number), **rest} if not rest:
                if (pid in self._programs or pid in self._ended) and number in signal.valid_signals():
                    _signal_group(pid, signal.Signals(number))
            case {"argv": [str(), *_] as argv, "env": dict(env), "cwd": str(cwd), **rest} if not rest:
                self._answer({"pid": self._start(_texts(argv), _variables(env), cwd, descriptors)})
            case {"size": str(path), **rest} if not rest:
                self._answer({"size": _size(path)})
            case _:
                raise BadOrder(
                    "an order is {argv, env, cwd} with three descriptors, {size}, or {kill, signal}"
                )

    def _start(self, argv: list[str], env: dict[str, str], cwd: str, descriptors: list[int]) -> int:
        if len(descriptors) != DESCRIPTORS:
            raise BadOrder(f"a start needs {DESCRIPTORS} descriptors, {len(descriptors)} came")
        if len(self._programs) >= PROGRAMS_MAX:
            raise BadOrder(f"{PROGRAMS_MAX} programs run already; end one first")
        stdin, stdout, stderr = descriptors
        try:
            program = subprocess.Popen(
                argv, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
            )
        except (OSError, ValueError) as fault:
            raise BadOrder(f"cannot start {argv[0]!r}: {fault}") from fault
        self._programs[program.pid] = program
        self._events.register(os.pidfd_open(program.pid), selectors.EVENT_READ, program)
        return program.pid

    def _report_end(self, pidfd: int, program: subprocess.Popen[bytes]) -> None:
        self._events.unregister(pidfd)
        os.close(pidfd)
        code = program.wait()
        del self._programs[program.pid]
        self._ended.append(program.pid)
        self._answer({"exit": program.pid, "code": code})

    def _answer(self, value: dict[str, object]) -> None:
        self._channel.send(json.dumps(value).encode())


def _size(path: str) -> int:
    """The bytes of a regular file. Only its entry is looked at, so neither a fifo nor a link leads anywhere."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError) as fault:
        raise BadOrder(f"cannot look at {path!r}: {fault}") from fault
    if not stat.S_ISREG(found.st_mode):
        raise BadOrder(f"{path!r} is no regular file")
    return found.st_size


def _decoded(packet: bytes) -> dict[str, object]:
    try:
        order = json.loads(packet)
    except (ValueError, RecursionError) as fault:
        raise BadOrder(f"not JSON: {fault}") from fault
    if not isinstance(order, dict):
        raise BadOrder("an order is a JSON object")
    return order


def _texts(words: Sequence[object]) -> list[str]:
    if not all(isinstance(word, str) for word in words):
        raise BadOrder("argv holds text only")
    return [str(word) for word in words]


def _variables(env: dict[object, object]) -> dict[str, str]:
    _texts([*env.keys(), *env.values()])
    return {str(name): str(value) for name, value in env.items()}


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _keep_to_ourselves() -> None:
    """What we start may not look into us: it shares our user. And it is the first to go when memory runs out."""
    with open("/proc/self/oom_score_adj", "r+") as file:  # noqa: PTH123 - pathlib costs start-up time
        score = min(1000, int(file.read()) + OOM_SCORE)
        file.seek(0)
        file.write(str(score))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _heed_every_signal() -> None:
    """What whoever started the hive ignores (nohup: SIGHUP) is not to be ignored by what we start."""
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)


def main() -> NoReturn:
    """Serve the harness on the descriptor that the environment names."""
    _keep_to_ourselves()
    _heed_every_signal()
    with socket.socket(fileno=int(os.environ[CHANNEL_VARIABLE])) as channel:
        Spawner(channel).serve()
    sys.exit(0)


if __name__ == "__main__":
    main()
