"""Leases begin and end in memory; this tells the feed, a little later and together, so that no taker waits for it."""

from collections import deque

import trio

from brokerd.live.feed import Feed
from brokerd.store import deliveries
from brokerd.store.deliveries import Telling
from protocol.problem import Refused
from runtime.log import Log


class Tellings:
    """Grants and returns of deliveries, in their order. What is not told when the process ends, ended with it."""

    def __init__(self, feed: Feed, log: Log) -> None:
        self._feed = feed
        self._log = log
        self._waiting: deque[Telling] = deque()
        self._some = trio.Event()

    def tell(self, telling: Telling) -> None:
        self._waiting.append(telling)
        self._some.set()

    async def tell_on(self) -> None:
        """For ever."""
        while True:
            await self._some.wait()
            self._some = trio.Event()
            changes = tuple(self._waiting)
            self._waiting.clear()
            try:
                await self._feed.write_events(deliveries.tell_leases, changes)
            except Refused as refused:
                self._log.warning("leases are not shown", reason=str(refused))
