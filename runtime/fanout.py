"""One source, many watchers: each watcher has a bounded queue, and one that falls behind is told so and let go.

What waits is counted and, where events have a size, weighed: four thousand large ones would be too much memory.
"""

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import trio

from protocol.limits import WATCH_QUEUE_BYTES_MAX, WATCH_QUEUE_FRAMES_MAX
from protocol.problem import Problem, Refused

E = TypeVar("E")


class Fanout(Generic[E]):
    """Publishing never waits or fails; subscribing has no checkpoint, so a state read just before fits exactly."""

    def __init__(
        self,
        queue_max: int = WATCH_QUEUE_FRAMES_MAX,
        *,
        size_of: Callable[[E], int] | None = None,
        bytes_max: int = WATCH_QUEUE_BYTES_MAX,
    ) -> None:
        self._queue_max = queue_max
        self._size_of = size_of
        self._bytes_max = bytes_max
        self._watchers: set[Watcher[E]] = set()

    def __len__(self) -> int:
        return len(self._watchers)

    def publish(self, event: E) -> None:
        size = 0 if self._size_of is None else self._size_of(event)
        for watcher in tuple(self._watchers):
            watcher.offer(event, size)

    @contextmanager
    def subscribed(self) -> Iterator["Watcher[E]"]:
        """Everything published from now on; iterate it. Raises Refused(limit) once the queue has run over."""
        watcher: Watcher[E] = Watcher(self._queue_max, self._bytes_max)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)


class Watcher(Generic[E]):
    """One watcher's queue, an async iterator that never ends by itself."""

    def __init__(self, queue_max: int, bytes_max: int) -> None:
        self._send, self._receive = trio.open_memory_channel[tuple[E, int]](math.inf)
        self._queue_max = queue_max
        self._bytes_max = bytes_max
        self._frames = 0
        self._bytes = 0
        self._overrun = False

    def offer(self, event: E, size: int = 0) -> None:
        if self._overrun:
            return
        if self._frames >= self._queue_max or (self._frames and self._bytes + size > self._bytes_max):
            self._overrun = True
            self._send.close()
            return
        self._frames += 1
        self._bytes += size
        self._send.send_nowait((event, size))

    def _taken(self, queued: tuple[E, int]) -> E:
        event, size = queued
        self._frames -= 1
        self._bytes -= size
        return event

    def take_waiting(self, events_max: int) -> list[E]:
        """What is queued already, without waiting."""
        taken: list[E] = []
        while len(taken) < events_max:
            try:
                taken.append(self._taken(self._receive.receive_nowait()))
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        return taken

    def __aiter__(self) -> AsyncIterator[E]:
        return self

    async def __anext__(self) -> E:
        try:
            return self._taken(await self._receive.receive())
        except trio.EndOfChannel:
            raise Refused(
                Problem.LIMIT,
                f"more than {self._queue_max} events or {self._bytes_max} bytes were waiting for you; "
                "watch again from where you were",
            ) from None
