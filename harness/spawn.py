"""The harness's side of the spawner: how a program is started, signalled and awaited as the agent's user.

The spawner (harness.spawner) sits at the other end of a SOCK_SEQPACKET pair; each packet is one JSON object:

    → {"argv": […], "env": {…}, "cwd": "…"} with stdin, stdout, stderr      ← {"pid": 7} or {"error": "…"}
    → {"size": "/agents/iris/state/notes.md"}                                ← {"size": 512} or {"error": "why"}
    → {"kill": 7, "signal": 2}       to the program's whole group
                                                                            ← {"exit": 7, "code": -2}
"""

import os
import signal
import socket
from array import array
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec
import trio
from msgspec import Meta, Struct

from runtime.log import Log

PACKET_BYTES_MAX: Final = 64 * 1024
ANSWER_S: Final = 10.0
FD_VARIABLE: Final = "HIVE_SPAWNER_FD"


class SpawnerFault(Exception):
    """The spawner is gone or speaks out of turn; without it no turn can run."""


class NotStarted(Exception):
    """The program could not be started; the text says why."""


class NoSize(Exception):
    """There is no regular file there; the text says what there is."""


class Start(Struct, frozen=True):
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str


class Size(Struct, frozen=True):
    size: str


class Kill(Struct, frozen=True):
    kill: int
    signal: int


class Packet(Struct, frozen=True):
    """Anything that the spawner says."""

    pid: int | None = None
    size: int | None = None
    error: str | None = None
    exit: int | None = None
    code: Annotated[int, Meta(ge=-128, le=255)] = 0


class Child:
    """One running program."""

    def __init__(self, spawner: "Spawner", pid: int) -> None:
        self.pid = pid
        self._spawner = spawner
        self._ended = trio.Event()
        self._code = 0

    async def wait(self) -> int:
        """Wait for its end; the exit code, or minus the signal that ended it."""
        await self._ended.wait()
        return self._code

    async def signal(self, number: signal.Signals) -> None:
        """Send a signal to its group; nothing happens when it has ended."""
        if not self._ended.is_set():
            await self._spawner.send(Kill(self.pid, number))

    async def end_group(self) -> None:
        """End whatever is left of its group, also when the program itself has ended."""
        await self._spawner.send(Kill(self.pid, signal.SIGKILL))

    def ended(self, code: int) -> None:
        self._code = code
        self._ended.set()


class Spawner:
    """Starts programs. `serve` must run for as long as it is used."""

    def __init__(self, pair: trio.socket.SocketType, log: Log) -> None:
        self._pair = pair
        self._log = log
        self._one_order = trio.Lock()
        self._replies, self._answers = trio.open_memory_channel[Child | int | str](1)
        self._children: dict[int, Child] = {}

    async def serve(self) -> None:
        """Read what the spawner says until it is gone, which is a SpawnerFault."""
        while True:
            data = await self._pair.recv(PACKET_BYTES_MAX)
            if not data:
                raise SpawnerFault("the spawner is gone")
            try:
                packet = msgspec.json.decode(data, type=Packet)
            except msgspec.DecodeError as error:
                raise SpawnerFault(f"the spawner said something else than agreed: {error}") from None
            self._take(packet)

    async def start(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str, *, stdin: int, stdout: int, stderr: int
    ) -> Child:
        """Start a program in its own process group. The file descriptors stay the caller's to close."""
        request = msgspec.json.encode(Start(tuple(argv), dict(env), cwd))
        if len(request) > PACKET_BYTES_MAX:
            raise NotStarted(
                f"its arguments and environment take {len(request)} bytes, at most {PACKET_BYTES_MAX}"
            )
        answer = await self._order(request, (stdin, stdout, stderr))
        if isinstance(answer, Child):
            return answer
        raise NotStarted(str(answer))

    async def size(self, path: str) -> int:
        """The bytes of a regular file, as the agent's user sees it; NoSize when there is none."""
        answer = await self._order(msgspec.json.encode(Size(path)), ())
        if isinstance(answer, int):
            return answer
        raise NoSize(str(answer))

    async def _order(self, request: bytes, descriptors: tuple[int, ...]) -> Child | int | str:
        """Send one order and wait for its answer; a text says why it was not done."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
        async with self._one_order:
            # From here the answer belongs to this order: giving up in between would leave a program nobody knows.
            with trio.move_on_after(ANSWER_S) as scope:
                scope.shield = True
                await self._pair.sendmsg([request], rights)
                return await self._answers.receive()
            raise SpawnerFault(f"the spawner did not answer within {ANSWER_S:g} s")

    async def send(self, request: Kill) -> None:
        await self._pair.send(msgspec.json.encode(request))

    def _take(self, packet: Packet) -> None:
        if packet.exit is not None:
            child = self._children.pop(packet.exit, None)
            if child is None:
                self._log.warning("the spawner reported the end of an unknown program", pid=packet.exit)
            else:
                child.ended(packet.code)
            return
        answer: Child | int | str = packet.error or "the spawner gave no reason"
        if packet.pid is not None:
            answer = self._children[packet.pid] = Child(self, packet.pid)
        elif packet.size is not None:
            answer = packet.size
        try:
            self._replies.send_nowait(answer)
        except trio.WouldBlock:
            raise SpawnerFault("the spawner answered what nobody asked for") from None


def spawner_from_environment(environment: Mapping[str, str], log: Log) -> Spawner:
    """Take the socket that init left us."""
    text = environment.get(FD_VARIABLE, "")
    if not text.isdecimal():
        raise SpawnerFault(f"{FD_VARIABLE} names no file descriptor: start the harness through harness.init")
    fd = int(text)
    os.set_inheritable(fd, False)
    pair = socket.socket(fileno=fd)
    pair.setblocking(False)
    return Spawner(trio.socket.from_stdlib_socket(pair), log)
