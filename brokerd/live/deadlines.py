"""Questions that nobody will answer: their deadlines, those that cannot be delivered, and the task that ends them."""

from typing import Final

from brokerd.live.alarm import Alarm
from brokerd.live.feed import Feed
from brokerd.store import questions
from brokerd.store.feed import Entry
from protocol.messages import DeliveryState
from runtime.clock import now_ms
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

    def follow(self, entry: Entry) -> None:
        """Deliveries were settled; one that was given up may be that of a question."""
        if any(receipt.state is DeliveryState.DEAD for receipt in entry.deliveries):
            self._alarm.bring_forward(now_ms())

    async def expire(self) -> None:
        """For ever: end questions that are due, or that cannot be delivered, some at a time, and tell their askers."""
        while True:
            for job in (questions.expire, questions.end_undelivered):
                for each in await self._feed.write_surely(job, EXPIRED_PER_JOB_MAX):
                    self._log.error(
                        "a question that ended cannot be read", question=each.id, fault=each.fault
                    )
            self._alarm.forget()
            await self._alarm.due(await self._next_ms())

    async def _next_ms(self) -> int | None:
        """When there is something to do: at once while more than one batch is."""
        if await self._store.read(questions.any_undelivered):
            return now_ms()
        return await self._store.read(questions.next_deadline)
