"""The port as a whole: accepts connections, at most so many, and lets each end in its own time at the stop.

Nobody can keep the others out by holding connections: when every place is taken, whoever has waited longest without
asking for anything gives up theirs.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import trio

from runtime.backoff import delays
from runtime.log import Log
from runtime.stopping import Stopping

CONNECTIONS_MAX: Final = 512
CONNECTIONS_PER_ADDRESS_MAX: Final = 384
"""Of one address; more than all live streams together, because behind a proxy everybody has the same one."""
SEND_BUFFER_BYTES: Final = 128 * 1024
"""Of the kernel, for each connection: a slow reader is sent newer state instead of a long past."""
ACCEPT_PAUSE_FIRST_S: Final = 0.05
ACCEPT_PAUSE_MAX_S: Final = 1.0
GRACE_S: Final = 5.0
"""For answers in hand at the stop; whoever does not read them keeps nobody longer."""
FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@dataclass(eq=False)
class Place:
    """One connection's place at the port."""

    address: str
    """Of the peer; `unix` for a socket without one."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    waits_since_s: float | None = None
    """Since when nothing but the browser has been waited for; None while it is being answered."""

    def waits(self) -> None:
        if self.waits_since_s is None:
            self.waits_since_s = trio.current_time()

    def is_answered(self) -> None:
        self.waits_since_s = None


ServeStream = Callable[[trio.SocketStream, Place], Awaitable[None]]


class Places:
    """The places that are taken."""

    def __init__(self) -> None:
        self._taken: set[Place] = set()

    def take(self, address: str) -> Place | None:
        """A place for a newcomer, if need be that of the connection that has waited longest; None when all are busy."""
        own = [place for place in self._taken if place.address == address]
        crowded = own if len(own) >= CONNECTIONS_PER_ADDRESS_MAX else self._taken
        full = crowded is own or len(self._taken) >= CONNECTIONS_MAX
        if full and not self._reclaim(crowded):
            return None
        place = Place(address)
        place.waits()
        self._taken.add(place)
        return place

    def _reclaim(self, places: Iterable[Place]) -> bool:
        waiting = [place for place in places if place.waits_since_s is not None]
        if not waiting:
            return False
        longest = min(waiting, key=lambda place: place.waits_since_s or 0.0)
        longest.scope.cancel()
        self.free(longest)
        return True

    def free(self, place: Place) -> None:
        self._taken.discard(place)


async def serve_port(
    listener: trio.SocketListener, serve: ServeStream, *, stopping: Stopping, log: Log
) -> None:
    """Serve a listening TCP socket until the stop; returns when the last connection has ended."""
    places = Places()
    async with trio.open_nursery() as connections:
        with stopping.ends():
            async with listener:
                while True:
                    stream = await _next_stream(listener, log)
                    place = places.take(_peer_address(stream))
                    if place is None:
                        connections.start_soon(_turn_away, stream, log)
                    else:
                        connections.start_soon(_serve_one, stream, place, places, serve, log)
        connections.cancel_scope.deadline = trio.current_time() + GRACE_S


async def _next_stream(listener: trio.SocketListener, log: Log) -> trio.SocketStream:
    for pause_s in delays(ACCEPT_PAUSE_FIRST_S, ACCEPT_PAUSE_MAX_S):
        try:
            return await listener.accept()
        except OSError as error:
            log.warning("cannot accept a connection", error=str(error), pause_s=round(pause_s, 2))
        await trio.sleep(pause_s)
    raise AssertionError("delays never end")


async def _serve_one(
    stream: trio.SocketStream, place: Place, places: Places, serve: ServeStream, log: Log
) -> None:
    """One connection. What goes wrong here stays here."""
    with place.scope:
        async with stream:
            try:
                _tune(stream)
                await serve(stream, place)
            except Exception as defect:
                log.error("a connection met a defect", exc_info=defect)  # noqa: TRY400 - exc_info is given
            finally:
                places.free(place)


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


def _peer_address(stream: trio.SocketStream) -> str:
    try:
        peer = stream.socket.getpeername()
    except OSError:
        return ""
    return str(peer[0]) if isinstance(peer, tuple) else "unix"
