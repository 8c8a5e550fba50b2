"""The power goes, or brokerd is killed, between and inside the writes of the real store: nothing acknowledged is lost.

Each seed is a few seconds in the life of a broker with several senders and agents, and several ends at moments of
chance. `HIVE_LONG=1` makes them 1 000 instead of a few; `HIVE_SEED` repeats one.
"""

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, TypeVar

import msgspec
import pytest
import trio

from brokerd import restore
from brokerd.handlers import deliveries, messages, questions, turns
from brokerd.host import Host, open_host
from brokerd.settings import BrokerSettings
from brokerd.store import agents, feed, folder, schema, wal
from brokerd.store.agents import Known
from protocol.agent import BeginTurn, EndTurn, PublishEvents, TakeDelivery
from protocol.brokerd import FeedEvent, MarkRead, MessageSent
from protocol.problem import Problem, Refused
from protocol.questions import Question
from protocol.rpc import Caller, Role
from protocol.settings import AgentSettings
from protocol.tools import Answer, Ask, Send, Sent
from protocol.turns import Outcome, Said
from runtime.clock import new_key
from runtime.log import logger
from runtime.service import Unusable
from runtime.store import CommitFailed, Db, StoreShape, connect, open_store
from tests.brokerd.campaign.disk import Disk, FailedSync, Loss, lay, library

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        library() is None, reason="this Python has an sqlite of its own, which cannot be recorded"
    ),
]

LONG = os.environ.get("HIVE_LONG") == "1"
PARTS = 20 if LONG else 1
SEEDS = 50 if LONG else 4
"""Of each part."""
FIRST_SEED = int(os.environ.get("HIVE_SEED", SystemRandom().randrange(2**32)))
ENDS_PER_SEED = 6
AGENTS = ("iris", "atlas")
BODIES = (10, 300, 5_000, 40_000)
BOOT = "boot"
BEGUN = "begun"
"""Marks the moment from which an end is to be expected."""
OPERATOR = Caller(Role.OPERATOR, 0)

T = TypeVar("T")


# what was promised before the end


@dataclass(frozen=True)
class Acknowledged:
    """A send that was answered."""

    caller: Caller
    request: Send
    sent: Sent


@dataclass(frozen=True)
class Begun:
    turn: int
    delivery: int


@dataclass(frozen=True)
class Ended:
    turn: int
    outcome: Outcome


@dataclass(frozen=True)
class Read:
    message: int


@dataclass(frozen=True)
class Asked:
    question: Question


@dataclass(frozen=True)
class Answered:
    question: Question


@dataclass(frozen=True)
class Shown:
    """What somebody who watches the feed has seen."""

    event: FeedEvent


def agent(name: str) -> Caller:
    return Caller(Role.AGENT, 1, name)


@asynccontextmanager
async def running(state: Path, boot: str) -> AsyncIterator[Host]:
    """A broker without its sockets, with what it does of itself."""
    given = BrokerSettings(state=str(state), run=str(state))
    shape = schema.shape_of(given.database, given.events_database)
    async with open_store(shape, schema.migrate) as store:
        host = await open_host(given, store, boot, logger("campaign"))
        known = [Known(name, 1, AgentSettings(name)) for name in AGENTS]
        await host.feed.write(agents.know, known)
        for each in known:
            host.roster.know(each)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.tellings.tell_on)
            nursery.start_soon(host.behind.follow)
            yield host
            nursery.cancel_scope.cancel()


