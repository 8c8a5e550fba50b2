"""What the manager is told of several agents at once: a little later, together, in one message of each kind.

What is to be told is in the database (brokerd.store.news); this only decides when.
"""

import math
from typing import Final

import trio

from brokerd.live.feed import Feed
from brokerd.live.inboxes import Inboxes
from brokerd.policy.notices import NOTICE_BYTES_MAX
from brokerd.policy.recipients import manager_of
from brokerd.store import news
from brokerd.swarm.roster import Roster
from protocol.messages import SystemEvent
from protocol.names import SYSTEM
from protocol.problem import Refused
from runtime.log import Log
from runtime.store import Store

LINGER_S: Final = {
    SystemEvent.REBUILT: 10.0,
    SystemEvent.RATE_LIMITED: 10.0,
    SystemEvent.RESUMED: 60.0,
    SystemEvent.LIMIT_HIT: 60.0,
}
"""How long nothing more of a kind must have come before it is told. A limit that seems over may begin again at once."""
LINGER_S_MAX: Final = 120.0
"""The first of them waits no longer than this."""
LATER_S: Final = 60.0
"""After so long it is tried again to tell what was left for later."""


class Digests:
    """One task tells; whoever has something for it says so by `add`."""

    def __init__(self, store: Store, feed: Feed, inboxes: Inboxes, roster: Roster, log: Log) -> None:
        self._store = store
        self._feed = feed
        self._inboxes = inboxes
        self._roster = roster
        self._log = log
        self._due: dict[SystemEvent, float] = {}
        self._at_last: dict[SystemEvent, float] = {}
        self._added = trio.Event()

    def add(self, event: SystemEvent) -> None:
        """There is something of this kind to tell."""
        now = trio.current_time()
        at_last = self._at_last.setdefault(event, now + LINGER_S_MAX)
        self._due[event] = min(now + LINGER_S[event], at_last)
        self._added.set()

    async def tell_on(self) -> None:
        """For ever; first what was left when brokerd stopped."""
        for event in await self._store.read(news.untold_events):
            self.add(event)
        while True:
            self._added = trio.Event()
            with trio.move_on_at(min(self._due.values(), default=math.inf)):
                await self._added.wait()
            for event in [event for event, at in self._due.items() if at <= trio.current_time()]:
                del self._due[event], self._at_last[event]
                await self._tell(event)

    async def _tell(self, event: SystemEvent) -> None:
        manager = manager_of(self._roster.roles)
        try:
            reserved = self._inboxes.reserve(() if manager is None else (manager,), NOTICE_BYTES_MAX, SYSTEM)
        except Refused as refused:
            self._log.warning("the manager cannot be told; trying later", told=event, reason=str(refused))
            self._later(event)
            return
        try:
            if await self._feed.write_surely(news.tell, event, manager):
                self._later(event)
        finally:
            self._inboxes.release(reserved)

    def _later(self, event: SystemEvent) -> None:
        self._due.setdefault(event, trio.current_time() + LATER_S)
        self._at_last.setdefault(event, self._due[event] + LINGER_S_MAX)
