"""Leases begin and end in memory; this tells the feed, a little later and together, so that no taker waits for it."""

from typing import Final

import trio

from brokerd.live.feed import Feed
from brokerd.store import deliveries
from brokerd.store.deliveries import Telling
from protocol.problem import Refused
from runtime.log import Log

TELL_S: Final = 0.05
"""A lease that is over by then, because its turn began or it was given back, is never spoken of."""


class Tellings:
    """Grants and returns of deliveries. What is not told when the process ends, ended with it."""

    def __init__(self, feed: Feed, log: Log) -> None:
        self._feed = feed
        self._log = log
        self._waiting: dict[int, Telling] = {}
        self._some = trio.Event()

    def tell(self, telling: Telling) -> None:
        """A return takes back a grant that was not told yet, and the other way round."""
        waiting = self._waiting.get(telling.delivery)
        if waiting is not None and waiting.is_leased != telling.is_leased:
            del self._waiting[telling.delivery]
            return
        self._waiting[telling.delivery] = telling
        self._some.set()

    def forget(self, delivery: int) -> None:
        """A turn began for it: that says more."""
        self._waiting.pop(delivery, None)

    async def tell_on(self) -> None:
        """For ever."""
        while True:
            await self._some.wait()
            await trio.sleep(TELL_S)
            self._some = trio.Event()
            changes, self._waiting = tuple(self._waiting.values()), {}
            if not changes:
                continue
            try:
                await self._feed.write_events(deliveries.tell_leases, changes)
            except Refused as refused:
                self._log.warning("leases are not shown", reason=str(refused))
