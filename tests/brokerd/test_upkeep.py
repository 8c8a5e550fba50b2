"""What brokerd does without being asked, and that it needs to do hardly anything."""

from contextlib import closing
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from brokerd import upkeep
from brokerd.live import feed as live_feed
from brokerd.live.inboxes import Inbox
from brokerd.store import feed, folder
from brokerd.store.schema import shape_of
from protocol.agent import Delivery, WatchCommands
from protocol.brokerd import ListMessages
from protocol.limits import LEASE_MS
from protocol.messages import DeliveryState
from protocol.problem import Problem, Refused
from protocol.tools import Received, Recv, SetStatus
from runtime import store
from runtime.client import Disconnected
from runtime.clock import new_key
from runtime.service import Unusable
from runtime.store import Db, connect
from tests.brokerd.hive import Hive
from tests.support.quiet import settled
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_the_net_catches_a_take_that_was_not_woken(
    hive: Hive, clock: MockClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[Delivery] = []

    async def take() -> None:
        taken.append(await hive.taken("iris", wait_s=60))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await settled()
        with monkeypatch.context() as broken:
            broken.setattr(Inbox, "arrive", lambda *_: None)
            sent = await hive.send("operator", "iris")
        await settled()
        assert taken == []
        clock.jump(upkeep.NET_S)
    assert [delivery.message.id for delivery in taken] == [sent.message]
    assert "its taker was not woken" in "".join(capsys.readouterr())


async def test_the_net_catches_a_pull_that_was_not_woken(
    hive: Hive, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    received: list[Received] = []

    async def pull() -> None:
        received.append(await hive.agent("iris").call(Recv(turn, new_key(), wait_s=60)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pull)
        await settled()
        with monkeypatch.context() as broken:
            broken.setattr(Inbox, "arrive", lambda *_: None)
            sent = await hive.send("operator", "iris")
        clock.jump(upkeep.NET_S)
    assert [message.id for message in received[0].messages] == [sent.message]


async def test_the_net_finds_nothing_when_all_is_well(
    hive: Hive, clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async def take(name: str) -> None:
        await hive.take(name, wait_s=30)

    async with trio.open_nursery() as nursery:
        for name in ("iris", "atlas", "hm1nd"):
            nursery.start_soon(take, name)
        await settled()
        for _ in range(3):
            clock.jump(upkeep.NET_S)
            await settled()
        await hive.send("operator", "*")
    assert "not woken" not in "".join(capsys.readouterr())


async def test_the_feed_keeps_what_may_be_asked_for_and_no_more(
    hive: Hive, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brokerd.live.feed.FEED_BACKLOG_ROWS_MAX", 10)
    monkeypatch.setattr("brokerd.live.feed.TRIM_ROWS", 7)
    for number in range(40):
        await hive.agent("iris").call(SetStatus(str(number)))
    end = (await hive.snapshot()).seq
    clock.jump(upkeep.NET_S)

    async def oldest() -> bool:
        with hive.reader() as db:
            return int(db.execute(feed.OLDEST).fetchone()[0]) == end - 10

    await until(oldest, what="the oldest entries to go")


async def test_what_cannot_be_read_at_the_start_is_told_and_hides_nothing(
    unserved: Hive, capsys: pytest.CaptureFixture[str]
) -> None:
    hive = unserved
    async with hive.broker():
        pass
    with closing(connect(shape_of(hive.settings.database, hive.settings.events_database))) as db:
        db.execute("UPDATE agents SET settings = x'7b' WHERE name = 'atlas'")
    async with hive.broker():  # privd tells anew

        async def all_known() -> bool:
            return (await hive.send("operator", "*")).recipients == ("atlas", "hm1nd", "iris")

        await until(all_known, what="privd's word of atlas")
    assert "an agent's settings cannot be read" in "".join(capsys.readouterr())


async def test_a_full_disk_is_refused_and_outlived(
    hive: Hive, clock: MockClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Senders are told; what brokerd has to write of itself is written when there is room again."""
    sent = await hive.send("operator", "iris")
    await hive.begun("iris")
    for name in ("atlas", "hm1nd"):
        await hive.send("operator", name)
    await hive.taken("atlas")
    with monkeypatch.context() as full:
        full.setattr(live_feed, "_logged", _full)
        with pytest.raises(Refused) as refused:
            await hive.send("operator", "iris")
        assert refused.value.problem is Problem.STORAGE_FULL
        async with hive.agent("hm1nd").watch(WatchCommands()):
            pass
        clock.jump(LEASE_MS / 1000 + 1)
        await hive.taken("hm1nd")
        told: list[str] = []

        async def both_are_said() -> bool:
            told.extend(capsys.readouterr())
            return all(
                line in "".join(told) for line in ("the disk is full; trying on", "leases are not shown")
            )

        await until(both_are_said, what="the log to say so")
        assert await hive.states(sent.message) == [DeliveryState.IN_TURN]
    clock.jump(live_feed.FULL_MAX_S)

    async def ended() -> bool:
        return await hive.states(sent.message) == [DeliveryState.QUEUED]

    await until(ended, what="the turn to end")
    assert (await hive.send("operator", "iris")).recipients == ("iris",)


def _full(db: Db, *_: object, **__: object) -> None:
    """As sqlite does on a full disk, at the first statement that needs room."""
    size = db.execute("PRAGMA broker.page_count").fetchone()[0]
    db.execute(f"PRAGMA broker.max_page_count = {size}")
    try:
        db.execute("CREATE TABLE broker.more (x)")
        db.execute("INSERT INTO broker.more VALUES (zeroblob(50000000))")
    finally:
        db.execute("PRAGMA broker.max_page_count = 1000000000")


async def test_a_disk_that_takes_no_commit_ends_the_process_loudly(
    unserved: Hive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was being stored is not acknowledged, and brokerd does not go on as if nothing had been."""
    real = store.Store._commit

    def fail(self: store.Store, db: store.Db, group: list[Any]) -> list[Any]:
        monkeypatch.setattr(store.Store, "_commit", real)
        db.set_progress_handler(lambda: 1, 1)  # every statement is interrupted, COMMIT among them
        return real(self, db, group)

    async def serve() -> None:
        async with unserved.broker():
            monkeypatch.setattr(store.Store, "_commit", fail)
            with pytest.raises((Refused, Disconnected)):
                await unserved.send("operator", "iris")
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as ended:
        await serve()
    assert ended.group_contains(RuntimeError, match="a commit failed")


async def test_a_damaged_database_ends_the_process_and_is_not_served_again(unserved: Hive) -> None:
    """Whoever meets the damage: the next start looks through everything and says what to do."""

    async def serve() -> None:
        async with unserved.broker():
            await unserved.send("operator", "iris", "x" * 60_000)
            with closing(connect(shape_of(database, events))) as db:
                db.execute("PRAGMA broker.wal_checkpoint(TRUNCATE)")
            content = bytearray(database.read_bytes())
            content[4_096:] = b"\xff" * (len(content) - 4_096)
            database.write_bytes(content)
            with pytest.raises((Refused, Disconnected)):
                await unserved.operator.call(ListMessages())
            await trio.sleep_forever()

    database, events = unserved.settings.database, unserved.settings.events_database
    with pytest.raises(ExceptionGroup) as ended:
        await serve()
    assert ended.group_contains(RuntimeError, match="a database is damaged")
    assert folder.is_doubted(database.parent)
    with pytest.raises(ExceptionGroup) as refused:
        async with unserved.broker():
            pass
    assert refused.group_contains(Unusable, match="hivectl restore")
