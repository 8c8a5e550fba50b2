"""One epoll and one clock for all that waits without a task.

    reactor = this_reactor()
    reactor.watch(fd, watcher)           calls `watcher.readable()` whenever something new can be read
    timer = reactor.at(deadline, call)   calls it at that time (trio's), unless `timer.cancel()` came before

trio waits for the epoll as for one file, so a hundred sockets that become readable together cost one wake-up and not
a hundred. Everything that follows from one look is stepped together (runtime.later).
"""

import heapq
import math
import select
from collections.abc import Callable
from contextlib import closing
from itertools import count
from typing import Final, Protocol

import trio

from runtime.later import step_all

EVENTS_MAX: Final = 512
"""Sockets looked after before other tasks have their turn."""
CANCELLED_MIN: Final = 64
"""Cancelled timers that are kept before the rest is sorted anew."""


class Watcher(Protocol):
    """Whoever wants to know that a file can be read. Itself and not a function: thousands are kept."""

    def readable(self) -> None:
        """There is something new to read, or the other end left."""


class Timer:
    """A call that is due at some time."""

    __slots__ = ("_reactor", "call")

    def __init__(self, reactor: "Reactor", call: Callable[[], None]) -> None:
        self._reactor = reactor
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        if self.call is not None:
            self.call = None
            self._reactor.count_cancelled()


class Reactor:
    """Made by `this_reactor`, which also runs it."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._watchers: dict[int, Watcher] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = count()
        self._cancelled = 0
        self._sooner = trio.Event()

    def watch(self, fd: int, watcher: Watcher) -> None:
        """Tell it now if there is something to read, and whenever more comes or the other end leaves."""
        self._watchers[fd] = watcher
        self._poll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def forget(self, fd: int) -> None:
        """Before the file is closed, or read by somebody else."""
        del self._watchers[fd]
        self._poll.unregister(fd)

    def at(self, deadline: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self, call)
        if not self._timers or deadline < self._timers[0][0]:
            self._sooner.set()
        heapq.heappush(self._timers, (deadline, next(self._numbers), timer))
        return timer

    def count_cancelled(self) -> None:
        """One timer more will never ring; when they are many, they are thrown away."""
        self._cancelled += 1
        if self._cancelled > max(CANCELLED_MIN, len(self._timers) // 2):
            self._timers = [entry for entry in self._timers if entry[2].call is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    async def serve_sockets(self) -> None:
        """For ever."""
        with closing(self._poll):
            while True:
                await trio.lowlevel.wait_readable(self._poll.fileno())
                step_all(self._look)

    def _look(self) -> None:
        for fd, _ in self._poll.poll(0, EVENTS_MAX):
            watcher = self._watchers.get(fd)
            if watcher is not None:
                watcher.readable()

    async def serve_timers(self) -> None:
        """For ever."""
        while True:
            self._sooner = trio.Event()
            with trio.move_on_at(self._timers[0][0] if self._timers else math.inf):
                await self._sooner.wait()
            step_all(self._ring)

    def _ring(self) -> None:
        now = trio.current_time()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            call, timer.call = timer.call, None
            if call is None:
                self._cancelled -= 1
            else:
                call()


_reactor: trio.lowlevel.RunVar[Reactor] = trio.lowlevel.RunVar("reactor")


def this_reactor() -> Reactor:
    """The one of this event loop, running from its first use until the loop ends."""
    try:
        return _reactor.get()
    except LookupError:
        reactor = Reactor()
        _reactor.set(reactor)
        trio.lowlevel.spawn_system_task(reactor.serve_sockets)
        trio.lowlevel.spawn_system_task(reactor.serve_timers)
        return reactor
