"""The life of a daemon: ready, serve, stop.

    async def main(service: Service) -> None:     opens what the daemon owns, listens, starts background tasks
    run_service("brokerd", main)                  runs it until SIGTERM or SIGINT; the exit code

Stopping: nobody new is accepted, what only waits ends at once, work in hand gets STOP_WORK_S, then what `main`
opened is closed in reverse. A background task that raises ends the process loudly: nothing dies quietly.
"""

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final, TypeVar

import trio

from protocol.frames import encode_refusal
from protocol.limits import CONNECTIONS_PER_SOCKET_MAX, CONNECTIONS_PER_UID_MAX
from protocol.problem import Problem, Refused
from protocol.rpc import Caller
from runtime import notify
from runtime.backoff import delays
from runtime.log import Log, logger
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
LIFELINE: Final = "HIVE_LIFELINE"
"""Set by a supervisor that holds the other end of our standard input."""
REFUSAL_TAKEN_S: Final = 1.0
ACCEPT_PAUSE_FIRST_S: Final = 0.05
ACCEPT_PAUSE_MAX_S: Final = 2.0

Admit = Callable[[int], Caller | None]
"""Who a peer's uid is at one socket; None turns it away."""

Serve = Callable[[trio.SocketStream, Caller], Awaitable[None]]
"""What is done with one admitted connection."""

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
        self._admit = admit
        self._by_uid: dict[int, int] = {}
        self._connections_max = connections_max
        self._connections_per_uid_max = connections_per_uid_max

    def close(self) -> None:
        self.scope.cancel()

    def admitted(self, uid: int | None) -> Caller | None:
        return None if uid is None else self._admit(uid)

    @contextmanager
    def place(self, uid: int) -> Iterator[None]:
        """One connection's place; Refused(busy) when all are taken."""
        held = self._by_uid.get(uid, 0)
        if self.connections >= self._connections_max or held >= self._connections_per_uid_max:
            raise Refused(
                Problem.BUSY,
                f"{self.connections} connections are open already, {held} of them yours; close some",
            )
        self.connections += 1
        self._by_uid[uid] = held + 1
        try:
            yield
        finally:
            self.connections -= 1
            self._by_uid[uid] -= 1
            if not self._by_uid[uid]:
                del self._by_uid[uid]


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

        async def serve(stream: trio.SocketStream, caller: Caller) -> None:
            await Session(stream, surface, caller, stopping=self.stopping, log=self.log).serve()

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
        async with listener:
            with listening.scope:
                async with trio.open_nursery() as connections:
                    with self.stopping.ends():
                        while True:
                            stream = await self._next_stream(listener)
                            connections.start_soon(self._connection, stream, listening)

    async def _next_stream(self, listener: trio.SocketListener) -> trio.SocketStream:
        pauses = delays(ACCEPT_PAUSE_FIRST_S, ACCEPT_PAUSE_MAX_S)
        while True:
            try:
                return await listener.accept()
            except OSError as error:
                pause_s = next(pauses)
                self.log.warning("cannot accept a connection", error=str(error), pause_s=round(pause_s, 2))
            await trio.sleep(pause_s)

    async def _connection(self, stream: trio.SocketStream, listening: Listening) -> None:
        """Admit or turn away before a byte is read, then serve. What goes wrong here stays here."""
        uid = None
        async with stream:
            try:
                uid = peer_uid(stream)
                caller = listening.admitted(uid)
                if uid is None or caller is None:
                    self.log.warning("turned a peer away", uid=uid)
                    return
                with listening.place(uid):
                    await listening.serve(stream, caller)
            except Refused as refused:
                self.log.warning("refused a connection", uid=uid, reason=refused.detail)
                await _refuse(stream, listening.turn_away(refused))
            except Exception:
                self.log.exception("a connection met a defect", uid=uid)

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
    while isinstance(fault, BaseExceptionGroup) and len(fault.exceptions) == 1:
        fault = fault.exceptions[0]
    return fault if isinstance(fault, Unusable) else None
