"""What a page or a stream begins with: the snapshot of its topics, and the place in the ring that it belongs to."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from webd.live.hub import Reading
from webd.live.journals import Journals
from webd.live.tails import Tails
from webd.live.upstream import Picture
from webd.policy.topics import (
    ACCOUNTS,
    AGENTS,
    BUILDS,
    COMMON,
    DEPLOYMENTS,
    DRAFTS,
    FLOW,
    HIVE,
    JOURNAL,
    KEPT,
    LIMITS,
    PARKED,
    PROPOSALS,
    QUESTIONS,
    REFUSALS,
    REMINDERS,
    TAIL,
)

UNREAD: Final = "unread"
"""Sent with the flow: what waits for the operator, however old."""
_SHARED: Final = COMMON | {UNREAD}


class Snapshot(Struct, frozen=True):
    """A snapshot as browsers get it, in a stream, in a page or by itself."""

    why: str
    now_ms: int
    topics: dict[str, Any]


class Views:
    """Snapshots. Encoded topics are kept while nothing has happened since, for the many who ask at the same moment."""

    def __init__(self, picture: Picture, tails: Tails, journals: Journals) -> None:
        self.picture = picture
        self._tails = tails
        self._journals = journals
        self._encoded: dict[tuple[str, str], Raw] = {}
        self._encoded_at = (-1, -1)
        self._encoder = msgspec.json.Encoder()

    @asynccontextmanager
    async def open(self, topics: frozenset[str]) -> AsyncIterator[None]:
        """Keep what these topics need beside the common picture, for as long as somebody looks."""
        async with AsyncExitStack() as kept:
            for topic in sorted(topics):
                if topic.startswith(TAIL):
                    await kept.enter_async_context(self._tails.open(topic.removeprefix(TAIL)))
                elif topic.startswith(JOURNAL):
                    await kept.enter_async_context(self._journals.open(topic.removeprefix(JOURNAL)))
            yield

    def snapshot(self, reading: Reading, why: str) -> Snapshot:
        """Everything of these topics as of now; the reading's place becomes now. No checkpoint."""
        reading.seq = self.picture.hub.seq
        now_ms = self.picture.now_ms()
        if (at := (reading.seq, now_ms // 1000)) != self._encoded_at:
            self._encoded.clear()
            self._encoded_at = at
        topics = {topic: self._raw(topic, reading.operator, now_ms) for topic in sorted(reading.topics)}
        if FLOW in topics:
            topics[UNREAD] = self._raw(UNREAD, reading.operator, now_ms)
        return Snapshot(why, now_ms, topics)

    def _raw(self, topic: str, operator: str, now_ms: int) -> Raw:
        if topic not in _SHARED:
            return Raw(self._encoder.encode(self._rows(topic, operator, now_ms)))
        place = (topic, operator if topic == HIVE else "")
        raw = self._encoded.get(place)
        if raw is None:
            raw = self._encoded[place] = Raw(self._encoder.encode(self._rows(topic, operator, now_ms)))
        return raw

    def _rows(self, topic: str, operator: str, now_ms: int) -> Any:
        world = self.picture.world
        if topic == HIVE:
            return {HIVE: replace(world.hive, operator=operator)}
        if topic in (kept := self._kept()):
            return kept[topic]
        if topic == FLOW:
            return world.flow.newest()
        if topic == UNREAD:
            return world.flow.wanting(now_ms)
        if topic == QUESTIONS:
            return world.questions.rows()
        if topic == REMINDERS:
            return world.schedules.rows()
        if topic.startswith(TAIL):
            return self._tails.rows(topic.removeprefix(TAIL))
        return self._journals.lines(topic.removeprefix(JOURNAL))

    def _kept(self) -> dict[str, Any]:
        """Topics whose rows the world keeps as they are shown."""
        world = self.picture.world
        limited, decisions = world.limited, world.decisions
        return {
            AGENTS: world.agents,
            KEPT: world.kept,
            DRAFTS: world.drafts,
            PARKED: world.parked,
            ACCOUNTS: limited.accounts,
            REFUSALS: limited.refusals,
            LIMITS: limited.hits,
            PROPOSALS: decisions.proposals,
            DEPLOYMENTS: decisions.deployments,
            BUILDS: decisions.builds,
        }
