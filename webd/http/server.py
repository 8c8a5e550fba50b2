"""The port as a whole: accepts connections, at most so many, and lets each end in its own time at the stop."""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from runtime.backoff import delays
from runtime.log import Log
from runtime.stopping import Stopping

CONNECTIONS_MAX: Final = 512
SEND_BUFFER_BYTES: Final = 128 * 1024
"""Of the kernel, for each connection: a slow reader is sent newer state instead of a long past."""
ACCEPT_PAUSE_FIRST_S: Final = 0.05
ACCEPT_PAUSE_MAX_S: Final = 1.0
GRACE_S: Final = 5.0
"""For answers in hand at the stop; whoever does not read them keeps nobody longer."""
FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"

ServeStream = Callable[[trio.SocketStream], Awaitable[None]]


async def serve_port(
    listener: trio.SocketListener, serve: ServeStream, *, stopping: Stopping, log: Log
) -> None:
    """Serve a listening TCP socket until the stop; returns when the last connection has ended."""
    async with trio.open_nursery() as connections:
        with stopping.ends():
            async with listener:
                while True:
                    stream = await _next_stream(listener, log)
                    if len(connections.child_tasks) >= CONNECTIONS_MAX:
                        connections.start_soon(_turn_away, stream, log)
                    else:
                        connections.start_soon(_serve_one, stream, serve, log)
        connections.cancel_scope.deadline = trio.current_time() + GRACE_S


async def _next_stream(listener: trio.SocketListener, log: Log) -> trio.SocketStream:
    for pause_s in delays(ACCEPT_PAUSE_FIRST_S, ACCEPT_PAUSE_MAX_S):
        try:
            return await listener.accept()
        except OSError as error:
            log.warning("cannot accept a connection", error=str(error), pause_s=round(pause_s, 2))
        await trio.sleep(pause_s)
    raise AssertionError("delays never end")


async def _serve_one(stream: trio.SocketStream, serve: ServeStream, log: Log) -> None:
    """One connection. What goes wrong here stays here."""
    async with stream:
        try:
            _tune(stream)
            await serve(stream)
        except Exception as defect:
            log.error("a connection met a defect", exc_info=defect)  # noqa: TRY400


def _tune(stream: trio.SocketStream) -> None:
    if stream.socket.family != trio.socket.AF_UNIX:
        stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, SEND_BUFFER_BYTES)


async def _turn_away(stream: trio.SocketStream, log: Log) -> None:
    async with stream:
        log.warning("too many connections", connections_max=CONNECTIONS_MAX)
        with trio.move_on_after(1):
            try:
                await stream.send_all(FULL)
            except trio.BrokenResourceError:
                return
