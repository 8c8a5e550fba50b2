"""What is done behind the sends: messages are taken into the index, and the depths of inboxes are noted.

Sends come first: while there are any, the index gets a small part of the writer's time, however far behind it is. Who
asks meanwhile finds what is not in the index all the same (brokerd.store.search, history, traffic).
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from brokerd.live.feed import Feed
from brokerd.live.inboxes import Inboxes
from brokerd.live.room import Room
from brokerd.store import behind, traffic
from protocol.names import OPERATOR, SYSTEM
from protocol.problem import Problem, Refused
from runtime.clock import now_ms
from runtime.log import Log
from runtime.store import Store

LOOK_S: Final = 1.0
"""How long a message waits for the index at most, when there is nothing else to do."""
ROWS: Final = 64
"""Messages in one transaction."""
PAUSE_BUSY: Final = 9.0
"""After a transaction, so many times as long as it took, when anything else was written meanwhile."""
PAUSE_IDLE: Final = 1.0
NOTE_S: Final = 60.0
"""How often the depths of inboxes are noted; what memory knows since then is added to every reply."""
FULL_S: Final = 10.0


class Behind:
    """The index's own two tasks."""

    def __init__(self, store: Store, feed: Feed, inboxes: Inboxes, room: Room, log: Log) -> None:
        self._store = store
        self._feed = feed
        self._inboxes = inboxes
        self._room = room
        self._log = log
        self.must_begin_anew = False
        """Whether, at the start, it knew messages that are not there (brokerd.store.behind)."""
        self._is_told = False
        """Whether it was said that there is no room."""

    async def follow(self) -> None:
        """For ever: take in what was sent."""
        while not await self._surely(self.begin):
            continue
        seen = -1
        while True:
            if self._feed.published != seen:
                seen = self._feed.published
                if not await self._surely(self.catch_up):
                    seen = -1
            await trio.sleep(LOOK_S)

    async def begin(self) -> None:
        """Once, before anything is taken in."""
        if self.must_begin_anew:
            await self._store.write(behind.begin_anew)
            self.must_begin_anew = False
            self._log.warning("the index knew messages that are not there; it is made anew")

    async def catch_up(self) -> None:
        """Take in all that is on disk by now."""
        upto = await self._store.read(behind.last_message)
        head = await self._store.read(behind.head)
        while head < upto:
            began, published = trio.current_time(), self._feed.published
            head = await self._store.write(behind.catch_up, upto, ROWS)
            pause = PAUSE_IDLE if published == self._feed.published else PAUSE_BUSY
            await trio.sleep((trio.current_time() - began) * pause)

    async def note_depths(self) -> None:
        """For ever: note how deep inboxes were."""
        while True:
            await trio.sleep(NOTE_S)
            await self._surely(self.note_inboxes)

    async def note_inboxes(self) -> None:
        """Note how deep inboxes were since the last time."""
        peaks = {name: peak for name, peak in self._inboxes.peaks().items() if name not in (OPERATOR, SYSTEM)}
        if peaks:
            await self._store.write(traffic.note_inboxes, peaks, now_ms())
            self._inboxes.noted(peaks)

    async def _surely(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Whether it was done; a full disk is waited out, and the last of it is left to what settles."""
        try:
            self._room.check()
            await work()
        except Refused as refused:
            if refused.problem is not Problem.STORAGE_FULL:
                raise
            if not self._is_told:
                self._log.warning("the index waits for room on the disk", reason=refused.detail)
            self._is_told = True
            await trio.sleep(FULL_S)
            return False
        self._is_told = False
        return True
