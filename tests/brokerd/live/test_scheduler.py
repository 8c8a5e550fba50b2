"""The scheduler over a real store, on a clock that the test moves and a wall clock that the test sets."""

import gc
import sqlite3
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, closing

import msgspec
import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from brokerd.live import scheduler
from brokerd.live.feed import Feed
from brokerd.live.inboxes import Inboxes
from brokerd.live.outbox import Outbox
from brokerd.live.room import Room
from brokerd.live.scheduler import Scheduler
from brokerd.policy.guards import Guards
from brokerd.policy.schedules import Wish
from brokerd.settings import BrokerSettings
from brokerd.store import agents, firing, reminders, schema
from brokerd.store.agents import Known
from brokerd.store.feed import FeedLog, open_feed
from brokerd.store.keys import Asked
from brokerd.store.reminders import NewReminder
from protocol.problem import Problem, Refused
from protocol.reminders import AnySchedule, Every, Once, Reminder
from protocol.settings import AgentSettings
from runtime.clock import new_key
from runtime.log import logger
from runtime.store import Db, Store, StoreShape, open_store
from tests.brokerd.store.conftest import migrated, shape
from tests.brokerd.store.drafts import draft
from tests.support.quiet import settled
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
__all__ = ["migrated", "shape"]

START_MS = 1_800_000_000_000
DAY_MS = 86_400_000
FOUND = "SELECT about, body FROM messages WHERE event = 'reminder' ORDER BY id"
INSERT = (
    "INSERT INTO reminders (agent, set_by, body, schedule, recurs, state, created_ms, changed_ms, next_ms) "
    "VALUES (?1, 'operator', 'look', ?2, instr(?2, 'once') = 0, 'active', 1, 1, ?3)"
)


@pytest.fixture
def anyio_backend(clock: MockClock) -> tuple[str, dict[str, object]]:
    return "trio", {"clock": clock}


@pytest.fixture
def clock() -> MockClock:
    return MockClock(rate=1.0)


class Desk:
    """A scheduler with its store. `ahead_ms` is what somebody set the wall clock forward by."""

    def __init__(self, shape: StoreShape, store: Store, feed: Feed, inboxes: Inboxes) -> None:
        self.shape = shape
        self.store = store
        self.feed = feed
        self.ahead_ms = 0
        self.outbox = Outbox(feed, inboxes)
        settings = BrokerSettings(state=str(shape.path.parent), run=str(shape.path.parent))
        self.room = Room(settings, logger("test"))
        self.scheduler = Scheduler(feed, store, inboxes, self.room, logger("test"), self.wall)
        self._began = trio.current_time()

    def wall(self) -> int:
        return START_MS + self.ahead_ms + round((trio.current_time() - self._began) * 1000)

    async def remind(self, agent: str = "iris", text: str = "look", **wish: int | str) -> Reminder:
        new = NewReminder(
            Asked("operator", bytes.fromhex(new_key())),
            b"",
            agent,
            text,
            msgspec.convert(wish, Wish),
            None,
        )
        reminder = await self.feed.write(reminders.set_reminder, new, self.wall())
        self.scheduler.mind(reminder)
        return reminder

    def insert(self, schedules: Iterable[tuple[str, AnySchedule, int]]) -> None:
        """Reminders as they are found at a start: agent, schedule, next time."""
        encode = msgspec.json.encode
        with closing(sqlite3.connect(self.shape.attached["broker"])) as db, db:
            db.executemany(INSERT, ((agent, encode(each), at_ms) for agent, each, at_ms in schedules))

    async def fired(self) -> list[int]:
        """The reminders whose messages were sent, in order."""
        return [row["about"] for row in await self.store.read(lambda db: db.execute(FOUND).fetchall())]

    async def until_fired(self, count: int) -> list[int]:
        async def enough() -> list[int] | None:
            found = await self.fired()
            return found if len(found) >= count else None

        return await until(enough, what=f"{count} firings")

    async def row(self, reminder: int) -> Reminder:
        return await self.store.read(reminders.read, reminder)

    async def settle(self) -> None:
        """Every message that waits is done."""

        def job(db: Db, log: FeedLog) -> None:
            db.execute("UPDATE reminders SET waiting = NULL")

        await self.feed.write(job)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.scheduler.run)
            yield
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def opened(shape: StoreShape, guards: Guards | None = None) -> AsyncIterator[Desk]:
    async with open_store(shape, schema.migrate) as store:
        place = await store.write(open_feed, "boot")
        inboxes = Inboxes({}, guards=guards)
        feed = Feed(store, place, inboxes.follow, logger("test"))
        await feed.write(
            agents.know, [Known(name, 70_001, AgentSettings(name)) for name in ("iris", "atlas")]
        )
        yield Desk(shape, store, feed, inboxes)


