"""A listening socket: who is let in, how many at a time, and what is done with them.

No task waits for who comes: one reactor watches all listening sockets (runtime.reactor). A connection is a task only
while it is served, and none while it is parked (runtime.parked).
"""

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import trio

from protocol.problem import Problem, Refused
from protocol.rpc import Caller
from runtime.backoff import delays
from runtime.folding import Folding
from runtime.later import Later
from runtime.log import Log
from runtime.parked import Parked
from runtime.reactor import Timer, this_reactor
from runtime.session import Session
from runtime.sockets import peer_uid
from runtime.stopping import Stopping

REFUSAL_TAKEN_S: Final = 1.0
ACCEPT_PAUSE_FIRST_S: Final = 0.05
ACCEPT_PAUSE_MAX_S: Final = 2.0
ACCEPTED_AT_ONCE_MAX: Final = 64
"""Connections of one socket that are accepted before others have their turn."""
TURNED_AWAY_PAUSE_S: Final = 0.25
"""For so long nobody is let in at an agent's own socket after somebody was turned away there: who knocks on and on
makes those wait who share that socket, and not all others."""

Admit = Callable[[int], Caller | None]
"""Who a peer's uid is at one socket; None turns it away."""

Serve = Callable[[trio.SocketStream, Caller], Awaitable[Session[Any] | None]]
"""What is done with one admitted connection; it is closed afterwards, unless this returns a session to park."""

TurnAway = Callable[[Refused], bytes]
"""How a refusal is written at one socket."""


class Listening:
    """One socket being served; `close` stops it and ends its connections.

    There is one for each agent, so it holds lists and not sets: most have one connection.
    """

    __slots__ = (
        "_admit",
        "_connections_max",
        "_connections_per_uid_max",
        "_folding",
        "_gate",
        "_is_closed",
        "_log",
        "_none_parked",
        "_nursery",
        "_over",
        "_places",
        "_serve",
        "_served",
        "_turn_away",
        "_turned_away_pause_s",
    )

    _nursery: trio.Nursery
    _log: Log

    def __init__(
        self,
        serve: Serve,
        admit: Admit,
        turn_away: TurnAway,
        *,
        connections_max: int,
        connections_per_uid_max: int,
        turned_away_pause_s: float = 0.0,
    ) -> None:
        self._serve = serve
        self._admit = admit
        self._turn_away = turn_away
        self._connections_max = connections_max
        self._connections_per_uid_max = connections_per_uid_max
        self._turned_away_pause_s = turned_away_pause_s
        self._folding: Folding | None = None
        """Of the lines about those who are turned away; made for the first."""
        self._places: list[Place] = []
        self._is_closed = False
        self._served: list[trio.CancelScope] = []
        """Connections that have a task."""
        self._none_parked: Later[None] | None = None
        self._gate: _Gate | None = None
        self._over: Over | None = None

    def open(
        self,
        listener: trio.SocketListener,
        nursery: trio.Nursery,
        stopping: Stopping,
        log: Log,
        over: "Over",
    ) -> None:
        """Let peers in, each into a task of the nursery, until `stop` or `close`. `over` is called at the close."""
        self._nursery, self._log, self._over = nursery, log, over
        if self._is_closed or stopping:
            listener.socket.close()
            over(self)
            return
        self._gate = _Gate(listener, self, log)

    @property
    def connections(self) -> int:
        return len(self._places)

    @property
    def parked(self) -> tuple[Parked[Any], ...]:
        """Those of its connections that need no task just now."""
        return tuple(place.parked for place in self._places if place.parked is not None)

    def stop(self) -> None:
        """The daemon goes down: nobody new is let in, and what only waits is told so."""
        self._shut()
        for parked in self.parked:
            parked.stop()

    def close(self) -> None:
        """End it, with all its connections."""
        self._is_closed = True
        for scope in tuple(self._served):
            scope.cancel()
        self.end()
        if self._over is not None:
            self._over(self)

    def end(self) -> None:
        """There is no nursery any more: let nobody in, and close those that are parked, whatever they are doing."""
        self._shut()
        for parked in self.parked:
            parked.end()

    def _shut(self) -> None:
        if self._gate is not None:
            self._gate.close()
            self._gate = None

    async def none_parked(self) -> None:
        """Wait until those that were parked have finished their work."""
        while self.parked:
            self._none_parked = Later()
            await self._none_parked

    def let_in(self, accepted: socket.socket) -> None:
        """Somebody connected: a task finds out who."""
        accepted.setblocking(False)
        self._nursery.start_soon(
            self._connection, trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
        )

    async def _connection(self, stream: trio.SocketStream) -> None:
        """Admit or turn away before a byte is read, then serve. What goes wrong here stays here."""
        uid, place, session = None, None, None
        with trio.CancelScope() as scope, self._serving(scope):
            try:
                uid = peer_uid(stream)
                caller = None if uid is None else self._admit(uid)
                if uid is None or caller is None:
                    self._note("turned a peer away", uid=uid)
                    return
                place = self._place(uid, stream)
                session = await self._serve(stream, caller)
            except Refused as refused:
                self._note("refused a connection", uid=uid, reason=refused.detail)
                await _refuse(stream, self._turn_away(refused))
            except Exception:
                self._log.exception("a connection met a defect", uid=uid)
            finally:
                if session is None or place is None:
                    stream.socket.close()
                    if place is not None:
                        self._leave(place)
        if session is not None and place is not None:
            self._park(session, place)

    @contextmanager
    def _serving(self, scope: trio.CancelScope) -> Iterator[None]:
        if self._is_closed:
            scope.cancel()
        self._served.append(scope)
        try:
            yield
        finally:
            self._served.remove(scope)

    def _place(self, uid: int, stream: trio.SocketStream) -> "Place":
        """One connection's place; Refused(busy) when all are taken."""
        held = sum(place.uid == uid for place in self._places)
        if self.connections >= self._connections_max or held >= self._connections_per_uid_max:
            raise Refused(
                Problem.BUSY,
                f"{self.connections} connections are open already, {held} of them yours; close some",
            )
        place = Place(self, uid, stream)
        self._places.append(place)
        return place

    def _note(self, event: str, **fields: object) -> None:
        """Somebody is turned away and may come again at once: write a line or count it, and let others have a turn."""
        if self._gate is not None and self._turned_away_pause_s:
            self._gate.pause(self._turned_away_pause_s)
        if self._folding is None:
            self._folding = Folding()
        left_out = self._folding.admit(trio.current_time())
        if left_out is not None:
            self._log.warning(event, **fields, left_out=left_out)

    def _leave(self, place: "Place") -> None:
        self._places.remove(place)

    def _park(self, session: Session[Any], place: "Place") -> None:
        """A session with nothing to do needs no task until its peer says something."""
        place.session = session
        place.parked = Parked(session, place.stream, place)
        if self._is_closed:
            place.parked.end()

    def again(self, place: "Place") -> None:
        """What was parked has something to do that needs a task."""
        self._unpark(place)
        self._nursery.start_soon(self._serve_on, place)

    def over(self, place: "Place") -> None:
        """It ended while it was parked."""
        self._unpark(place)
        self._leave(place)

    def _unpark(self, place: "Place") -> None:
        place.parked = None
        if self._none_parked is not None and not self.parked:
            self._none_parked.tell(None)

    async def _serve_on(self, place: "Place") -> None:
        parks = False
        with trio.CancelScope() as scope, self._serving(scope):
            try:
                parks = await place.session.serve(parks=True)
            except Exception:
                self._log.exception("a connection met a defect", uid=place.uid)
            finally:
                if not parks:
                    place.stream.socket.close()
                    self._leave(place)
        if parks:
            self._park(place.session, place)


