"""Entries are published in the order of their numbers, in whatever order their writers wake."""

import itertools

import msgspec
import pytest
import trio

from brokerd.live.feed import Feed, encoded_event
from brokerd.store import schema
from brokerd.store.feed import Entry, FeedLog, FeedPlace, durable_head, open_feed, read_after
from protocol.brokerd import AgentGone, FeedEvent
from runtime.log import logger
from runtime.store import Db, StoreShape, open_store, quick
from tests.brokerd.store.conftest import migrated, shape
from tests.support.quiet import settled
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
__all__ = ["migrated", "shape"]


def entry(seq: int) -> Entry:
    return Entry(seq, 1, "iris", AgentGone("iris"), b'{"kind":"agent_gone","name":"iris"}')


@pytest.mark.parametrize("order", list(itertools.permutations([[1], [2, 3], [4]])), ids=str)
async def test_early_entries_wait_for_the_ones_before(
    shape: StoreShape, order: tuple[list[int], ...]
) -> None:
    heard: list[int] = []
    async with open_store(shape, schema.migrate) as store:
        feed = Feed(store, FeedPlace("e", 0), lambda entry: heard.append(entry.seq), logger("test"))
        for numbers in order:
            feed._publish([entry(seq) for seq in numbers])
            assert heard == list(range(1, len(heard) + 1))
    assert heard == [1, 2, 3, 4]


def test_what_watchers_get_is_a_feed_event() -> None:
    event = encoded_event(7, 1_000, b'{"kind":"agent_gone","name":"iris"}')
    assert msgspec.json.decode(event, type=FeedEvent) == FeedEvent(7, 1_000, AgentGone("iris"))


@pytest.mark.parametrize("is_quick", [False, True])
async def test_many_writers_make_one_order(shape: StoreShape, is_quick: bool) -> None:
    """Those that fail leave no gap, whether they had said something or changed something before."""
    heard: list[int] = []
    answers: dict[int, int] = {}

    def say(db: Db, log: FeedLog, number: int) -> int:
        if number % 7 == 0:
            raise ZeroDivisionError
        seq = log.append("iris", AgentGone(f"a{number}"))
        if number % 11 == 0:
            raise ZeroDivisionError
        if number % 50 == 13:
            db.execute("UPDATE feed_state SET boot = ?", (str(number),))
            raise ZeroDivisionError
        return seq

    job = quick(say) if is_quick else say

    async with open_store(shape, schema.migrate) as store:
        place = await store.write(open_feed, "boot")
        feed = Feed(store, place, lambda entry: heard.append(entry.seq), logger("test"))

        async def write(number: int) -> None:
            try:
                answers[number] = await feed.write(job, number)
            except ZeroDivisionError:
                answers[number] = 0

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(write, number)
        stored = await store.read(read_after, 0)
        boot = await store.read(lambda db: db.execute("SELECT boot FROM feed_state").fetchone()[0])
        assert (await store.read(durable_head)).head == heard[-1]
    told = sorted(seq for seq in answers.values() if seq)
    assert heard == told == [entry.seq for entry in stored] == list(range(1, len(told) + 1))
    assert boot == "boot"


async def test_nobody_is_shown_an_entry_before_its_cause_is_stored(shape: StoreShape) -> None:
    """events.sqlite is committed first: a reader sees the entry, and after a kill just then it is taken back."""
    shown: list[int] = []

    def half_a_commit(db: Db) -> None:
        db.execute("INSERT INTO feed (at_ms, agent, durable, body) VALUES (1, 'iris', 1, x'7b7d')")

    async with open_store(shape, schema.migrate) as store:
        place = await store.write(open_feed, "boot")
        feed = Feed(store, place, lambda _: None, logger("test"))
        await feed.write(lambda _, log: log.append("iris", AgentGone("iris")))
        await store.write(half_a_commit)

        async def watch() -> None:
            async with feed.watch(place.epoch, 0) as events:
                async for event in events:
                    heard = msgspec.json.decode(event, type=FeedEvent)
                    shown.append(heard.seq)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await until(lambda: shown, what="the first entry")
            await store.read(lambda _: None)
            await settled()
            nursery.cancel_scope.cancel()
    assert shown == [1]