class Life:
    """What goes on until the end. Every answer is marked in the disk's record as soon as it is there."""

    def __init__(self, host: Host, disk: Disk, chance: Random) -> None:
        self.host = host
        self.disk = disk
        self.chance = chance

    async def go_on(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.watch)
            async with trio.open_nursery() as busy:
                for _ in range(self.chance.randint(1, 4)):
                    busy.start_soon(self.send, OPERATOR, self.chance.randint(3, 10))
                for name in AGENTS:
                    busy.start_soon(self.serve, name, self.chance.randint(1, 5))
                busy.start_soon(self.ask, self.chance.randint(0, 3))
            nursery.cancel_scope.cancel()

    async def watch(self) -> None:
        async with self.host.feed.watch(self.host.feed.epoch, self.host.feed.published) as events:
            async for event in events:
                self.disk.mark(Shown(msgspec.json.decode(event, type=FeedEvent)))

    async def tried(
        self, handler: Callable[[Any, Caller, Host], Awaitable[T]], request: Any, caller: Caller
    ) -> T | None:
        """The answer; None when a guard was in the way, which is not what this is about."""
        try:
            return await handler(request, caller, self.host)
        except Refused as refused:
            if refused.problem in (Problem.LIMIT, Problem.CONFLICT):
                return None
            raise

    async def send(self, caller: Caller, count: int) -> None:
        for _ in range(count):
            to = self.chance.choice((*AGENTS, "*")) if caller is OPERATOR else "operator"
            body = "x" * self.chance.choice(BODIES)
            request = Send(to=to, body=body, key=new_key())
            sent = await self.tried(messages.send, request, caller)
            if sent is not None:
                self.disk.mark(Acknowledged(caller, request, sent))

    async def serve(self, name: str, count: int) -> None:
        caller = agent(name)
        for _ in range(count):
            taken = await self.tried(deliveries.take, TakeDelivery(wait_s=0), caller)
            if taken is None or taken.delivery is None:
                await self.send(caller, 1)
                continue
            delivery = taken.delivery
            begun = await self.tried(turns.begin, BeginTurn(delivery.id, delivery.token), caller)
            if begun is None:
                continue
            self.disk.mark(Begun(begun.turn, delivery.id))
            said = tuple(Said(n, 1, "y" * self.chance.choice(BODIES[:3])) for n in range(3))
            await turns.publish(PublishEvents(begun.turn, said), caller, self.host)
            await self.send(caller, 1)
            outcome = self.chance.choice((Outcome.DONE, Outcome.DONE, Outcome.CRASHED))
            await turns.end(EndTurn(begun.turn, outcome), caller, self.host)
            self.disk.mark(Ended(begun.turn, outcome))

    async def ask(self, count: int) -> None:
        for _ in range(count):
            asked = await self.tried(questions.ask, Ask(question="why?", key=new_key()), agent("iris"))
            if asked is None:
                continue
            self.disk.mark(Asked(asked))
            self.disk.mark(Answered(await questions.answer(Answer(asked.id, "because"), OPERATOR, self.host)))
            sent = await self.tried(
                messages.send, Send(to="operator", body="read me", key=new_key()), agent("atlas")
            )
            if sent is not None:
                await messages.mark_read(MarkRead((sent.message,)), OPERATOR, self.host)
                self.disk.mark(Read(sent.message))


def live(state: Path, seed: int, *, sync_fails: bool = False) -> Disk:
    """One life, recorded; with one sync that fails, of the log or of a database, if that is wanted."""

    async def run() -> None:
        async with running(state, BOOT) as host:
            await host.store.write(wal.keep_short, chance.choice((8, 40, 400)))
            disk.mark(BEGUN)
            if sync_fails:
                failing = disk.syncs + chance.randint(1, 60)
                disk.sync_fails = lambda number: number == failing
            await Life(host, disk, chance).go_on()

    chance = Random(seed)
    with Disk.recorded(state) as disk, syncs_of_folders(disk):
        try:
            trio.run(run)
        except* CommitFailed:
            assert sync_fails
    return disk


@contextmanager
def syncs_of_folders(disk: Disk) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        real = folder.sync

        def synced(path: Path) -> None:
            real(path)
            disk.sync_folder()

        patched.setattr(folder, "sync", synced)
        yield


# what is found after it


