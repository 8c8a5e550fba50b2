"""The life of a daemon: ready, serve, stop.

    async def main(service: Service) -> None:     opens what the daemon owns, listens, starts background tasks
    run_service("brokerd", main)                  runs it until SIGTERM or SIGINT; the exit code

Stopping: nobody new is accepted, what only waits ends at once, work in hand gets STOP_WORK_S, then what `main`
opened is closed in reverse. A background task that raises ends the process loudly: nothing dies quietly.
"""

import gc
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar, cast

import trio

from protocol.frames import encode_refusal
from protocol.limits import CONNECTIONS_PER_SOCKET_MAX, CONNECTIONS_PER_UID_MAX
from protocol.problem import Problem, Refused
from protocol.rpc import Caller
from runtime import notify
from runtime.backoff import delays
from runtime.later import Later
from runtime.log import Log, logger
from runtime.parked import Parked
from runtime.session import Session, Surface
from runtime.settings import EXIT_SETTINGS
from runtime.sockets import peer_uid
from runtime.stopping import Stopping

H = TypeVar("H")


class Unusable(Exception):
    """What a daemon stands on cannot be used, and starting it again does not help.

    Its text is one line for the operator: what, why, and what to do.
    """


STOP_WORK_S: Final = 10.0
EXIT_DEFECT: Final = 70
GARBAGE: Final = (20_000, 20, 50)
"""When cycles of objects are looked for. A daemon makes few; the usual 700 cost a busy one a sixth of its time."""
LIFELINE: Final = "HIVE_LIFELINE"
"""Set by a supervisor that holds the other end of our standard input."""
REFUSAL_TAKEN_S: Final = 1.0
ACCEPT_PAUSE_FIRST_S: Final = 0.05
ACCEPT_PAUSE_MAX_S: Final = 2.0

Admit = Callable[[int], Caller | None]
"""Who a peer's uid is at one socket; None turns it away."""

Serve = Callable[[trio.SocketStream, Caller], Awaitable[Session[Any] | None]]
"""What is done with one admitted connection; it is closed afterwards, unless this returns a session to park."""

TurnAway = Callable[[Refused], bytes]
"""How a refusal is written at one socket."""


class Listening:
    """One socket being served: for whom, how many at a time; `close` stops it and ends its connections."""

    def __init__(
        self,
        serve: Serve,
        admit: Admit,
        turn_away: TurnAway,
        *,
        connections_max: int,
        connections_per_uid_max: int,
    ) -> None:
        self.scope = trio.CancelScope()
        self.serve = serve
        self.turn_away = turn_away
        self.connections = 0
        self.parked: set[Parked[Any]] = set()
        self._admit = admit
        self._by_uid: dict[int, int] = {}
        self._connections_max = connections_max
        self._connections_per_uid_max = connections_per_uid_max
        self._none_parked: Later[None] = Later()

    def close(self) -> None:
        self.scope.cancel()

    def admitted(self, uid: int | None) -> Caller | None:
        return None if uid is None else self._admit(uid)

    def place(self, uid: int, stream: trio.SocketStream) -> "Place":
        """One connection's place; Refused(busy) when all are taken."""
        held = self._by_uid.get(uid, 0)
        if self.connections >= self._connections_max or held >= self._connections_per_uid_max:
            raise Refused(
                Problem.BUSY,
                f"{self.connections} connections are open already, {held} of them yours; close some",
            )
        self.connections += 1
        self._by_uid[uid] = held + 1
        return Place(self, uid, stream)

    def leave(self, uid: int) -> None:
        """One connection less."""
        self.connections -= 1
        self._by_uid[uid] -= 1
        if not self._by_uid[uid]:
            del self._by_uid[uid]

    def unpark(self, parked: "Parked[Any]") -> None:
        self.parked.discard(parked)
        if not self.parked:
            self._none_parked.tell(None)

    async def stop_parked(self) -> None:
        """End those that are parked; returns when the last has finished its work."""
        for parked in tuple(self.parked):
            parked.stop()
        while self.parked:
            self._none_parked = Later()
            await self._none_parked

    def end_parked(self) -> None:
        for parked in tuple(self.parked):
            parked.end()


