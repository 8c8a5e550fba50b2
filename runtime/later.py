"""Values that come later, and coroutines that wait for nothing else: those need no task.

    told: Later[int] = Later()
    number = await told             in a task of trio, or in a coroutine that is run by hand
    told.tell(3)                    by whoever has it, in the event loop

    run_by_hand(work(), done)       runs a coroutine to its end; `done` gets its outcome
    soon(callback)                  after all that is ready now: what many want at once is done once for all of them

A task of trio costs 10 µs and 4 KB before it does anything; a request that is decoded, asks the store and is answered
takes no longer than that. Such a coroutine is stepped by whoever tells what it waits for. It may wait for a `Later`
and for nothing else: trio's own waits need a task, and are refused loudly (docs/decisions/0017).

Everything here is of one event loop and belongs to its thread.
"""

import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

import trio

from runtime.outcomes import Error, Outcome, Value

T = TypeVar("T")

Done = Callable[[Outcome[Any]], None]


class _Loop(threading.local):
    """What is to be stepped in this thread's event loop."""

    def __init__(self) -> None:
        self.ready: deque[Callable[[], None]] = deque()
        self.soon: deque[Callable[[], None]] = deque()
        self.is_stepping = False
        self.is_by_hand = False
        """Whether the code that runs just now has no task."""


_loop = _Loop()


class GivenUp(BaseException):
    """Thrown into a coroutine that nobody waits for any more. Not to be caught, like a cancellation."""


class Later(Generic[T]):
    """One value for one who waits; the first telling counts.

    `is_shielded` when nobody may be torn away from waiting for it: it is told in any case, and before long.
    """

    __slots__ = ("_outcome", "_wake", "is_shielded")

    def __init__(self, *, is_shielded: bool = False) -> None:
        self.is_shielded = is_shielded
        self._outcome: Outcome[T] | None = None
        self._wake: Callable[[], Any] | None = None

    def tell(self, value: T) -> None:
        self.end(Value(value))

    def end(self, how: Outcome[T]) -> None:
        """Tell a value, or a fault to raise."""
        if self._outcome is None:
            self._outcome = how
            if self._wake is not None:
                _step_now(self._wake)

    def wakes(self, wake: Callable[[], Any] | None) -> None:
        """What is done when it is told; None when nobody waits any more."""
        self._wake = wake

    def __await__(self) -> Generator[Any, Any, T]:
        if self._outcome is None:
            if _loop.is_by_hand:
                yield self
            else:
                yield from self._in_task().__await__()
        if self._outcome is None:
            raise RuntimeError("woken before it was told")
        return self._outcome.unwrap()

    async def _in_task(self) -> None:
        self._wake = partial(trio.lowlevel.reschedule, trio.lowlevel.current_task())
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: Any) -> trio.lowlevel.Abort:
        if self.is_shielded:
            return trio.lowlevel.Abort.FAILED
        self._wake = None
        return trio.lowlevel.Abort.SUCCEEDED


F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])

_light: set[Callable[..., Any]] = set()


def light(handler: F) -> F:
    """Mark a request's handler that waits for nothing but Laters: it needs no task."""
    _light.add(handler)
    return handler


def is_light(handler: Callable[..., Any]) -> bool:
    return handler in _light


class ByHand:
    """A coroutine without a task, which waits for a Later. To call it is to go on with it."""

    __slots__ = ("_done", "_given_up", "_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, Any], done: Done) -> None:
        self._work = work
        self._done = done
        self._given_up = False
        self._waits_for: Later[Any] | None = None

    def give_up(self) -> None:
        """Throw GivenUp into it: now, or where it next waits for something that it is not shielded for.

        What it is shielded for it gets: something was done, and what follows from that is done, too.
        """
        self._given_up = True
        if self._waits_for is not None and not self._waits_for.is_shielded:
            self._waits_for.wakes(None)
            _step_now(self)

    def __call__(self) -> bool:
        """Go on until the next Later; whether it waits for one now."""
        was_shielded = self._waits_for is not None and self._waits_for.is_shielded
        self._waits_for = None
        _loop.is_by_hand = True
        try:
            waits_for = self._work.send(None) if was_shielded or not self._given_up else None
            if self._given_up and not (isinstance(waits_for, Later) and waits_for.is_shielded):
                self._given_up = False
                waits_for = self._work.throw(GivenUp())
            if not isinstance(waits_for, Later):
                self._work.close()
                raise TypeError(f"{self._work!r} has no task and may not wait for {waits_for!r}")
        except StopIteration as end:
            how: Outcome[Any] = Value(end.value)
        except BaseException as fault:
            how = Error(fault)
        else:
            self._waits_for = waits_for
            waits_for.wakes(self)
            return True
        finally:
            _loop.is_by_hand = False
        self._done(how)
        return False


def run_by_hand(work: Coroutine[Any, Any, Any], done: Done) -> ByHand | None:
    """Step a coroutine as far as it goes; the rest of it, when it has to wait. `done` gets its outcome, then or now."""
    by_hand = ByHand(work, done)
    return by_hand if by_hand() else None


def soon(callback: Callable[[], None]) -> None:
    """Call it when all that is ready now has been stepped; in the order of asking."""
    _loop.soon.append(callback)
    if not _loop.is_stepping:
        trio.lowlevel.current_trio_token().run_sync_soon(step_all, idempotent=True)


def _step_now(step: Callable[[], Any]) -> None:
    """At once, or when the step that is being done is over: steps are never nested."""
    _loop.ready.append(step)
    if not _loop.is_stepping:
        step_all()


def step_all(*first: Callable[[], None]) -> None:
    """Do all steps that are ready, `first` before them, and what was put off until then."""
    _loop.is_stepping = True
    try:
        for step in first:
            step()
        while _loop.ready or _loop.soon:
            if _loop.ready:
                _loop.ready.popleft()()
            else:
                _loop.soon.popleft()()
    finally:
        _loop.is_stepping = False
