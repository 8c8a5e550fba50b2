"""One run of an agent CLI: prompt in, lines out, and a firm way to end it. Knows nothing of what the lines say."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import trio
from msgspec import Struct

from harness.claude.lines import LINE_BYTES_MAX
from harness.policy.outcomes import Stop
from harness.spawn import Child, NotStarted, Spawner
from harness.stop import TurnStop

READ_BYTES: Final = 64 * 1024
STDERR_BYTES_MAX: Final = 8 * 1024
"""The end of what the CLI wrote to standard error, kept to explain a crash."""
DRAIN_S: Final = 2.0
"""How long output may still come after the CLI has ended: a program that it left behind may hold the pipe."""
ESCALATION: Final = ((signal.SIGINT, 5.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0))
"""How a run is ended, each signal with the time it gets. SIGINT lets the CLI write its result."""
TURN_S_MAX: Final = 2 * 60 * 60.0
"""Wall time of one run."""


class Command(Struct, frozen=True):
    """What to start."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str


class Ended(Struct, frozen=True):
    """How it ended; `exit_code` is None when it never started, and minus a signal's number when that ended it."""

    exit_code: int | None
    stderr_tail: str


class Lines(Protocol):
    """Who takes the output, line by line."""

    def line(self, untrusted_line: bytes) -> None: ...

    def too_long(self) -> None: ...


async def run_cli(spawner: Spawner, command: Command, prompt: str, lines: Lines, stop: TurnStop) -> Ended:
    """Run the CLI once with *prompt* on its standard input. Ends it when *stop* asks or after TURN_S_MAX."""
    async with pipes(prompt) as streams:
        try:
            child = await spawner.start(
                command.argv,
                command.env,
                command.cwd,
                stdin=streams.stdin,
                stdout=streams.out_in,
                stderr=streams.err_in,
            )
        except NotStarted as fault:
            return Ended(None, str(fault))
        finally:
            streams.close_far_ends()
        tail = Tail()
        try:
            return await _follow(child, streams, lines, stop, tail)
        finally:
            with trio.move_on_after(ESCALATION[-1][1]) as scope:
                scope.shield = True
                await child.signal(signal.SIGKILL)


class Pipes:
    """The near and the far ends of a run's standard streams."""

    def __init__(self, prompt: str) -> None:
        # A file in memory, not a pipe: no prompt is too large for it, and nobody has to feed it.
        self.stdin = os.memfd_create("prompt")
        with os.fdopen(self.stdin, "wb", closefd=False) as file:
            file.write(prompt.encode())
        os.lseek(self.stdin, 0, os.SEEK_SET)
        out, self.out_in = os.pipe()
        err, self.err_in = os.pipe()
        self.out = trio.lowlevel.FdStream(out)
        self.err = trio.lowlevel.FdStream(err)
        self._far_ends = [self.stdin, self.out_in, self.err_in]

    def close_far_ends(self) -> None:
        while self._far_ends:
            os.close(self._far_ends.pop())


@asynccontextmanager
async def pipes(prompt: str) -> AsyncIterator[Pipes]:
    """Streams for one run, with *prompt* to be read from its standard input."""
    streams = Pipes(prompt)
    try:
        async with streams.out, streams.err:
            yield streams
    finally:
        streams.close_far_ends()


async def _follow(child: Child, pipes: Pipes, lines: Lines, stop: TurnStop, tail: "Tail") -> Ended:
    """Read until the CLI has ended and its pipes are empty."""
    async with trio.open_nursery() as watching:
        watching.start_soon(_end_when_asked, child, stop)
        async with trio.open_nursery() as reading:
            reading.start_soon(_read_lines, pipes.out, lines)
            reading.start_soon(tail.read, pipes.err)
            code = await child.wait()
            reading.cancel_scope.deadline = trio.current_time() + DRAIN_S
        watching.cancel_scope.cancel()
    return Ended(code, tail.text())


async def _end_when_asked(child: Child, stop: TurnStop) -> None:
    with trio.move_on_after(TURN_S_MAX) as within:
        await stop.wait()
    if within.cancelled_caught:
        stop.ask(Stop.DEADLINE)
    for number, patience_s in ESCALATION:
        await child.signal(number)
        await trio.sleep(patience_s)


async def _read_lines(stream: trio.lowlevel.FdStream, lines: Lines) -> None:
    """Cut the output into lines; one that is too long is passed over to its end."""
    buffer = bytearray()
    passing_over = False
    while data := await stream.receive_some(READ_BYTES):
        buffer += data
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            if not passing_over:
                lines.line(line)
            passing_over = False
        if len(buffer) > LINE_BYTES_MAX:
            if not passing_over:
                lines.too_long()
            passing_over = True
            buffer.clear()
    if buffer and not passing_over:
        lines.line(bytes(buffer))


class Tail:
    """The last bytes of a stream."""

    def __init__(self) -> None:
        self._kept = b""

    async def read(self, stream: trio.lowlevel.FdStream) -> None:
        while data := await stream.receive_some(READ_BYTES):
            self._kept = (self._kept + data)[-STDERR_BYTES_MAX:]

    def text(self) -> str:
        return self._kept.decode(errors="replace")
