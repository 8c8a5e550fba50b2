"""The sweep: all that is over goes, nothing else, and whoever sends meanwhile is let through."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
import trio
from trio.testing import MockClock

from brokerd.live import sweeping
from brokerd.live.sweeping import Sweeping
from brokerd.policy.retention import DAY_MS, Retention
from brokerd.store import behind, deliveries, messages, schema, traffic, turn_events, turns
from brokerd.store.feed import FeedLog, open_feed
from brokerd.store.turns import Beginning, Ending
from protocol.problem import Refused
from protocol.turns import Outcome, Said
from runtime.clock import now_ms
from runtime.log import logger
from runtime.store import Db, Store, StoreShape, connect, open_store
from tests.brokerd.hive import Hive
from tests.brokerd.store.conftest import migrated, shape
from tests.brokerd.store.drafts import draft
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
__all__ = ["migrated", "shape"]

NOW = 1_000 * DAY_MS
OLD = NOW - 91 * DAY_MS
TABLES = ("messages", "deliveries", "turns", "turn_events", "keys", "history", "words_docsize", "traffic")


@asynccontextmanager
async def opened(shape: StoreShape) -> AsyncIterator[Store]:
    async with open_store(shape, schema.migrate) as store:
        await store.write(open_feed, "boot")
        yield store


def lived(db: Db, at_ms: int, count: int) -> None:
    """So many messages, each read to its end by a turn with two events."""
    log = FeedLog(db, at_ms)
    for sent in messages.send(db, log, [draft("atlas", ("iris",)) for _ in range(count)]):
        delivery = deliveries.id_of(sent.message, 0)  # type: ignore[union-attr]  # nothing speaks against it
        (turn,) = turns.begin(db, log, [Beginning("iris", delivery, "a" * 32)])
        assert not isinstance(turn, Refused)
        events = [Said(n=n, at_ms=at_ms, text="x") for n in range(2)]
        turn_events.publish(db, log, "iris", turn, events)
        turns.end(db, log, "iris", turn, Ending(Outcome.DONE))
    log.flush(durable=True)
    traffic.note_inboxes(db, {"iris": 1}, at_ms)
    behind.catch_up(db, behind.last_message(db), 10_000)


def known(db: Db) -> None:
    for name in ("iris", "atlas"):
        db.execute(
            "INSERT INTO agents (name, role, harness_uid, settings, since_ms) VALUES (?, 'agent', 1, x'', 0)",
            (name,),
        )


def counts(db: Db) -> list[int]:
    return [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES]


async def test_everything_goes_when_its_time_has_come(shape: StoreShape) -> None:
    async with opened(shape) as store:
        await store.write(known)
        await store.write(lived, OLD, 30)
        sweep = Sweeping(store, Retention(), logger("test"))
        assert await sweep.sweep(OLD + 29 * DAY_MS) == {}
        before = await store.read(counts)
        assert before[:4] == [30, 30, 30, 60]
        assert await sweep.sweep(OLD + 31 * DAY_MS) == {"turn_events": 60, "keys": 30}
        gone = await sweep.sweep(NOW)
        assert gone == {"messages": 30, "turns": 29, "statistics": before[-1]}
        assert sum(await store.read(counts)) == 1  # iris's last turn
        assert await sweep.sweep(NOW) == {}
        await store.write(lambda db: db.execute("DELETE FROM agents WHERE name = 'iris'").rowcount)
        assert await sweep.sweep(NOW) == {"turns": 1}
        assert await store.read(counts) == [0] * len(TABLES)


async def test_the_settings_say_how_long(shape: StoreShape) -> None:
    async with opened(shape) as store:
        await store.write(known)
        await store.write(lived, NOW - 3 * DAY_MS, 5)
        kept = Retention(messages_days=2, turns_days=4, turn_events_days=4, keys_days=4)
        assert await Sweeping(store, kept, logger("test")).sweep(NOW) == {"messages": 5}


async def test_what_is_open_stays_however_old_it_is(shape: StoreShape) -> None:
    async with opened(shape) as store:
        await store.write(known)
        await store.write(lived, OLD, 5)

        def reopen(db: Db) -> None:
            db.execute("UPDATE deliveries SET state = 'queued' WHERE id = 2 << 7")

        await store.write(reopen)
        await Sweeping(store, Retention(), logger("test")).sweep(NOW)
        assert (await store.read(counts))[:2] == [1, 1]


async def test_those_who_send_meanwhile_are_let_through(unserved: Hive, clock: MockClock) -> None:
    """Brokerd's own task, and one sender who never stops: between any two steps of the sweep somebody was served."""
    async with unserved.broker():
        await unserved.send("operator", "hm1nd", "kept")
    shape = schema.shape_of(unserved.settings.database, unserved.settings.events_database)
    with closing(connect(shape)) as db:
        lived(db, now_ms() - 91 * DAY_MS, 200)
    sent: list[int] = []
    left: list[int] = []
    async with unserved.broker(), trio.open_nursery() as nursery:

        async def keep_sending() -> None:
            while True:
                await trio.sleep(0.001)
                sent.append((await unserved.send("operator", "iris", "new")).message)

        async def swept() -> bool:
            with unserved.reader() as db:
                count: int = db.execute("SELECT count(*) FROM messages WHERE body = 'hello'").fetchone()[0]
            left.append(count)
            return count == 0

        clock.jump(sweeping.FIRST_S)
        nursery.start_soon(keep_sending)
        await until(swept, what="the old messages to go")
        nursery.cancel_scope.cancel()
    assert len(set(left)) > 2, "it was not done in steps"
    with unserved.reader() as db:
        bodies = [row["body"] for row in db.execute("SELECT body FROM messages ORDER BY id")]
    assert len(sent) >= sweeping.ROWS_OF_MESSAGE
    assert bodies[0] == "kept"
    assert bodies[1:] in (["new"] * len(sent), ["new"] * (len(sent) + 1))
