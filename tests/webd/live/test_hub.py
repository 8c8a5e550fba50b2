"""The ring: whatever happens to a stream, its page ends equal to what is, without a double or a silent hole."""

import json
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from webd.live.hub import BEHIND_LOG_EVENTS_MAX, FLUSH_S, Hub, Reading
from webd.live.rows import HiveRow
from webd.live.world import Change
from webd.policy.topics import AGENTS, FLOW, HIVE, Cursor, parse_cursor

EPOCH = "ab12"
TOPICS = frozenset({AGENTS, FLOW})


class World:
    """Rows that come, change and go, and a log that only grows."""

    def __init__(self, hub: Hub, chance: random.Random) -> None:
        self.hub = hub
        self.chance = chance
        self.rows: dict[str, Any] = {}
        self.lines = 0

    def step(self) -> None:
        roll = self.chance.random()
        if roll < 0.5:
            name = f"a{self.chance.randrange(6)}"
            row = None if self.chance.random() < 0.15 else {"v": self.hub.seq}
            if row is None:
                self.rows.pop(name, None)
            else:
                self.rows[name] = row
            self.hub.publish([Change(AGENTS, row, key=name)])
        elif roll < 0.9:
            self.lines += 1
            self.hub.publish([Change(FLOW, {"id": self.lines})])
        elif roll < 0.97:
            self.hub.publish([Change("tail:iris", {"id": 0})])
        else:
            self.hub.break_off(FLOW)

    def snapshot(self) -> dict[str, Any]:
        return {
            AGENTS: dict(self.rows),
            FLOW: [{"id": n} for n in range(max(1, self.lines - 20), self.lines + 1)],
        }


class Page:
    """What a browser keeps of a stream, and what it noticed."""

    def __init__(self) -> None:
        self.cursor = ""
        self.rows: dict[str, Any] = {}
        self.last_line = 0
        self.doubles = 0
        self.holes = 0
        self.snapshots = 0

    def take(self, data: bytes) -> None:
        for frame in data.split(b"\n\n")[:-1]:
            fields = dict(line.split(b": ", 1) for line in frame.split(b"\n"))
            self.cursor = fields[b"id"].decode()
            said = json.loads(fields[b"data"])
            match fields[b"event"]:
                case b"snapshot":
                    self.snapshots += 1
                    self.rows = said[AGENTS]
                    self.last_line = max(self.last_line, said[FLOW][-1]["id"] if said[FLOW] else 0)
                case b"agents" if said["d"] is None:
                    self.rows.pop(said["k"], None)
                case b"agents":
                    self.rows[said["k"]] = said["d"]
                case b"flow":
                    self.holes += said["d"]["id"] > self.last_line + 1
                    self.doubles += said["d"]["id"] <= self.last_line
                    self.last_line = said["d"]["id"]


class Line:
    """One stream as webd writes it, over a connection that can break anywhere between two events."""

    def __init__(self, hub: Hub, world: World, page: Page) -> None:
        self.hub, self.world, self.page = hub, world, page
        cursor = parse_cursor(page.cursor)
        resumes = cursor is not None and hub.can_resume(TOPICS, cursor)
        self.reading = Reading(TOPICS, "root", cursor.seq if cursor and resumes else 0)
        self.needs_snapshot = not resumes

    def flush(self, cut: Callable[[int], int]) -> bool:
        """Write what is due; whether the connection held."""
        if self.needs_snapshot or not self.hub.can_continue(self.reading):
            self.needs_snapshot = False
            self.reading.seq = self.hub.seq
            data = self.hub.frame("snapshot", self.world.snapshot(), self.reading.seq)
        elif self.hub.has_news(self.reading):
            data = self.hub.read(self.reading)
        else:
            return True
        frames = data.split(b"\n\n")[:-1]
        whole = cut(len(frames))
        self.page.take(b"".join(frame + b"\n\n" for frame in frames[:whole]))
        return whole == len(frames)


@given(
    st.integers(0, 2**32).map(random.Random),
    st.sampled_from([5, 60, 5_000]),
    st.sampled_from([400, 1_000_000]),
)
def test_a_page_ends_equal_to_the_world(chance: random.Random, events_max: int, bytes_max: int) -> None:
    hub = Hub(EPOCH, events_max=events_max, bytes_max=bytes_max)
    world, pages = World(hub, chance), [Page(), Page()]
    lines = [Line(hub, world, page) for page in pages]
    for _ in range(40):
        for _ in range(chance.choice([0, 1, 5, 80])):
            world.step()
        hub.beat_now()
        for place, page in enumerate(pages):
            if chance.random() < 0.4:
                continue  # a slow reader
            if not lines[place].flush(
                lambda frames: chance.randint(0, frames) if chance.random() < 0.3 else frames
            ):
                lines[place] = Line(hub, world, page)
    hub.beat_now()
    for page in pages:
        final = Line(hub, world, page)
        final.flush(lambda frames: frames)
        assert page.rows == world.rows
        assert page.last_line == world.lines
        assert page.doubles == 0
        assert page.holes == 0


