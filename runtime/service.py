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
from functools import partial
from typing import Any, Final, TypeVar, cast

import trio

from protocol.frames import encode_refusal
from protocol.limits import CONNECTIONS_PER_SOCKET_MAX, CONNECTIONS_PER_UID_MAX
from protocol.rpc import Caller
from runtime import notify
from runtime.listening import Admit, Listening, Serve
from runtime.log import Log, logger
from runtime.session import Session, Surface
from runtime.settings import EXIT_SETTINGS
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


class Service:
    """What a daemon's `main` is given. `resources` closes what it opened; `log` is bound to the daemon."""

    def __init__(self, name: str, nursery: trio.Nursery, resources: AsyncExitStack) -> None:
        self.name = name
        self.log: Log = logger(name)
        self.stopping = Stopping()
        self.resources = resources
        self._nursery = nursery
        self._listenings: set[Listening] = set()
        self._over = self._listenings.discard
        self._serves: dict[Surface[Any], Serve] = {}

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
        turned_away_pause_s: float = 0.0,
    ) -> Listening:
        """Serve a surface at a listening socket until the daemon stops or the returned handle is closed."""
        listening = Listening(
            self._serves.setdefault(surface, partial(self._serve, surface)),
            admit,
            encode_refusal,
            connections_max=connections_max,
            connections_per_uid_max=connections_per_uid_max,
            turned_away_pause_s=turned_away_pause_s,
        )
        return self.accept(listener, listening)

    async def _serve(
        self, surface: Surface[H], stream: trio.SocketStream, caller: Caller
    ) -> Session[H] | None:
        session = Session(stream, surface, caller, stopping=self.stopping, log=self.log)
        return session if await session.serve(parks=True) else None

    def accept(self, listener: trio.SocketListener, listening: Listening) -> Listening:
        """Serve whatever `listening` says at a listening socket: the way in for sockets that do not speak the RPC."""
        if not self._listenings:
            self._nursery.start_soon(self._until_stop)
        self._listenings.add(listening)
        listening.open(listener, self._nursery, self.stopping, self.log, self._over)
        return listening

    async def _until_stop(self) -> None:
        """Let nobody new in once the daemon stops; what is parked finishes its work."""
        try:
            await self.stopping.wait()
            for listening in tuple(self._listenings):
                listening.stop()
            for listening in tuple(self._listenings):
                await listening.none_parked()
        finally:
            for listening in tuple(self._listenings):
                listening.end()

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