class Found:
    """The databases after the end, opened again as brokerd does, compared with what was promised."""

    def __init__(self, db: Db) -> None:
        self.db = db

    def rows(self, statement: str, *values: object) -> list[sqlite3.Row]:
        return self.db.execute(statement, values).fetchall()

    def row(self, statement: str, *values: object) -> sqlite3.Row:
        (found,) = self.rows(statement, *values)
        return found

    def check_sound(self) -> None:
        for name in ("main", "broker"):
            assert self.row(f"PRAGMA {name}.integrity_check")[0] == "ok"
        assert not self.rows("SELECT id FROM deliveries WHERE id >> 7 NOT IN (SELECT id FROM messages)")
        assert not self.rows(
            "SELECT id FROM messages WHERE NOT EXISTS "
            "(SELECT 1 FROM deliveries WHERE id BETWEEN messages.id << 7 AND (messages.id << 7) + 127)"
        )
        assert not self.rows(
            "SELECT d.id FROM deliveries AS d LEFT JOIN turns AS t ON t.id = d.turn "
            "WHERE d.state = 'in_turn' AND (t.id IS NULL OR t.ended_ms IS NOT NULL)"
        )
        heads = self.row("SELECT (SELECT max(id) FROM messages) AS last, (SELECT head FROM behind) AS head")
        assert heads["head"] <= (heads["last"] or 0), "the index knows what never was"

    def check_kept(self, promise: object) -> None:
        """One thing that was promised before the end."""
        match promise:
            case Acknowledged(caller, request, sent):
                message = self.row("SELECT * FROM messages WHERE id = ?", sent.message)
                assert (message["body"], message["sender"]) == (request.body, caller.agent or "operator")
                span = (sent.message << 7, (sent.message << 7) + 127)
                got = self.rows("SELECT recipient FROM deliveries WHERE id BETWEEN ? AND ?", *span)
                assert [row["recipient"] for row in got] == list(sent.recipients)
                answer = self.row("SELECT answer FROM keys WHERE key = ?", bytes.fromhex(request.key))[
                    "answer"
                ]
                assert msgspec.json.decode(answer, type=Sent) == sent
            case Begun(turn, delivery):
                assert self.row("SELECT delivery FROM turns WHERE id = ?", turn)["delivery"] == delivery
            case Ended(turn, outcome):
                assert self.row("SELECT outcome FROM turns WHERE id = ?", turn)["outcome"] == outcome.value
            case Read(message):
                assert self.row("SELECT state FROM deliveries WHERE id = ?", message << 7)["state"] == "done"
            case Asked(question):
                assert (
                    self.row("SELECT asker FROM questions WHERE id = ?", question.id)["asker"]
                    == question.asker
                )
            case Answered(question):
                assert (
                    self.row("SELECT state FROM questions WHERE id = ?", question.id)["state"] == "answered"
                )

    def check_feed(self, shown: list[FeedEvent], *, has_new_epoch: bool) -> None:
        """Who watched goes on without a gap and without having seen what never was, or is told to look anew."""
        head = feed.last_seq(self.db)
        stored = {row["seq"]: row["body"] for row in self.rows("SELECT seq, body FROM feed")}
        if has_new_epoch:
            assert not stored
            return
        assert sorted(stored) == list(range(min(stored, default=head + 1), head + 1)), "a hole in the feed"
        for event in shown:
            assert msgspec.json.decode(stored[event.seq]) == msgspec.json.decode(
                msgspec.json.encode(event.body)
            )
        told = [
            body.message.id
            for body in (
                msgspec.json.decode(stored[seq], type=FeedEvent.__annotations__["body"])
                for seq in sorted(stored)
            )
            if isinstance(body, MessageSent)
        ]
        assert told == [row["id"] for row in self.rows("SELECT id FROM messages ORDER BY id")]


def judge(state: Path, promises: list[object], loss: Loss, *, log_may_be_damaged: bool = False) -> None:
    """Open what was left, as the next brokerd does, and see whether everything promised is there."""
    shape = schema.shape_of(state / folder.BROKER_FILE, state / folder.EVENTS_FILE)
    try:
        schema.migrate(shape.path, shape)
    except Unusable as refused:
        if not log_may_be_damaged or not str(refused).startswith(f"{shape.path}: the database is damaged"):
            raise
        restore.go_on_without_log(state, 1)
        schema.migrate(shape.path, shape)
    with closing(connect(shape)) as db:
        before = db.execute("SELECT epoch FROM feed_state").fetchone()["epoch"]
        boot = BOOT if loss is Loss.KILL else "another boot"
        db.execute("BEGIN IMMEDIATE")
        place = feed.open_feed(db, boot)
        db.execute("COMMIT")
        assert (place.epoch != before) == (loss is Loss.POWER)
        found = Found(db)
        found.check_sound()
        for promise in promises:
            found.check_kept(promise)
        shown = [promise.event for promise in promises if isinstance(promise, Shown)]
        found.check_feed(shown, has_new_epoch=loss is Loss.POWER)
    trio.run(go_on, state, [each for each in promises if isinstance(each, Acknowledged)], place.head)


