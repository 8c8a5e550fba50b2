"""What operators ask to be done: once for each key, to its end even if the browser leaves, and answered before long.

A deed runs as a task of webd. Whoever asks waits for it; a second request with the same key waits for the same deed and
gets the same answer. A deed that may take longer than anybody should wait (a graceful stop) is answered as soon as its
effect can be seen; should it fail after that, the hive's notices say so.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from protocol.problem import Problem, Refused
from runtime.clock import new_key
from runtime.log import Log
from webd.live.upstream import Picture

ANSWERS_KEPT_MAX: Final = 1_000
ANSWERS_KEPT_MS: Final = 10 * 60 * 1000
ANSWER_EARLY_S: Final = 1.0
"""A deed is waited for so long; after that it is answered as soon as its effect can be seen."""
ANSWER_WITHIN_S: Final = 8.0
"""A deed that shows no effect by then is answered with that."""

_NOT_DONE: Final = frozenset({Problem.STOPPING, Problem.BUSY})
"""Refusals after which the same key may try again."""


@dataclass(frozen=True)
class Done:
    """How a deed ended: the id of what it made, if it made something, and whether somebody else must act first."""

    id: int | None = None
    waits: bool = False


Deed = Callable[[], Awaitable[Done]]
SeenYet = Callable[[], bool]


@dataclass
class _Under:
    """One deed, under way or done."""

    what: str
    at_ms: int
    done: trio.Event = field(default_factory=trio.Event)
    result: Done | None = None
    refused: Refused | None = None
    answered_early: bool = False


class Deeds:
    """Every deed of this run of webd. `start` runs a task that may go on while its asker leaves."""

    def __init__(self, picture: Picture, start: Callable[..., None], log: Log) -> None:
        self._picture = picture
        self._start = start
        self._log = log
        self._kept: OrderedDict[tuple[str, str], _Under] = OrderedDict()

    async def do(self, operator: str, key: str, what: str, deed: Deed, seen: SeenYet | None = None) -> Done:
        """The answer of this deed. `seen` tells whether its effect shows. Raises Refused."""
        self._forget()
        place = (operator, key)
        under = self._kept.get(place)
        if under is None:
            under = self._kept[place] = _Under(what, self._picture.now_ms())
            self._start(self._run, place, under, deed, name=what)
        elif under.what != what:
            raise Refused(Problem.CONFLICT, f"this key was already used for: {under.what}")
        return await self._answer(under, seen)

    async def _answer(self, under: _Under, seen: SeenYet | None) -> Done:
        if seen is None:
            await under.done.wait()
        else:
            await self._done_or_seen(under, seen)
        if under.refused is not None:
            raise Refused(under.refused.problem, under.refused.detail)
        if under.result is not None:
            return under.result
        under.answered_early = True
        if seen is not None and seen():
            return Done()
        raise Refused(
            Problem.FAILED, f"{under.what} is still under way after {ANSWER_WITHIN_S:g} s; it goes on"
        )

    async def _done_or_seen(self, under: _Under, seen: SeenYet) -> None:
        with trio.move_on_after(ANSWER_EARLY_S):
            await under.done.wait()
        if under.done.is_set():
            return
        async with trio.open_nursery() as either:
            either.start_soon(_then_cancel, under.done.wait, either.cancel_scope)
            await self._picture.until(seen, ANSWER_WITHIN_S - ANSWER_EARLY_S)
            either.cancel_scope.cancel()

    async def _run(self, place: tuple[str, str], under: _Under, deed: Deed) -> None:
        try:
            under.result = await deed()
        except Refused as refused:
            under.refused = refused
        except Exception as defect:
            incident = new_key()[:12]
            self._log.error("a deed met a defect", what=under.what, incident=incident, exc_info=defect)
            under.refused = Refused(Problem.INTERNAL, f"incident {incident}: see the daemon's log")
        under.done.set()
        if under.refused is not None and under.refused.problem in _NOT_DONE:
            self._kept.pop(place, None)
        if under.refused is not None and under.answered_early:
            picture = self._picture
            picture.tell(picture.world.failed_late(f"{under.what}: {under.refused.detail}", picture.now_ms()))

    def _forget(self) -> None:
        """Answers nobody will ask for again."""
        now_ms = self._picture.now_ms()
        while self._kept:
            place, oldest = next(iter(self._kept.items()))
            if len(self._kept) < ANSWERS_KEPT_MAX and now_ms - oldest.at_ms < ANSWERS_KEPT_MS:
                break
            del self._kept[place]


async def _then_cancel(wait: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()
