"""A wire between one harness and its broker that a test can hold at a chosen line, and cut.

It carries whole lines both ways and looks at nothing but a request's operation.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path

import msgspec
import trio
from msgspec import Struct

from runtime.sockets import bind_unix

READ_BYTES = 64 * 1024


class Side(StrEnum):
    """Which line is held: on its way to the broker, or back."""

    REQUEST = "request"
    REPLY = "reply"


class Operation(Struct, frozen=True):
    op: str = ""


class Relay:
    """Listens where a harness looks for its broker."""

    def __init__(self, listen: Path, broker: Path) -> None:
        self._listen = listen
        self._broker = broker
        self._held_at: tuple[str, Side] | None = None
        self._cut = trio.Event()
        self._go_on = trio.Event()
        self.held = trio.Event()

    def hold(self, operation: str, side: Side) -> None:
        """Let no line of this kind pass from now on; `held` says that one came."""
        self._held_at, self.held = (operation, side), trio.Event()

    def let_go(self) -> None:
        """Hold nothing any more, and let pass what is held."""
        self._held_at = None
        self._go_on.set()
        self._go_on = trio.Event()

    def cut(self) -> None:
        """End every connection, and hold nothing any more: the harness is gone."""
        self._held_at = None
        self._cut.set()
        self._cut = trio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        self._listen.parent.mkdir(parents=True, exist_ok=True)
        listener = bind_unix(self._listen)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, listener)
            yield
            nursery.cancel_scope.cancel()
        self._listen.unlink()

    async def _serve(self, listener: trio.SocketListener) -> None:
        async with listener, trio.open_nursery() as nursery:
            while True:
                stream = await listener.accept()
                nursery.start_soon(self._carry, stream)

    async def _carry(self, harness: trio.SocketStream) -> None:
        cut = self._cut
        try:
            broker = await trio.open_unix_socket(self._broker)
        except OSError:
            await harness.aclose()
            return
        async with harness, broker, trio.open_nursery() as nursery:
            nursery.start_soon(_end_with, cut, nursery)
            asked = Asked()
            nursery.start_soon(self._copy, harness, broker, asked, Side.REQUEST, nursery)
            await self._copy(broker, harness, asked, Side.REPLY, nursery)

    async def _copy(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        asked: "Asked",
        side: Side,
        nursery: trio.Nursery,
    ) -> None:
        buffer = b""
        try:
            while data := await source.receive_some(READ_BYTES):
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    if side is Side.REQUEST:
                        asked.operation = msgspec.json.decode(line, type=Operation).op
                    if self._held_at == (asked.operation, side):
                        self.held.set()
                        await self._go_on.wait()
                    await sink.send_all(line + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # one side is gone: so is the other, below
        nursery.cancel_scope.cancel()


class Asked:
    """What a connection asked last."""

    operation = ""


async def _end_with(cut: trio.Event, nursery: trio.Nursery) -> None:
    await cut.wait()
    nursery.cancel_scope.cancel()
