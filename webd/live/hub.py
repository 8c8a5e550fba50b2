"""One ring of encoded events that every stream reads from: told once, encoded once, sent to many.

Publishing never waits. There is no queue per stream: a stream is a place in the ring (`Reading`), and what it gets at
the next beat is the slice behind that place, with only the last row of each key of a state topic (a slow reader skips
what is outdated anyway) and every event of a log topic. Streams at the same place share the very bytes.

A place that the ring no longer holds, or that lies before a break in one of its topics, cannot be read on from: the
stream then sends a snapshot. Taking a snapshot and noting its place has no checkpoint in between, so nothing is lost.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import trio

from webd.live.rows import HiveRow
from webd.live.world import Change
from webd.policy.topics import COMMON, HIVE, Cursor

RING_EVENTS_MAX: Final = 20_000
RING_BYTES_MAX: Final = 32 * 1024 * 1024
BEHIND_LOG_EVENTS_MAX: Final = 2_000
"""A stream further behind than so many events of log topics gets a snapshot instead."""
FLUSH_S: Final = 0.1
"""Streams are woken at most this often."""
SHARED_MAX: Final = 64
COMPACT_EVENTS: Final = 1_024

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the ring. `frame` is what every stream sends, unless the event differs by reader."""

    topic: str
    key: str | None
    frame: bytes
    personal: HiveRow | None = None


@dataclass(slots=True)
class Reading:
    """One stream's place: it has everything up to `seq`."""

    topics: frozenset[str]
    operator: str
    seq: int


class Hub:
    """The ring, its numbers and its beat. `epoch` names this run of webd: numbers of another mean nothing here."""

    def __init__(
        self, epoch: str, *, events_max: int = RING_EVENTS_MAX, bytes_max: int = RING_BYTES_MAX
    ) -> None:
        self.epoch = epoch
        self.seq = 0
        self.common_seq = 0
        """The newest event on a topic that every page follows."""
        self._events: list[Event] = []
        self._first = 1
        """The number of `_events[0]`; events before `_oldest` are only waiting to be removed."""
        self._oldest = 1
        self._bytes = 0
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._breaks: dict[str, int] = {}
        self._shared: dict[tuple[frozenset[str], str, int], bytes] = {}
        self._told = trio.Event()
        self._beat = trio.Event()
        self._beat_seq = 0
        """Streams are sent what was told up to here; the rest waits for the next beat."""

    def cursor(self, seq: int | None = None) -> Cursor:
        return Cursor(self.epoch, self.seq if seq is None else seq)

    def publish(self, changes: Iterable[Change]) -> int:
        """Tell some things; the number of the last one."""
        for change in changes:
            self.seq += 1
            if change.topic in COMMON:
                self.common_seq = self.seq
            event = self._event(change)
            self._events.append(event)
            self._bytes += len(event.frame)
        self._forget()
        self._told.set()
        return self.seq

    def break_off(self, *topics: str) -> None:
        """Nobody can read on over this point in these topics (`tail:` means every tail): streams take a snapshot."""
        self.seq += 1
        self._events.append(Event("", None, b""))
        for topic in topics:
            self._breaks[topic] = self.seq
        self._forget()
        self._told.set()

    def can_resume(self, topics: frozenset[str], cursor: Cursor) -> bool:
        """Whether a stream that stood there can be continued without a gap."""
        return cursor.epoch == self.epoch and cursor.seq <= self.seq and self._is_whole(topics, cursor.seq)

    def can_continue(self, reading: Reading) -> bool:
        """Whether everything that this stream has not sent is still here."""
        return self._is_whole(reading.topics, reading.seq)

    def _is_whole(self, topics: frozenset[str], seq: int) -> bool:
        return seq >= self._oldest - 1 and all(seq >= self._broken_at(topic) for topic in topics)

    def _broken_at(self, topic: str) -> int:
        kind = topic[: topic.find(":") + 1]
        return max(self._breaks.get(topic, 0), self._breaks.get(kind, 0) if kind else 0)

    def is_behind(self, reading: Reading) -> bool:
        """Whether so many log events wait for this stream that a snapshot is kinder."""
        if self.seq - reading.seq <= BEHIND_LOG_EVENTS_MAX:
            return False
        waiting = self._events[reading.seq + 1 - self._first :]
        logs = sum(1 for event in waiting if event.key is None and event.topic in reading.topics)
        return logs > BEHIND_LOG_EVENTS_MAX

    def has_news(self, reading: Reading) -> bool:
        return reading.seq < self._beat_seq

    def read(self, reading: Reading) -> bytes:
        """What was told before this beat and not yet sent; moves the place, which must be one to continue from."""
        place = (reading.topics, reading.operator, reading.seq)
        data = self._shared.get(place)
        if data is None:
            data = self._slice(reading)
            if len(self._shared) < SHARED_MAX:
                self._shared[place] = data
        reading.seq = self._beat_seq
        return data

    def _slice(self, reading: Reading) -> bytes:
        waiting = self._events[reading.seq + 1 - self._first : self._beat_seq + 1 - self._first]
        chosen: dict[tuple[str, str | int], tuple[int, Event]] = {}
        for number, event in enumerate(waiting, start=reading.seq + 1):
            if event.topic in reading.topics:
                slot = (event.topic, number if event.key is None else event.key)
                chosen.pop(slot, None)
                chosen[slot] = (number, event)
        return b"".join(self._numbered(number, event, reading.operator) for number, event in chosen.values())

    def _numbered(self, number: int, event: Event, operator: str) -> bytes:
        if event.personal is None:
            return event.frame
        row = msgspec.structs.replace(event.personal, operator=operator)
        return self.frame(event.topic, {"k": event.key, "d": row}, number)

    def frame(self, name: str, data: Any, seq: int | None = None) -> bytes:
        """One event as a stream carries it."""
        encoded = _encoder.encode(data)
        return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(self.cursor(seq)).encode(), name.encode(), encoded)

    def _event(self, change: Change) -> Event:
        if change.topic == HIVE:
            return Event(change.topic, change.key, b"", change.data)
        body = {"d": change.data} if change.key is None else {"k": change.key, "d": change.data}
        return Event(change.topic, change.key, self.frame(change.topic, body, self.seq))

    def _forget(self) -> None:
        """Let the oldest events go, so many that the bounds hold."""
        while self.seq - self._oldest + 1 > self._events_max or self._bytes > self._bytes_max:
            self._bytes -= len(self._events[self._oldest - self._first].frame)
            self._oldest += 1
        if self._oldest - self._first >= COMPACT_EVENTS:
            del self._events[: self._oldest - self._first]
            self._first = self._oldest

    async def beat(self) -> None:
        """For as long as webd lives: wake the streams when something was told, at most every FLUSH_S."""
        while True:
            await self._told.wait()
            self._told = trio.Event()
            self.beat_now()
            await trio.sleep(FLUSH_S)

    def beat_now(self) -> None:
        self._beat_seq = self.seq
        self._shared.clear()
        woken, self._beat = self._beat, trio.Event()
        woken.set()

    async def news(self) -> None:
        """Wait for the next beat."""
        await self._beat.wait()
