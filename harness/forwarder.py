"""The way out as programs know it: a proxy at 127.0.0.1:3128 inside the cage, joined to egressd's unix socket outside.

Bytes only; egressd reads the CONNECT, decides, and resolves names. Without egressd a program is told so at once.
"""

from pathlib import Path
from typing import Final

import trio

from protocol.limits import EGRESS_CONNECTIONS_MAX
from runtime.log import Log

HOST: Final = "127.0.0.1"
PORT: Final = 3128
COPY_BYTES_MAX: Final = 64 * 1024
AWAY: Final = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def forward(
    egress: Path, log: Log, *, port: int = PORT, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Carry connections to *egress* for as long as the harness lives."""
    places = trio.CapacityLimiter(EGRESS_CONNECTIONS_MAX)

    async def carry(near: trio.SocketStream) -> None:
        async with near:
            if places.available_tokens < 1:
                log.warning("too many connections on the way out", held=places.borrowed_tokens)
                await _refuse(near, BUSY)
                return
            async with places:
                try:
                    far = await trio.open_unix_socket(egress)
                except OSError as error:
                    log.warning("egressd does not answer", path=str(egress), error=str(error))
                    await _refuse(near, AWAY)
                    return
                async with far:
                    await _join(near, far)

    listeners = await trio.open_tcp_listeners(port, host=HOST)
    bound: int = listeners[0].socket.getsockname()[1]
    task_status.started(bound)
    await trio.serve_listeners(carry, listeners)


async def _join(near: trio.SocketStream, far: trio.SocketStream) -> None:
    """Copy both ways; each side's end of sending is passed on, and a broken side ends both."""
    async with trio.open_nursery() as nursery:

        async def copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
            try:
                while data := await source.receive_some(COPY_BYTES_MAX):
                    await sink.send_all(data)
                await sink.send_eof()
            except trio.BrokenResourceError:
                nursery.cancel_scope.cancel()

        nursery.start_soon(copy, near, far)
        nursery.start_soon(copy, far, near)


async def _refuse(near: trio.SocketStream, answer: bytes) -> None:
    try:
        await near.send_all(answer)
    except trio.BrokenResourceError:
        return  # it is gone, which is what the refusal asks of it
