"""What is asked for together is stored together: one job for all, and everybody gets an answer of their own.

sends = Together(feed.write_new, messages.send)
sent = await sends.ask(draft)           needs no task, and is not to be cancelled halfway
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Generic, TypeVar

from brokerd.store.feed import FeedLog
from protocol.problem import Refused
from runtime.later import Later, run_by_hand, soon
from runtime.outcomes import Error, Outcome, Value
from runtime.store import Db

A = TypeVar("A")
R = TypeVar("R")

ASKED_PER_JOB_MAX: Final = 64

Job = Callable[[Db, FeedLog, Sequence[A]], Sequence[R | Refused]]
"""Answers all that it is given, in order, and each for itself: by what was done, or by a refusal."""


class Together(Generic[A, R]):
    """Asks of one kind, from everybody."""

    def __init__(self, write: Callable[..., Coroutine[Any, Any, Any]], job: Callable[[], Job[A, R]]) -> None:
        self._write = write
        self._job = job
        self._waiting: list[tuple[A, Later[R]]] = []

    def ask(self, asked: A) -> Awaitable[R]:
        """Told once it is on disk. Refused: nothing of this one was stored."""
        told: Later[R] = Later(is_shielded=True)
        if not self._waiting:
            soon(self._store_waiting)
        self._waiting.append((asked, told))
        return told

    def _store_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), ASKED_PER_JOB_MAX):
            part = waiting[start : start + ASKED_PER_JOB_MAX]
            work = self._write(self._job(), [asked for asked, _ in part])
            run_by_hand(work, _Answering([told for _, told in part]))


class _Answering(Generic[R]):
    """Tells everybody what became of it."""

    __slots__ = ("_told",)

    def __init__(self, told: Sequence[Later[R]]) -> None:
        self._told = told

    def __call__(self, stored: Outcome[Sequence[R | Refused]]) -> None:
        if isinstance(stored, Error):
            for told in self._told:
                told.end(Error(stored.error))
            return
        for told, answer in zip(self._told, stored.unwrap(), strict=True):
            told.end(Error(answer) if isinstance(answer, Refused) else Value(answer))