@pytest.fixture
async def desk(shape: StoreShape) -> AsyncIterator[Desk]:
    async with opened(shape) as made:
        yield made


@pytest.fixture
def looks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often the database was asked for the next time."""
    asked = 0
    real = reminders.next_due

    def counted(db: Db) -> int | None:
        nonlocal asked
        asked += 1
        return real(db)

    monkeypatch.setattr(reminders, "next_due", counted)
    return lambda: asked


async def test_it_sleeps_until_the_next_one(desk: Desk, clock: MockClock, looks: Callable[[], int]) -> None:
    reminder = await desk.remind(in_s=3_600)
    async with desk.running():
        await settled()
        clock.jump(3_590)
        await trio.lowlevel.checkpoint()
        assert (await desk.fired(), looks()) == ([], 1)
        clock.jump(10)
        assert await desk.until_fired(1) == [reminder.id]
        await settled()
        assert looks() <= 3


async def test_without_reminders_it_does_nothing(
    desk: Desk, clock: MockClock, looks: Callable[[], int]
) -> None:
    async with desk.running():
        await settled()
        clock.jump(30 * DAY_MS / 1000)
        await settled()
        assert looks() == 1
        reminder = await desk.remind(in_s=1)
        clock.jump(1)
        assert await desk.until_fired(1) == [reminder.id]


async def test_an_earlier_one_is_minded_and_a_later_one_is_not(
    desk: Desk, clock: MockClock, looks: Callable[[], int]
) -> None:
    await desk.remind(in_s=600)
    async with desk.running():
        await settled()
        await desk.remind(in_s=900)
        await settled()
        assert looks() == 1
        soon = await desk.remind(in_s=30)
        await settled()
        assert looks() == 2
        clock.jump(30)
        assert await desk.until_fired(1) == [soon.id]


async def test_an_interval_goes_on(desk: Desk, clock: MockClock) -> None:
    reminder = await desk.remind(every_s=60)
    async with desk.running():
        for count in (1, 2, 3):
            clock.jump(60)
            assert await desk.until_fired(count) == [reminder.id] * count
            await desk.settle()
    row = await desk.row(reminder.id)
    assert (row.attempted, row.skipped) == (3, 0)
    assert row.next_ms is not None
    assert (row.next_ms - START_MS) // 60_000 == 4


async def test_what_was_missed_while_down_comes_once(desk: Desk) -> None:
    day_ago = START_MS - DAY_MS
    desk.insert(
        [
            ("iris", Every(60, day_ago), day_ago),
            ("iris", Once(day_ago + 5), day_ago + 5),
            ("atlas", Once(START_MS + DAY_MS), START_MS + DAY_MS),
        ]
    )
    async with desk.running():
        assert await desk.until_fired(2) == [1, 2]
        await settled()
        assert await desk.fired() == [1, 2]
    every = await desk.row(1)
    assert every.next_ms is not None
    assert START_MS < every.next_ms <= desk.wall() + 60_000
    assert (every.attempted, every.skipped) == (1, 0)


async def test_one_whose_last_message_waits_is_skipped(desk: Desk, clock: MockClock) -> None:
    """Nobody takes anything: a paused agent gets one message and no storm."""
    reminder = await desk.remind(every_s=60)

    async def skipped(count: int) -> bool:
        return (await desk.row(reminder.id)).skipped == count

    async with desk.running():
        clock.jump(60)
        await desk.until_fired(1)
        for count in (1, 2, 3):
            await settled()
            clock.jump(60)
            await until(lambda count=count: skipped(count), what=f"{count} skipped")  # type: ignore[misc]  # bound for this round
    assert len(await desk.fired()) == 1
    row = await desk.row(reminder.id)
    assert (row.attempted, row.skipped, row.delivered) == (1, 3, 0)


@pytest.mark.parametrize("ahead_ms", [DAY_MS, 3_600_000])
async def test_a_clock_that_is_put_forward_is_noticed(desk: Desk, clock: MockClock, ahead_ms: int) -> None:
    late = await desk.remind(in_s=ahead_ms // 1000 - 60)
    every = await desk.remind(every_s=61)
    async with desk.running():
        await settled()
        desk.ahead_ms += ahead_ms
        clock.jump(scheduler.LOOK_S)
        assert await desk.until_fired(2) == [every.id, late.id]
        await settled()
    assert len(await desk.fired()) == 2


async def test_a_clock_that_is_put_back_silences_nothing(desk: Desk, clock: MockClock) -> None:
    desk.ahead_ms = DAY_MS
    every = await desk.remind(every_s=600)
    once = await desk.remind(in_s=60)
    async with desk.running():
        await settled()
        desk.ahead_ms = 0
        clock.jump(scheduler.LOOK_S)

        async def is_moved() -> bool:
            return ((await desk.row(every.id)).next_ms or 0) < START_MS + 700_000

        await until(is_moved, what="the interval worked out anew")
        assert (await desk.row(once.id)).next_ms == once.next_ms
        assert await desk.fired() == []
        clock.jump(700)
        assert await desk.until_fired(1) == [every.id]


async def test_an_occurrence_that_comes_again_with_the_clock_fires_once(desk: Desk, clock: MockClock) -> None:
    every = await desk.remind(every_s=3_600)
    assert every.next_ms is not None
    async with desk.running():
        clock.jump(3_600)
        await desk.until_fired(1)
        await desk.settle()
        await settled()
        desk.ahead_ms -= 1_800_000  # it is half an hour earlier again
        clock.jump(scheduler.LOOK_S)

        async def is_moved() -> bool:
            return (await desk.row(every.id)).next_ms == every.next_ms

        await until(is_moved, what="the same time again")
        clock.jump(1_800)

        async def is_past() -> bool:
            return (await desk.row(every.id)).next_ms == every.next_ms + 3_600_000  # type: ignore[operator]  # it recurs, so there is a next one

        await until(is_past, what="the time after it")
        assert len(await desk.fired()) == 1
        clock.jump(3_600)
        assert len(await desk.until_fired(2)) == 2


async def test_a_clock_that_was_put_back_while_down_is_noticed_at_the_start(desk: Desk) -> None:
    desk.ahead_ms = DAY_MS
    every = await desk.remind(every_s=600)
    desk.ahead_ms = 0
    async with desk.running():

        async def is_moved() -> bool:
            return ((await desk.row(every.id)).next_ms or 0) < START_MS + 700_000

        await until(is_moved, what="the interval worked out anew")


async def test_small_corrections_of_the_clock_are_none(
    desk: Desk, clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    await desk.remind(every_s=600)
    async with desk.running():
        for _ in range(10):
            await settled()
            desk.ahead_ms -= 100
            clock.jump(scheduler.LOOK_S)
        await settled()
    assert "put back" not in "".join(capsys.readouterr())


async def test_a_full_inbox_puts_reminders_off(shape: StoreShape, clock: MockClock) -> None:
    async with opened(shape, Guards(inbox_deliveries_max=1)) as desk:
        await desk.outbox.send(draft(recipients=("iris",)))
        once = await desk.remind(in_s=60)
        other = await desk.remind("atlas", in_s=60)
        async with desk.running():
            await settled()
            clock.jump(60)
            assert await desk.until_fired(1) == [other.id]
            row = await desk.row(once.id)
            assert row.next_ms is not None
            assert row.next_ms >= START_MS + 60_000 + firing.AGAIN_MS
            assert (row.attempted, row.skipped) == (0, 0)


async def test_on_a_full_disk_reminders_wait(
    desk: Desk, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reminder = await desk.remind(in_s=60)

    def full(size: int) -> None:
        raise Refused(Problem.STORAGE_FULL, "no room")

    with monkeypatch.context() as broken:
        broken.setattr(desk.room, "admit", full)
        async with desk.running():
            await settled()
            clock.jump(60)
            await settled()
            assert await desk.fired() == []
            broken.undo()
            clock.jump(scheduler.FULL_S)
            assert await desk.until_fired(1) == [reminder.id]


async def test_ten_thousand_due_at_once_fire_once_each_and_sends_go_between(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 10_000
    desk.insert((f"a{n % 100}", Once(START_MS - 1), START_MS - 1) for n in range(count))
    batches: list[int] = []
    real = firing.fire_due

    def counted(*arguments: object) -> firing.Fired:
        fired = real(*arguments)  # type: ignore[arg-type]  # handed on as they came
        batches.append(fired.sent)
        return fired

    monkeypatch.setattr(firing, "fire_due", counted)
    between: list[int] = []
    async with desk.running():
        while sum(batches) < count:
            await desk.outbox.send(draft(recipients=("iris",)))
            between.append(sum(batches))
        await desk.until_fired(count)
    fired = Counter(await desk.fired())
    assert set(fired.values()) == {1}
    assert len(fired) == count
    assert max(batches) <= scheduler.FIRED_PER_JOB_MAX
    assert len({each for each in between if 0 < each < count}) >= 20


@pytest.mark.slow
async def test_pending_reminders_take_no_memory(desk: Desk) -> None:
    count = 100_000
    desk.insert(("iris", Once(START_MS + DAY_MS + n), START_MS + DAY_MS + n) for n in range(count))
    async with desk.running():
        await settled()
        gc.collect()
        tracemalloc.start()
        try:
            soon = await desk.remind("atlas", in_s=1)
            await desk.until_fired(1)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert await desk.fired() == [soon.id]
    assert held < count  # bytes: less than one for each


async def test_cancelled_in_the_middle_it_has_fired_whole_batches(desk: Desk) -> None:
    desk.insert((f"a{n % 100}", Once(START_MS - 1), START_MS - 1) for n in range(2_000))
    async with desk.running():
        await desk.until_fired(1)
    fired = await desk.fired()
    assert fired
    assert len(fired) % scheduler.FIRED_PER_JOB_MAX == 0
    async with desk.running():
        again = await desk.until_fired(2_000)
    assert sorted(again) == list(range(1, 2_001))


async def test_a_clock_that_is_put_back_while_it_fires_is_noticed(
    desk: Desk, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = await desk.remind(every_s=600)
    real = firing.fire_due

    def put_back(*arguments: object) -> firing.Fired:
        fired = real(*arguments)  # type: ignore[arg-type]  # handed on as they came
        desk.ahead_ms -= DAY_MS
        return fired

    monkeypatch.setattr(firing, "fire_due", put_back)
    async with desk.running():
        await settled()
        clock.jump(600)

        async def is_moved() -> bool:
            return 0 < ((await desk.row(every.id)).next_ms or 0) < START_MS

        await until(is_moved, what="the interval worked out anew")