async def go_on(state: Path, acknowledged: list[Acknowledged], head: int) -> None:
    """The next brokerd serves: a repeat gets its first answer, and numbers are not given twice."""
    async with running(state, "another boot") as host:
        for each in acknowledged[-3:]:
            assert await messages.send(each.request, each.caller, host) == each.sent
        sent = await messages.send(Send(to="iris", body="on", key=new_key()), OPERATOR, host)
        assert sent.seq > head
        assert sent.message > max((each.sent.message for each in acknowledged), default=0)


@dataclass
class Tally:
    """What a campaign went through."""

    ends: int = 0
    acknowledged: int = 0
    failed_syncs: int = 0
    faults: list[str] = field(default_factory=list)


def campaign(folder_of_all: Path, first_seed: int, seeds: int, *, sync_fails: bool = False) -> Tally:
    tally = Tally()
    for seed in range(first_seed, first_seed + seeds):
        lived, after = folder_of_all / f"{seed}", folder_of_all / f"{seed}-after"
        lived.mkdir()
        disk = live(lived, seed, sync_fails=sync_fails)
        tally.failed_syncs += sum(isinstance(each, FailedSync) for each in disk.operations)
        begun = next(n for n, each in enumerate(disk.operations) if getattr(each, "what", None) == BEGUN)
        chance = Random(seed)
        for _ in range(ENDS_PER_SEED):
            loss = chance.choice((Loss.POWER, Loss.POWER, Loss.KILL))
            moment = chance.randrange(begun, len(disk.operations))
            promises = disk.marks(moment)
            lay(disk.image(moment, chance, loss), after)
            try:
                judge(after, promises, loss, log_may_be_damaged=sync_fails and loss is Loss.POWER)
            except Exception as fault:
                where = f"HIVE_SEED={seed}: {loss.value} at {moment} of {len(disk.operations)}"
                tally.faults.append(f"{where}: {type(fault).__name__}: {fault}")
            tally.ends += 1
            tally.acknowledged += sum(isinstance(each, Acknowledged) for each in promises)
            shutil.rmtree(after)
        shutil.rmtree(lived)
    return tally


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_acknowledged_is_lost_whenever_it_ends(tmp_path: Path, part: int) -> None:
    print(f"HIVE_SEED={FIRST_SEED + part * SEEDS} seeds={SEEDS}")
    tally = campaign(tmp_path, FIRST_SEED + part * SEEDS, SEEDS)
    assert not tally.faults
    assert tally.acknowledged > SEEDS
    print(f"{tally.ends} ends, {tally.acknowledged} acknowledged sends, 0 lost")


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_acknowledged_is_lost_when_a_sync_fails_and_the_power_goes(tmp_path: Path, part: int) -> None:
    """A failed sync of a commit ends the store; one while a log is copied into its database is made up for later.

    Only events.sqlite, which may lose its last moments, can be damaged by both together; it is then put aside.
    """
    print(f"HIVE_SEED={FIRST_SEED + part * SEEDS} seeds={SEEDS}")
    tally = campaign(tmp_path, FIRST_SEED + part * SEEDS, SEEDS, sync_fails=True)
    assert not tally.faults
    assert tally.failed_syncs
    print(
        f"{tally.failed_syncs} failed syncs, {tally.ends} ends, {tally.acknowledged} acknowledged sends, 0 lost"
    )


RELAXED_SEEDS_MAX = 60
"""Which cut loses something depends on where the threads are; a busy machine needs a few more."""


def test_a_store_that_does_not_sync_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The campaign would see it: with `synchronous=NORMAL` for both files, what was acknowledged is lost."""
    shape_of = schema.shape_of

    def relaxed(database: Path, events_database: Path) -> StoreShape:
        return replace(shape_of(database, events_database), relaxed=frozenset({"main", schema.BROKER}))

    monkeypatch.setattr(schema, "shape_of", relaxed)
    assert any(campaign(tmp_path, seed, 1).faults for seed in range(1, RELAXED_SEEDS_MAX + 1))
