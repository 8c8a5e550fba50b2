"""The way of every change: into the database with its feed entries, then, in their order, to everybody who watches.

Callers wake in no particular order after a commit. An entry is published only when all before it were, so watchers,
and the inboxes that are woken by it, see one order: that of the numbers.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Concatenate, Final, Generic, ParamSpec, TypeVar

import trio
from msgspec import Raw, Struct

from brokerd.live.room import Room
from brokerd.store import feed as stored
from brokerd.store.feed import Entry, FeedGroup, FeedLog, FeedPlace, StoredEntry
from protocol.limits import FEED_BACKLOG_ROWS_MAX
from protocol.problem import Problem, Refused
from runtime.backoff import delays
from runtime.clock import now_ms
from runtime.fanout import Fanout, Watcher
from runtime.log import Log
from runtime.store import Db, Store, is_quick

P = ParamSpec("P")
T = TypeVar("T")

Job = Callable[Concatenate[Db, FeedLog, P], T]

FULL_FIRST_S: Final = 0.5
FULL_MAX_S: Final = 10.0
TRIM_ROWS: Final = 500
"""Old entries that are removed in one transaction."""


class Published(Struct, frozen=True, gc=False):
    """An entry as watchers get it: a FeedEvent, encoded once."""

    seq: int
    event: Raw


class Feed:
    """Changes the database and tells everybody. `arrived` is called for each entry, in order, before its watchers."""

    def __init__(
        self,
        store: Store,
        place: FeedPlace,
        arrived: Callable[[Entry], None],
        log: Log,
        room: Room | None = None,
    ) -> None:
        self.epoch = place.epoch
        self.published = place.head
        self._store = store
        self._arrived = arrived
        self._log = log
        self._room = room
        self._early: dict[int, Entry] = {}
        self._group = FeedGroup()
        store.group_ends.append(self._group)
        self._watchers: Fanout[Published] = Fanout(size_of=_size_of)

    async def write(self, job: Job[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `job(db, log, …)` in the writer's next transaction; when it returns, all is on disk.

        On a full disk it is tried once more, with the room that is kept for what settles.
        """
        run = _Change(lambda db, log: job(db, log, *args, **kwargs), is_quick=is_quick(job))
        try:
            return await self._run(run)
        except Refused as refused:
            if not self._may_try_again(refused, settling=True):
                raise
        return await self._run(run)

    async def write_new(self, job: Job[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for what is new and can be refused."""
        run = _Change(lambda db, log: job(db, log, *args, **kwargs), is_quick=is_quick(job))
        try:
            return await self._run(run)
        except Refused as refused:
            self._may_try_again(refused, settling=False)
            raise

    async def write_events(self, job: Job[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for a job that changes nothing but events.sqlite."""
        return await self._run(
            _Change(lambda db, log: job(db, log, *args, **kwargs), is_quick=is_quick(job), durable=False)
        )

    async def write_surely(self, job: Job[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `write`, for what nobody asked for and nobody would ask again: a full disk is waited out."""
        for wait_s in delays(FULL_FIRST_S, FULL_MAX_S):
            try:
                return await self.write(job, *args, **kwargs)
            except Refused as refused:
                if refused.problem is not Problem.STORAGE_FULL:
                    raise
                self._log.error("the disk is full; trying on", again_s=round(wait_s, 1))
            await trio.sleep(wait_s)
        raise AssertionError("delays never end")

    def _may_try_again(self, refused: Refused, *, settling: bool) -> bool:
        if refused.problem is not Problem.STORAGE_FULL or self._room is None:
            return False
        return self._room.ran_out(settling=settling)

    async def _run(self, change: "_Change[T]") -> T:
        write = self._store.write_quickly if change.is_quick else self._store.write
        result, entries = await write(_logged, now_ms(), change, self._group)
        self._publish(entries)
        return result

    def _publish(self, entries: list[Entry]) -> None:
        """No checkpoint between the commit and here: what is on disk is published, or the process is going down."""
        for entry in entries:
            self._early[entry.seq] = entry
        while (next_entry := self._early.pop(self.published + 1, None)) is not None:
            self.published += 1
            self._arrived(next_entry)
            if self._watchers:
                event = encoded_event(next_entry.seq, next_entry.at_ms, next_entry.encoded)
                self._watchers.publish(Published(next_entry.seq, event))

    @asynccontextmanager
    async def watch(self, epoch: str, since: int) -> AsyncIterator[AsyncIterator[Raw]]:
        """Everything after `since`: first what is stored, then what happens. `not_found` when there would be a gap."""
        await self._store.read(stored.check_place, epoch, since)
        with self._watchers.subscribed() as live:
            async with aclosing(self._follow(since, live)) as events:
                yield events

    async def _follow(self, since: int, live: Watcher[Published]) -> AsyncGenerator[Raw, None]:
        upto = (
            self.published
        )  # a reader may see further: entries whose cause is still on its way into the other file
        while since < upto and (page := await self._store.read(stored.read_after, since, upto)):
            since = page[-1].seq
            for entry in page:
                if self._is_readable(entry):
                    yield encoded_event(entry.seq, entry.at_ms, entry.encoded)
        async for published in live:
            if published.seq > since:
                yield published.event

    def _is_readable(self, entry: StoredEntry) -> bool:
        if entry.fault:
            self._log.error("a feed entry cannot be read", seq=entry.seq, fault=entry.fault)
        return not entry.fault

    async def trim(self) -> None:
        """Remove entries that nobody may ask for any more, in steps that hold up no send."""
        oldest_kept = self.published - FEED_BACKLOG_ROWS_MAX
        while await self._store.write(stored.forget_before, oldest_kept, TRIM_ROWS) == TRIM_ROWS:
            continue


def _size_of(published: Published) -> int:
    return len(memoryview(published.event))


class _Change(Generic[T]):
    """A job with its arguments. `durable` when it changes broker.sqlite."""

    __slots__ = ("durable", "is_quick", "run")

    def __init__(self, run: Callable[[Db, FeedLog], T], *, is_quick: bool, durable: bool = True) -> None:
        self.run = run
        self.is_quick = is_quick
        self.durable = durable


def _logged(db: Db, at_ms: int, change: _Change[T], group: FeedGroup) -> tuple[T, list[Entry]]:
    log = FeedLog(db, at_ms, group)
    result = change.run(db, log)
    log.flush(durable=change.durable)
    return result, log.entries


def encoded_event(seq: int, at_ms: int, body: bytes) -> Raw:
    """A FeedEvent around a body that is JSON already."""
    return Raw(b'{"seq":%d,"at_ms":%d,"body":%b}' % (seq, at_ms, body))
