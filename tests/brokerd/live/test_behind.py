"""The index's own tasks: everything is taken in, a full disk is waited out, and depths are noted once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from brokerd.live import behind as live
from brokerd.live.behind import Behind
from brokerd.live.feed import Feed
from brokerd.live.inboxes import Inboxes
from brokerd.live.room import Room
from brokerd.settings import BrokerSettings
from brokerd.store import behind, messages, schema
from brokerd.store.feed import open_feed
from protocol.problem import Problem, Refused
from runtime.log import logger
from runtime.store import Db, Store, StoreShape, open_store
from tests.brokerd.store.conftest import migrated, shape
from tests.brokerd.store.drafts import draft

pytestmark = pytest.mark.anyio
__all__ = ["migrated", "shape"]


class Desk:
    """A store with its feed, its inboxes and the index's tasks."""

    def __init__(self, store: Store, feed: Feed, inboxes: Inboxes, room: Room) -> None:
        self.store = store
        self.feed = feed
        self.inboxes = inboxes
        self.behind = Behind(store, feed, inboxes, room, logger("test"))


@asynccontextmanager
async def desk(shape: StoreShape) -> AsyncIterator[Desk]:
    settings = BrokerSettings(state=str(shape.path.parent), run="/run/hive")
    async with open_store(shape, schema.migrate) as store:
        place = await store.write(open_feed, "boot")
        inboxes = Inboxes({})
        room = Room(settings, logger("test"))
        feed = Feed(store, place, inboxes.follow, logger("test"), room)
        yield Desk(store, feed, inboxes, room)


async def test_everything_is_taken_in_however_much_it_is(shape: StoreShape) -> None:
    async with desk(shape) as made:
        count = 2 * live.ROWS + 5
        await made.feed.write(messages.send, [draft() for _ in range(count)])
        await made.behind.catch_up()
        assert await made.store.read(behind.head) == count


async def test_depths_are_noted_and_begin_anew(shape: StoreShape) -> None:
    def noted(db: Db) -> list[tuple[str, int]]:
        rows = db.execute("SELECT DISTINCT agent, inbox_max FROM traffic ORDER BY agent")
        return [(row["agent"], row["inbox_max"]) for row in rows]

    async with desk(shape) as made:
        await made.behind.note_inboxes()
        assert await made.store.read(noted) == []
        await made.feed.write(messages.send, [draft("iris", ("atlas", "operator")) for _ in range(3)])
        made.inboxes.of("atlas").open -= 2
        await made.behind.note_inboxes()
        assert await made.store.read(noted) == [("atlas", 3)]
        assert made.inboxes.peaks() == {"atlas": 1, "operator": 3}


async def test_what_is_deeper_since_it_was_read_is_not_lost() -> None:
    inboxes = Inboxes({"iris": 2})
    peaks = inboxes.peaks()
    inboxes.of("iris").open = inboxes.of("iris").peak = 5
    inboxes.of("iris").open = 1
    inboxes.noted(peaks)
    assert inboxes.peaks() == {"iris": 5}
    inboxes.noted({"iris": 5})
    assert inboxes.peaks() == {"iris": 1}


async def test_a_full_disk_is_waited_out_and_anything_else_is_loud(
    shape: StoreShape, monkeypatch: pytest.MonkeyPatch, clock: MockClock
) -> None:
    tries: list[Problem] = []
    answers = iter([Problem.STORAGE_FULL, Problem.STORAGE_FULL, Problem.FAILED])

    def catch_up(db: Db, upto: int, limit: int) -> int:
        tries.append(next(answers))
        raise Refused(tries[-1], "as a test has it")

    monkeypatch.setattr(behind, "catch_up", catch_up)
    monkeypatch.setattr(live, "FULL_S", 0.0)
    monkeypatch.setattr(live, "LOOK_S", 0.0)
    async with desk(shape) as made:
        await made.feed.write(messages.send, [draft()])
        with trio.fail_after(60), pytest.raises(Refused, match="as a test has it"):
            await made.behind.follow()
    assert tries == [Problem.STORAGE_FULL, Problem.STORAGE_FULL, Problem.FAILED]