class Place:
    """One of the connections that a listening socket may have, until it leaves."""

    __slots__ = ("listening", "stream", "uid")

    def __init__(self, listening: Listening, uid: int, stream: trio.SocketStream) -> None:
        self.listening = listening
        self.uid = uid
        self.stream = stream

    def leave(self) -> None:
        self.listening.leave(self.uid)


class Service:
    """What a daemon's `main` is given. `resources` closes what it opened; `log` is bound to the daemon."""

    def __init__(self, name: str, nursery: trio.Nursery, resources: AsyncExitStack) -> None:
        self.name = name
        self.log: Log = logger(name)
        self.stopping = Stopping()
        self.resources = resources
        self._nursery = nursery

    def start_background(self, task: Callable[..., Awaitable[Any]], *arguments: Any, name: str) -> None:
        """Run a task for as long as the daemon lives; it is cancelled at the stop and may not end by an exception."""

        async def run() -> None:
            with self.stopping.ends():
                await task(*arguments)

        self._nursery.start_soon(run, name=name)

    def start_work(self, task: Callable[..., Awaitable[Any]], *arguments: Any, name: str) -> None:
        """Run a task that minds `stopping` itself: it ends soon after, with STOP_WORK_S for what it has in hand."""
        self._nursery.start_soon(task, *arguments, name=name)

    def listen(
        self,
        listener: trio.SocketListener,
        surface: Surface[H],
        admit: Admit,
        *,
        connections_max: int = CONNECTIONS_PER_SOCKET_MAX,
        connections_per_uid_max: int = CONNECTIONS_PER_UID_MAX,
    ) -> Listening:
        """Serve a surface at a listening socket until the daemon stops or the returned handle is closed."""

        async def serve(stream: trio.SocketStream, caller: Caller) -> Session[H] | None:
            session = Session(stream, surface, caller, stopping=self.stopping, log=self.log)
            return session if await session.serve(parks=True) else None

        listening = Listening(
            serve,
            admit,
            encode_refusal,
            connections_max=connections_max,
            connections_per_uid_max=connections_per_uid_max,
        )
        return self.accept(listener, listening)

    def accept(self, listener: trio.SocketListener, listening: Listening) -> Listening:
        """Serve whatever `listening` says at a listening socket: the way in for sockets that do not speak the RPC."""
        self._nursery.start_soon(self._accept, listener, listening)
        return listening

    async def _accept(self, listener: trio.SocketListener, listening: Listening) -> None:
        try:
            async with listener:
                with listening.scope:
                    async with trio.open_nursery() as connections:
                        with self.stopping.ends():
                            while True:
                                stream = await self._next_stream(listener)
                                connections.start_soon(self._connection, stream, listening, connections)
                        await listening.stop_parked()
        finally:
            listening.end_parked()

    async def _next_stream(self, listener: trio.SocketListener) -> trio.SocketStream:
        pauses = delays(ACCEPT_PAUSE_FIRST_S, ACCEPT_PAUSE_MAX_S)
        while True:
            try:
                return await listener.accept()
            except OSError as error:
                pause_s = next(pauses)
                self.log.warning("cannot accept a connection", error=str(error), pause_s=round(pause_s, 2))
            await trio.sleep(pause_s)

    async def _connection(
        self, stream: trio.SocketStream, listening: Listening, nursery: trio.Nursery
    ) -> None:
        """Admit or turn away before a byte is read, then serve. What goes wrong here stays here."""
        uid, place, session = None, None, None
        try:
            uid = peer_uid(stream)
            caller = listening.admitted(uid)
            if uid is None or caller is None:
                self.log.warning("turned a peer away", uid=uid)
                return
            place = listening.place(uid, stream)
            session = await listening.serve(stream, caller)
        except Refused as refused:
            self.log.warning("refused a connection", uid=uid, reason=refused.detail)
            await _refuse(stream, listening.turn_away(refused))
        except Exception:
            self.log.exception("a connection met a defect", uid=uid)
        finally:
            if session is None or place is None:
                stream.socket.close()
                if place is not None:
                    place.leave()
        if session is not None and place is not None:
            self._park(session, place, nursery)

    def _park(self, session: Session[Any], place: "Place", nursery: trio.Nursery) -> None:
        """A session with nothing to do needs no task until its peer says something."""

        def again(parked: Parked[Any]) -> None:
            place.listening.unpark(parked)
            nursery.start_soon(self._serve_on, session, place, nursery)

        def over(parked: Parked[Any]) -> None:
            place.listening.unpark(parked)
            place.leave()

        place.listening.parked.add(Parked(session, place.stream, again, over))

    async def _serve_on(self, session: Session[Any], place: "Place", nursery: trio.Nursery) -> None:
        parks = False
        try:
            parks = await session.serve(parks=True)
        except Exception:
            self.log.exception("a connection met a defect", uid=place.uid)
        finally:
            if not parks:
                place.stream.socket.close()
                place.leave()
        if parks:
            self._park(session, place, nursery)

    async def on_signals(self) -> None:
        """Stop on SIGTERM or SIGINT."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            async for number in received:
                self.log.info("stopping", signal=signal.Signals(number).name)
                notify.notify("STOPPING=1")
                self.stopping.set()

    async def hold_lifeline(self) -> None:
        """Stop when whoever started us is gone: its end of the pipe on standard input closes with it."""
        if not os.environ.get(LIFELINE):
            return
        while True:
            await trio.lowlevel.wait_readable(0)
            if not os.read(0, 64):
                break
        self.log.warning("the supervisor is gone: stopping")
        self.stopping.set()

    async def feed_watchdog(self) -> None:
        """Tell the service manager that the loop turns."""
        interval_s = notify.watchdog_interval_s()
        while interval_s is not None:
            notify.notify("WATCHDOG=1")
            await trio.sleep(interval_s)


async def _refuse(stream: trio.SocketStream, text: bytes) -> None:
    with trio.move_on_after(REFUSAL_TAKEN_S):
        try:
            await stream.send_all(text)
        except trio.BrokenResourceError:
            return


async def serve(name: str, main: Callable[[Service], Awaitable[None]]) -> None:
    """Run a daemon inside a running trio loop until it is told to stop."""
    async with AsyncExitStack() as resources, trio.open_nursery() as nursery:
        async with trio.open_nursery() as work:
            service = Service(name, work, resources)
            nursery.start_soon(service.on_signals)
            service.start_background(service.feed_watchdog, name="watchdog")
            service.start_background(service.hold_lifeline, name="lifeline")
            await main(service)
            notify.notify("READY=1")
            service.log.info("ready")
            await service.stopping.wait()
            work.cancel_scope.deadline = trio.current_time() + STOP_WORK_S
        nursery.cancel_scope.cancel()


def run_service(name: str, main: Callable[[Service], Awaitable[None]]) -> int:
    """Run a daemon as this process. Returns the exit code.

    0 after a stop, EXIT_SETTINGS when it cannot be started with what is there, EXIT_DEFECT when something broke.
    """
    gc.freeze()  # modules and what they hold stay for good
    gc.set_threshold(*GARBAGE)
    try:
        trio.run(serve, name, main)
    except BaseException as fault:
        unusable = _unusable_in(fault)
        if unusable is not None:
            logger(name).critical("cannot be started", reason=str(unusable))
            return EXIT_SETTINGS
        logger(name).critical("the daemon ended by a defect", exc_info=fault)
        return EXIT_DEFECT
    logger(name).info("stopped")
    return 0


def _unusable_in(fault: BaseException) -> Unusable | None:
    """The reason in a group of faults, when there is nothing else in it."""
    while isinstance(fault, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", fault)
        if len(group.exceptions) != 1:
            return None
        (fault,) = group.exceptions
    return fault if isinstance(fault, Unusable) else None
