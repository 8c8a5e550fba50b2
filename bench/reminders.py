"""P8: 10 000 reminders due in the same second among a million pending, the look for what is due, and sends meanwhile.

Ours is the scheduler of brokerd with its feed and its store, from its start until the last of the messages is on disk
and told. The reference leaves the same rows in the same files by a handful of statements in one transaction; beside it
stands brokerd's own job, doing all of them at once.
"""

import json
import sqlite3
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path

import trio

from bench.hive import hive
from bench.measure import PAYLOAD, Variant, compare, report
from bench.parked import SETTLE_S, memory_kb, process_at
from bench.processes import on_disk
from brokerd.live import scheduler
from brokerd.live.feed import Feed
from brokerd.live.inboxes import Inboxes
from brokerd.live.outbox import Outbox
from brokerd.live.room import Room
from brokerd.live.scheduler import Scheduler
from brokerd.settings import BrokerSettings
from brokerd.store import firing, reminders, schema, wal
from brokerd.store.feed import Entry, open_feed
from brokerd.store.keys import Asked
from brokerd.store.messages import Draft
from protocol.brokerd import MessageSent
from protocol.messages import SystemEvent
from protocol.names import OPERATOR
from runtime.clock import new_request_key
from runtime.log import logger
from runtime.store import Store, StoreShape, connect, open_store

DUE = 10_000
PENDING = 1_000_000
PENDING_USUAL = 100_000
FEW_PENDING = 1_000
AGENTS = 100
LOOKS = 2_000
SENDS_ALONE = 200
LATER_MS = 4_000_000_000_000
NOW_MS = 3_000_000_000_000
BEGAN = time.perf_counter()

INSERT = (
    "INSERT INTO reminders (agent, set_by, body, schedule, recurs, state, created_ms, changed_ms, next_ms) "
    "VALUES (?, 'operator', ?, ?, 0, 'active', 1, 1, ?)"
)
FIND_DUE = (
    "CREATE TEMP TABLE due AS SELECT row_number() OVER (ORDER BY next_ms, id) AS n, id, agent, set_by, body, "
    "schedule, created_ms, next_ms FROM reminders WHERE state = 'active' AND next_ms <= :now"
)
SET_BASED = (
    (
        "INSERT INTO messages (id, sender, addressed_to, broadcast, body, sent_ms, event, about, hops) "
        "SELECT :message + n, set_by, agent, 0, body, :now, 'reminder', id, 0 FROM due"
    ),
    (
        "INSERT INTO deliveries (id, recipient, state, changed_ms, bytes) "
        "SELECT ((:message + n) << 7) + 127, agent, 'queued', :now, length(body) FROM due"
    ),
    (
        "INSERT INTO occurrences (reminder, due_ms, by_hand, agent, message, state, at_ms, changed_ms) "
        "SELECT id, next_ms, 0, agent, :message + n, 'waiting', :now, :now FROM due"
    ),
    (
        "UPDATE reminders SET state = 'ended', next_ms = NULL, last_ms = :now, attempted = attempted + 1, "
        "waiting = :message + due.n, changed_ms = :now FROM due WHERE reminders.id = due.id"
    ),
    (
        "INSERT INTO feed (seq, at_ms, agent, durable, body) SELECT :seq + n, :now, set_by, 1, "
        "CAST(json_object('kind', 'message_sent', 'message', json_object('id', :message + n, 'thread', :message + n, "
        "'in_reply_to', NULL, 'sender', set_by, 'to', agent, 'broadcast', json('false'), 'body', body, "
        "'sent_ms', :now, 'deliveries', json_array(json_object('id', ((:message + n) << 7) + 127, "
        "'message', :message + n, 'recipient', agent, 'state', 'queued', 'turn', NULL, 'attempts', 0, "
        "'changed_ms', :now)), 'event', 'reminder', 'about', id, 'hops', 0), "
        "'fired', json_object('id', id, 'agent', agent, "
        "'set_by', set_by, 'body', body, 'schedule', json(CAST(schedule AS TEXT)), 'state', 'ended', "
        "'created_ms', created_ms, 'only_if', NULL, 'next_ms', NULL, 'last_ms', :now, 'attempted', 1, "
        "'delivered', 0, 'failed', 0, 'skipped', 0)) AS BLOB) FROM due"
    ),
    "UPDATE reminder_clock SET at_ms = :now",
    "UPDATE feed_state SET head = :seq + :count",
)
LEFT = (
    "SELECT count(*), sum(length(body)) FROM messages",
    "SELECT count(*), sum(bytes) FROM deliveries WHERE state = 'queued' AND (id & 127) = 127",
    "SELECT count(*), count(message) FROM occurrences",
    "SELECT count(*), sum(attempted) FROM reminders WHERE state = 'ended'",
    "SELECT count(*), count(DISTINCT json_extract(body, '$.kind')) FROM feed",
)


