"""The alarm rings when the wall clock says so, whatever the wall clock does meanwhile."""

from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from brokerd.live import alarm
from brokerd.live.alarm import CLOCK_LOOK_S, Alarm
from tests.support.quiet import settled

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000


@dataclass
class Wall:
    """A wall clock that goes with trio's, and can be set."""

    set_by_ms: int = 0

    def now_ms(self) -> int:
        return round(trio.current_time() * 1000) + self.set_by_ms


@pytest.fixture
def wall(clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> Wall:
    clock.rate, clock.autojump_threshold = 0, 0
    made = Wall()
    monkeypatch.setattr(alarm, "now_ms", made.now_ms)
    return made


async def rung_after_ms(made: Alarm, at_ms: int | None) -> int:
    began = trio.current_time()
    await made.due(at_ms)
    return round((trio.current_time() - began) * 1000)


async def test_it_rings_on_time(wall: Wall) -> None:
    now_ms = wall.now_ms()
    assert await rung_after_ms(Alarm(), now_ms + HOUR_MS + 7) == HOUR_MS + 7
    assert await rung_after_ms(Alarm(), now_ms) == 0


async def test_what_comes_later_may_ring_earlier(wall: Wall) -> None:
    made = Alarm()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def add() -> None:
            await trio.sleep(10)
            made.bring_forward(wall.now_ms() + 60_000)
            made.bring_forward(wall.now_ms() + 90_000)

        assert await rung_after_ms(made, wall.now_ms() + HOUR_MS) == 70_000


async def test_without_anything_due_it_sleeps_until_there_is(wall: Wall) -> None:
    made = Alarm()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def add() -> None:
            await trio.sleep(HOUR_MS / 1000)
            made.bring_forward(wall.now_ms() + 500)

        assert await rung_after_ms(made, None) == HOUR_MS + 500


async def test_what_was_brought_forward_before_anybody_waits_is_not_lost(wall: Wall) -> None:
    made = Alarm()
    made.forget()
    made.bring_forward(wall.now_ms() + 1_000)
    assert await rung_after_ms(made, None) == 1_000
    made.forget()
    with trio.move_on_after(HOUR_MS / 1000):
        await made.due(None)
        pytest.fail("what was forgotten rang again")


async def test_a_clock_that_is_set_forward_is_noticed_in_time(wall: Wall) -> None:
    made = Alarm()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def put_forward() -> None:
            await settled()
            wall.set_by_ms += 24 * HOUR_MS

        assert await rung_after_ms(made, wall.now_ms() + HOUR_MS) <= CLOCK_LOOK_S * 1000


async def test_a_clock_that_is_set_back_lets_it_wait_longer(wall: Wall) -> None:
    made = Alarm()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def put_back() -> None:
            await settled()
            wall.set_by_ms -= HOUR_MS

        assert await rung_after_ms(made, wall.now_ms() + HOUR_MS) == 2 * HOUR_MS
