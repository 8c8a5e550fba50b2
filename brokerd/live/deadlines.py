"""Questions that nobody answers in time: their deadlines, and the task that ends them."""

from typing import Final

from brokerd.live.alarm import Alarm
from brokerd.live.feed import Feed
from brokerd.store import questions
from runtime.log import Log
from runtime.store import Store

EXPIRED_PER_JOB_MAX: Final = 50
"""Few enough that a send behind them hardly waits."""


class Deadlines:
    """Sleeps until the next open question expires."""

    def __init__(self, store: Store, feed: Feed, log: Log) -> None:
        self._store = store
        self._feed = feed
        self._log = log
        self._alarm = Alarm()

    def asked(self, deadline_ms: int | None) -> None:
        """A question was asked; None when it never expires."""
        if deadline_ms is not None:
            self._alarm.bring_forward(deadline_ms)

    async def expire(self) -> None:
        """For ever: end the questions whose deadline has passed, a batch at a time, and tell their askers."""
        while True:
            self._alarm.forget()
            await self._alarm.due(await self._store.read(questions.next_deadline))
            broken = await self._feed.write_surely(questions.expire, EXPIRED_PER_JOB_MAX)
            for each in broken:
                self._log.error("a question that expired cannot be read", question=each.id, fault=each.fault)
