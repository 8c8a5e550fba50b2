"""One stream on virtual time: its heartbeat, its rate, and how it ends."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from runtime.log import logger
from runtime.stopping import Stopping
from webd.live.hub import FLUSH_S, Hub
from webd.live.stream import HEARTBEAT_S, Stream
from webd.live.upstream import Picture
from webd.live.views import Views
from webd.live.world import Change, World
from webd.policy import rates
from webd.policy.topics import COMMON, FLOW
from webd.sessions import Session, Sessions

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Bench:
    """A stream into a list, with the time of each piece."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.hub = Hub("ab")
        self.picture = Picture(World("hive", "1"), self.hub, self.clock)
        self.views = Views(self.picture, None, None)  # type: ignore[arg-type]  # no tail, no journal
        self.sessions = Sessions(None, self.clock, logger("test"))  # type: ignore[arg-type]  # nothing is stored
        self.session = Session(1, "ada", "", "", 0, 0, b"", rates.full(rates.CHANGES_PER_SESSION, 0))
        self.session.began_ms = self.session.seen_ms = self.now_ms
        self.stopping = Stopping()
        self.sent: list[tuple[float, str, Any]] = []

    def clock(self) -> int:
        return self.now_ms

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        for frame in data.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in frame.split("\n") if line)
            if "event" in fields:
                self.sent.append((trio.current_time(), fields["event"], json.loads(fields["data"])))

    def names(self) -> list[str]:
        return [name for _, name, _ in self.sent]


@asynccontextmanager
async def streaming() -> AsyncIterator[Bench]:
    at = Bench()
    stream = Stream(at.views, at.sessions, at.session, at.stopping, COMMON, None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(at.hub.beat)
        nursery.start_soon(stream.feed, at.send)
        yield at
        nursery.cancel_scope.cancel()


async def test_a_silent_stream_beats_every_fifteen_seconds() -> None:
    async with streaming() as at:
        await trio.sleep(HEARTBEAT_S * 3 + 1)
        assert at.names() == ["snapshot", "hb", "hb", "hb"]


async def test_what_others_are_told_does_not_silence_the_heart() -> None:
    async with streaming() as at:
        for _ in range(200):
            at.hub.publish([Change("tail:iris", {})])
            await trio.sleep(0.1)
        assert at.names() == ["snapshot", "hb"]


async def test_news_put_the_heartbeat_off() -> None:
    async with streaming() as at:
        await trio.sleep(10)
        at.hub.publish([Change(FLOW, {"id": 1})])
        await trio.sleep(10)
        assert at.names() == ["snapshot", "flow"]
        await trio.sleep(10)
        assert at.names() == ["snapshot", "flow", "hb"]


async def test_a_busy_hive_is_told_ten_times_a_second() -> None:
    async with streaming() as at:
        await trio.sleep(1)
        for number in range(200):
            at.hub.publish([Change(FLOW, {"id": number})])
            await trio.sleep(0.01)
        await trio.sleep(1)
        moments = sorted({moment for moment, name, _ in at.sent if name == "flow"})
        assert [data["d"]["id"] for _, name, data in at.sent if name == "flow"] == list(range(200))
        assert len(moments) <= 2 / FLUSH_S + 2


async def test_the_stop_says_bye_and_ends_it() -> None:
    async with streaming() as at:
        await trio.sleep(1)
        at.stopping.set()
        await trio.sleep(0.01)
        assert at.sent[-1][1:] == ("bye", {"reason": "restart"})
        assert at.session.streams == 0


async def test_the_end_of_the_session_says_bye_and_ends_it() -> None:
    async with streaming() as at:
        await trio.sleep(1)
        assert at.session.streams == 1
        at.session.ending.set()
        await trio.sleep(0.01)
        assert at.sent[-1][1:] == ("bye", {"reason": "auth"})
        assert at.session.streams == 0


async def test_a_session_that_has_run_out_ends_its_stream() -> None:
    async with streaming() as at:
        await trio.sleep(1)
        at.now_ms += 13 * 3_600_000
        await trio.sleep(HEARTBEAT_S)
        assert at.sent[-1][1:] == ("bye", {"reason": "auth"})