def test_streams_at_the_same_place_share_their_bytes() -> None:
    hub = Hub(EPOCH)
    hub.publish([Change(FLOW, {"id": 1})])
    hub.beat_now()
    first, second, other = (
        Reading(TOPICS, "root", 0),
        Reading(TOPICS, "root", 0),
        Reading(frozenset({FLOW}), "root", 0),
    )
    assert hub.read(first) is hub.read(second)
    assert hub.read(other)
    assert first.seq == second.seq == other.seq == 1


def test_only_the_last_row_of_a_key_is_sent_and_every_event_of_a_log() -> None:
    hub = Hub(EPOCH)
    for value in range(5):
        hub.publish([Change(AGENTS, {"v": value}, key="iris"), Change(FLOW, {"id": value})])
    hub.publish([Change("tail:iris", {"event": {}})])
    hub.beat_now()
    reading = Reading(TOPICS, "root", 0)
    sent = hub.read(reading)
    assert sent.count(b"event: flow\n") == 5
    assert sent.count(b"event: agents\n") == 1
    assert b'"v":4' in sent
    assert b"tail:iris" not in sent
    assert reading.seq == 11


def test_each_reader_is_called_by_its_own_name() -> None:
    hub = Hub(EPOCH)
    hub.publish([Change(HIVE, HiveRow("hive", "1"), key=HIVE)])
    hub.beat_now()
    names = [hub.read(Reading(frozenset({HIVE}), name, 0)) for name in ("ada", "grace")]
    assert b'"operator":"ada"' in names[0]
    assert b'"operator":"grace"' in names[1]


def test_news_wait_for_the_beat() -> None:
    hub = Hub(EPOCH)
    reading = Reading(TOPICS, "root", 0)
    hub.publish([Change(FLOW, {"id": 1})])
    assert not hub.has_news(reading)
    hub.beat_now()
    assert hub.has_news(reading)


def test_the_common_place_is_that_of_the_topics_every_page_follows() -> None:
    hub = Hub(EPOCH)
    hub.publish([Change(FLOW, {"id": 1}), Change("tail:iris", {}), Change("journal:iris", {})])
    assert (hub.common_seq, hub.seq) == (1, 3)


def test_a_place_of_another_run_or_ahead_of_this_one_is_no_place() -> None:
    hub = Hub(EPOCH)
    hub.publish([Change(FLOW, {"id": 1})])
    assert hub.can_resume(TOPICS, Cursor(EPOCH, 1))
    assert not hub.can_resume(TOPICS, Cursor("ffff", 1))
    assert not hub.can_resume(TOPICS, Cursor(EPOCH, 2))


def test_a_break_in_a_topic_is_one_for_its_readers_alone() -> None:
    hub = Hub(EPOCH)
    hub.publish([Change(FLOW, {"id": 1})])
    tail, flow = Reading(frozenset({"tail:iris"}), "root", 1), Reading(TOPICS, "root", 1)
    hub.break_off("tail:")
    assert not hub.can_continue(tail)
    assert hub.can_continue(flow)
    tail.seq = hub.seq
    assert hub.can_continue(tail)


def test_a_stream_far_behind_in_a_log_is_told_so() -> None:
    hub = Hub(EPOCH)
    hub.publish([Change(AGENTS, {}, key="iris")] * (BEHIND_LOG_EVENTS_MAX + 1))
    assert not hub.is_behind(Reading(TOPICS, "root", 0))
    hub.publish([Change(FLOW, {"id": 1})] * (BEHIND_LOG_EVENTS_MAX + 1))
    assert hub.is_behind(Reading(TOPICS, "root", 0))
    assert not hub.is_behind(Reading(frozenset({AGENTS}), "root", 0))


@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_streams_are_woken_at_most_ten_times_a_second() -> None:
    hub = Hub(EPOCH)
    woken: list[float] = []

    async def stream() -> None:
        while True:
            await hub.news()
            woken.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.beat)
        nursery.start_soon(stream)
        for number in range(100):
            hub.publish([Change(FLOW, {"id": number})])
            await trio.sleep(0.01)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    gaps = [after - before for before, after in pairwise(woken)]
    assert min(gaps) >= FLUSH_S * 0.99
    assert 9 <= len(woken) <= 12