Over = Callable[[Listening], None]
"""What is done when one was closed: it has no connections then, and gets none."""


class Place:
    """One of the connections that a listening socket may have, until it leaves."""

    __slots__ = ("_listening", "parked", "session", "stream", "uid")

    session: Session[Any]

    def __init__(self, listening: Listening, uid: int, stream: trio.SocketStream) -> None:
        self._listening = listening
        self.uid = uid
        self.stream = stream
        self.parked: Parked[Any] | None = None
        """While it needs no task."""

    def again(self) -> None:
        self._listening.again(self)

    def over(self) -> None:
        self._listening.over(self)


class _Gate:
    """Accepts whoever comes, in the reactor. A system that has nothing left for another one is asked again later."""

    __slots__ = ("_listening", "_log", "_pauses", "_reactor", "_socket", "_timer")

    def __init__(self, listener: trio.SocketListener, listening: Listening, log: Log) -> None:
        self._listening = listening
        self._log = log
        self._pauses: Iterator[float] | None = None
        self._timer: Timer | None = None
        self._socket = socket.socket(fileno=listener.socket.detach())
        self._reactor = this_reactor()
        self._reactor.watch(self._socket.fileno(), self)

    def close(self) -> None:
        self._reactor.forget(self._socket.fileno())
        self._socket.close()
        if self._timer is not None:
            self._timer.cancel()

    def pause(self, pause_s: float) -> None:
        """Let nobody in for a while; whoever comes waits in the kernel's line."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.at(trio.current_time() + pause_s, self.readable)

    def readable(self) -> None:
        """Somebody may have come."""
        if self._timer is not None and self._timer.call is not None:
            return  # looks by itself, and not before
        for _ in range(ACCEPTED_AT_ONCE_MAX):
            if self._socket.fileno() < 0:
                return
            try:
                accepted, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._give_up(error)
                return
            self._pauses = None
            self._listening.let_in(accepted)
        self._timer = self._reactor.at(trio.current_time(), self.readable)

    def _give_up(self, error: OSError) -> None:
        if self._pauses is None:
            self._pauses = delays(ACCEPT_PAUSE_FIRST_S, ACCEPT_PAUSE_MAX_S)
        pause_s = next(self._pauses)
        self._log.warning("cannot accept a connection", error=str(error), pause_s=round(pause_s, 2))
        self.pause(pause_s)


async def _refuse(stream: trio.SocketStream, text: bytes) -> None:
    with trio.move_on_after(REFUSAL_TAKEN_S):
        try:
            await stream.send_all(text)
        except trio.BrokenResourceError:
            return
