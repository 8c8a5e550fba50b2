"""What is over for long enough is removed, so gently that nobody who sends notices.

Once an hour everything is looked through. Each transaction removes a few rows, and the next one waits many times as
long as that took.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Concatenate, Final, ParamSpec, TypeVar

import trio

from brokerd.policy.retention import Retention, before
from brokerd.store import egress, limit_hits, occurrences, retention, traffic
from brokerd.store.retention import FIRST_KEY, Found, KeyPlace
from protocol.problem import Problem, Refused
from runtime.clock import now_ms
from runtime.log import Log
from runtime.store import Db, Store

P = ParamSpec("P")
T = TypeVar("T")

Look = Callable[[Db, int, int], Found]
Remove = Callable[[Db, Sequence[int], int], int]

EVERY_S: Final = 3_600.0
FIRST_S: Final = 60.0
"""After brokerd's start, when everybody comes back."""
ROWS: Final = 200
"""Rows that one transaction removes, about."""
ROWS_OF_MESSAGE: Final = 5
"""A message is a row and a list of words, and each of its parties has one or two."""
PAUSE_MIN_S: Final = 0.02
PAUSE_TIMES: Final = 9.0
"""After each transaction, so many times as long as it took."""


class Sweeping:
    """The retention's own task."""

    def __init__(self, store: Store, kept: Retention, log: Log) -> None:
        self._store = store
        self._kept = kept
        self._log = log

    async def run(self) -> None:
        """For ever: remove what is over."""
        await trio.sleep(FIRST_S)
        while True:
            try:
                gone = await self.sweep(now_ms())
            except Refused as refused:
                if refused.problem is not Problem.STORAGE_FULL:
                    raise
                self._log.warning("what is old stays, for want of room on the disk", reason=refused.detail)
            else:
                if gone:
                    self._log.info("removed what is over", **gone)
            await trio.sleep(EVERY_S)

    async def sweep(self, at_ms: int) -> dict[str, int]:
        """Remove what is over at a time; how much, by what it is."""
        kept = self._kept
        statistics_before = before(at_ms, kept.turns_days)
        events_before = before(at_ms, kept.turn_events_days)
        gone = Counter[str]()
        gone["turn_events"] += await self._sweep_events(events_before)
        for what, look, remove, days in (
            ("messages", retention.old_messages, retention.remove_messages, kept.messages_days),
            ("turns", retention.old_turns, retention.remove_turns, kept.turns_days),
            ("questions", retention.old_questions, retention.remove_questions, kept.questions_days),
        ):
            rows = ROWS // ROWS_OF_MESSAGE if what == "messages" else ROWS
            gone[what] += await self._sweep_numbered(look, remove, before(at_ms, days), rows)
        gone["keys"] += await self._sweep_keys(before(at_ms, kept.keys_days))
        occurrences_before = before(at_ms, kept.occurrences_days)
        gone["occurrences"] += await self._all(occurrences.forget_before, occurrences_before, ROWS)
        gone["egress_refusals"] += await self._all(egress.forget_before, events_before, ROWS)
        gone["limit_hits"] += await self._gently(limit_hits.forget_before, events_before)
        gone["statistics"] += await self._sweep_traffic(statistics_before)
        return dict(+gone)

    async def _sweep_numbered(self, look: Look, remove: Remove, before_ms: int, rows: int) -> int:
        gone = 0
        place: int | None = 0
        while place is not None:
            found = await self._store.read(look, place, before_ms)
            for part in _parts(found.numbers, rows):
                gone += await self._sweep_part(remove, part, before_ms)
            place = found.place
            await trio.sleep(PAUSE_MIN_S)
        return gone

    async def _sweep_part(self, remove: Remove, part: Sequence[int], before_ms: int) -> int:
        """One transaction, or several where rows are long."""
        gone = 0
        while some := await self._gently(remove, part, before_ms):
            gone += some
            if gone == len(part):
                break
        return gone

    async def _sweep_events(self, before_ms: int) -> int:
        gone = 0
        place: int | None = 0
        while place is not None:
            found = await self._store.read(retention.turns_with_old_events, place, before_ms)
            for part in _parts(found.numbers, ROWS):
                gone += await self._all(retention.remove_events, part, ROWS)
            place = found.place
            await trio.sleep(PAUSE_MIN_S)
        return gone

    async def _sweep_keys(self, before_ms: int) -> int:
        gone = 0
        needed = await self._store.read(retention.oldest_open)
        place: KeyPlace | None = FIRST_KEY
        while place is not None:
            found = await self._store.read(retention.old_keys, place, before_ms, needed)
            for part in _parts(found.keys, ROWS):
                gone += await self._gently(retention.remove_keys, part, before_ms)
            place = found.place
            await trio.sleep(PAUSE_MIN_S)
        return gone

    async def _sweep_traffic(self, before_ms: int) -> int:
        gone = 0
        agent = await self._store.read(traffic.next_agent, "")
        while agent is not None:
            gone += await self._all(traffic.forget_before, before_ms, agent, ROWS)
            agent = await self._store.read(traffic.next_agent, agent)
        return gone

    async def _all(self, remove: Callable[Concatenate[Db, P], int], *args: P.args, **kwargs: P.kwargs) -> int:
        """Repeat until nothing is left."""
        gone = 0
        while some := await self._gently(remove, *args, **kwargs):
            gone += some
        return gone

    async def _gently(self, remove: Callable[Concatenate[Db, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        began = trio.current_time()
        gone = await self._store.write(remove, *args, **kwargs)
        await trio.sleep(max(PAUSE_MIN_S, (trio.current_time() - began) * PAUSE_TIMES))
        return gone


def _parts(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