class Hoard:
    """brokerd's databases with so many reminders that are due in a thousand years."""

    def __init__(self, folder: Path, pending: int) -> None:
        folder.mkdir()
        self.folder = folder
        self.shape: StoreShape = schema.shape_of(folder / "broker.sqlite", folder / "events.sqlite")
        schema.migrate(self.shape.path, self.shape)
        with self.opened() as db:
            db.execute("BEGIN")
            open_feed(db, "bench")
            once = b'{"kind":"once","at_ms":4000000000000}'
            later = ((f"a{n % AGENTS:02}", "look", once, LATER_MS + n) for n in range(pending))
            db.executemany(INSERT, later)
            db.execute("COMMIT")

    def opened(self) -> "closing[sqlite3.Connection]":
        return closing(connect(self.shape))

    def become_due(self) -> None:
        """Another ten thousand, all in one second; the write-ahead log is emptied before it counts."""
        with self.opened() as db:
            db.execute("BEGIN")
            once = b'{"kind":"once","at_ms":2999999999000}'
            due = ((f"a{n % AGENTS:02}", PAYLOAD, once, NOW_MS - 1_000 + n // 10) for n in range(DUE))
            db.executemany(INSERT, due)
            db.execute("COMMIT")
            for name in ("main", schema.BROKER):
                db.execute(f"PRAGMA {name}.wal_checkpoint(TRUNCATE)")

    def left(self) -> list[tuple[int, ...]]:
        with self.opened() as db:
            return [tuple(db.execute(query).fetchone()) for query in LEFT]


class Brokerd:
    """The parts of brokerd that fire reminders, on one hoard; counts the messages of reminders that it told."""

    def __init__(self, hoard: Hoard, store: Store) -> None:
        self.fired = 0
        self.all_fired = trio.Event()
        self.inboxes = Inboxes({})
        self.store = store
        self.hoard = hoard

    async def open(self) -> None:
        log = logger("bench")
        place = await self.store.write(open_feed, "bench")
        for _ in range(wal.STEPS):
            await self.store.write(wal.grow)
        await self.store.write(wal.finish)
        self.feed = Feed(self.store, place, self._arrived, log)
        self.outbox = Outbox(self.feed, self.inboxes)
        folder = str(self.hoard.folder)
        room = Room(BrokerSettings(state=folder, run=folder), log)
        self.scheduler = Scheduler(self.feed, self.store, self.inboxes, room, log, self._wall)

    def _wall(self) -> int:
        return NOW_MS + round((time.perf_counter() - BEGAN) * 1_000)

    def _arrived(self, entry: Entry) -> None:
        self.inboxes.follow(entry)
        if isinstance(entry.body, MessageSent) and entry.body.message.event is SystemEvent.REMINDER:
            self.fired += 1
            if self.fired == DUE:
                self.all_fired.set()

    async def send(self) -> float:
        """One message of somebody else's; how long that took, in microseconds."""
        began = time.perf_counter()
        await self.outbox.send(
            Draft(
                Asked(OPERATOR, bytes.fromhex(new_request_key())),
                b"d" * 16,
                "a00",
                ("a00",),
                False,
                PAYLOAD,
                None,
            )
        )
        return (time.perf_counter() - began) * 1e6


@asynccontextmanager
async def brokerd(hoard: Hoard) -> AsyncIterator[Brokerd]:
    async with open_store(hoard.shape, schema.migrate) as store:
        made = Brokerd(hoard, store)
        await made.open()
        yield made


@contextmanager
def batches_of(reminders_max: int) -> Iterator[None]:
    """So many fire in one transaction, instead of as many as in brokerd."""
    usual, scheduler.FIRED_PER_JOB_MAX = scheduler.FIRED_PER_JOB_MAX, reminders_max  # type: ignore[misc]  # what is compared is another size
    try:
        yield
    finally:
        scheduler.FIRED_PER_JOB_MAX = usual  # type: ignore[misc]  # what is compared is another size


def by_the_scheduler(hoard: Hoard, batch: int = scheduler.FIRED_PER_JOB_MAX) -> dict[str, float]:
    async def fire() -> float:
        async with brokerd(hoard) as made, trio.open_nursery() as nursery:
            began = time.perf_counter()
            nursery.start_soon(made.scheduler.run)
            await made.all_fired.wait()
            spent = time.perf_counter() - began
            nursery.cancel_scope.cancel()
        return spent

    hoard.become_due()
    with batches_of(batch):
        return {"all_ms": trio.run(fire) * 1_000}


def in_one_transaction(hoard: Hoard) -> dict[str, float]:
    hoard.become_due()
    with hoard.opened() as db:
        db.execute("PRAGMA temp_store = MEMORY")
        for _ in range(wal.STEPS):
            db.execute("BEGIN IMMEDIATE")
            wal.grow(db)
            db.execute("COMMIT")
        began = time.perf_counter()
        db.execute("BEGIN IMMEDIATE")
        db.execute(FIND_DUE, {"now": NOW_MS})
        values = {
            "now": NOW_MS,
            "message": last(db, "broker.sqlite_sequence", "messages"),
            "seq": last(db, "main.sqlite_sequence", "feed"),
            "count": DUE,
        }
        for statement in SET_BASED:
            db.execute(statement, values)
        db.execute("COMMIT")
        spent = time.perf_counter() - began
    return {"all_ms": spent * 1_000}


def last(db: sqlite3.Connection, table: str, name: str) -> int:
    row = db.execute(f"SELECT seq FROM {table} WHERE name = ?", (name,)).fetchone()
    return row["seq"] if row else 0


def look(hoard: Hoard) -> dict[str, float]:
    """What the scheduler asks before it sleeps, and for a batch while nothing is due."""
    spent: list[float] = []
    with hoard.opened() as db:
        for _ in range(LOOKS):
            began = time.perf_counter()
            reminders.next_due(db)
            firing.find_due(db, NOW_MS, scheduler.DUE_MAX)
            spent.append((time.perf_counter() - began) * 1e6)
    return {"look_us": statistics.median(spent)}


def send_alone(hoard: Hoard) -> dict[str, float]:
    async def send() -> list[float]:
        async with brokerd(hoard) as made:
            return [await made.send() for _ in range(SENDS_ALONE)]

    return latencies(trio.run(send))


def send_meanwhile(hoard: Hoard, batch: int) -> dict[str, float]:
    """Messages one after the other while ten thousand reminders fire, so many in one transaction."""

    async def send() -> list[float]:
        spent: list[float] = []
        async with brokerd(hoard) as made, trio.open_nursery() as nursery:
            nursery.start_soon(made.scheduler.run)
            while not made.all_fired.is_set():
                spent.append(await made.send())
            nursery.cancel_scope.cancel()
        return spent

    hoard.become_due()
    with batches_of(batch):
        return latencies(trio.run(send))


def latencies(spent: list[float]) -> dict[str, float]:
    return {"p50_us": statistics.median(spent), "most_us": max(spent), "sends": len(spent)}


def memory(pending: int) -> dict[str, float]:
    """Of brokerd as shipped, with so many reminders that wait."""
    with hive(AGENTS, prepare=partial(Hoard, pending=pending)) as swarm:
        process = process_at(swarm.operator)
        time.sleep(SETTLE_S)
        return {"memory_mb": memory_kb(process) / 1_024}


def check_fair(folder: Path) -> None:
    """Both leave the same rows, or the comparison means nothing."""
    found: list[list[tuple[int, ...]]] = []
    for name, fire in (("ours", by_the_scheduler), ("theirs", in_one_transaction)):
        hoard = Hoard(folder / name, FEW_PENDING)
        fire(hoard)
        found.append(hoard.left())
    if found[0] != found[1]:
        raise SystemExit(f"the scheduler and the reference do not leave the same rows: {json.dumps(found)}")


def main() -> None:
    """Measure and print."""
    with on_disk() as folder:
        check_fair(Path(folder))
        many, few = Hoard(Path(folder) / "many", PENDING), Hoard(Path(folder) / "few", FEW_PENDING)
        fired = [
            Variant("brokerd's scheduler", partial(by_the_scheduler, many)),
            Variant("one set-based transaction", partial(in_one_transaction, many)),
            Variant("brokerd's own job, all in one", partial(by_the_scheduler, many, DUE)),
        ]
        compare(fired)
        report("P8 10 000 due, 1 M pending", "at most 1.5x", fired, "all_ms", more_is_better=False)
        looked = [
            Variant("look with 1 000 000 pending", partial(look, many)),
            Variant("with 1 000 pending", partial(look, few)),
        ]
        compare(looked)
        report("P8 look for what is due", "at most 2x", looked, "look_us", more_is_better=False)
        sent = [
            Variant("send while 10 000 fire", partial(send_meanwhile, few, scheduler.FIRED_PER_JOB_MAX)),
            Variant("while they fire all at once", partial(send_meanwhile, few, DUE)),
            Variant("nothing fires", partial(send_alone, few)),
        ]
        compare(sent)
        report("P8 longest send meanwhile", "as short as can be", sent, "most_us", more_is_better=False)
    waiting = [
        Variant("brokerd with 100 000 pending", partial(memory, PENDING_USUAL)),
        Variant("with 1 000 pending", partial(memory, FEW_PENDING)),
    ]
    compare(waiting)
    report("P8 memory of what waits", "at most 1.1x", waiting, "memory_mb", more_is_better=False)


if __name__ == "__main__":
    main()
