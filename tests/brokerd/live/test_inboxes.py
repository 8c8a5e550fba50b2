"""Who waits at an inbox is told once: of an arrival, of the deadline, or that another take came."""

import pytest
import trio
from trio.testing import MockClock

from brokerd.live.inboxes import Inbox, Place
from tests.support.quiet import settled

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("clock")]


@pytest.fixture
def clock() -> MockClock:
    """Time that stands, and jumps as soon as every task sleeps: no thread is at work here."""
    return MockClock(autojump_threshold=0)


class Taker:
    """A take that waits, in a task."""

    def __init__(self, inbox: Inbox, nursery: trio.Nursery, *, wait_s: float = 60.0) -> None:
        self.told: list[bool] = []
        self.place: Place | None = None
        self._inbox = inbox
        self._deadline = trio.current_time() + wait_s
        self.scope = trio.CancelScope()
        nursery.start_soon(self._take)

    async def _take(self) -> None:
        with self.scope, self._inbox.taking(self._deadline) as self.place:
            while not self.place.is_lost and False not in self.told:
                self.told.append(await self.place.arrival())


async def test_each_arrival_is_told_and_the_deadline_ends_it() -> None:
    inbox = Inbox()
    async with trio.open_nursery() as nursery:
        taker, began = Taker(inbox, nursery), trio.current_time()
        await settled()
        inbox.look_again()
        await trio.sleep(30)
        inbox.look_again()
        await settled()
        assert (taker.told, inbox.waiters) == ([True, True], 1)
    assert taker.told == [True, True, False]
    assert trio.current_time() == began + 60
    assert inbox.waiters == 0


async def test_a_deadline_that_is_over_is_not_waited_for() -> None:
    inbox = Inbox()
    async with trio.open_nursery() as nursery:
        taker, began = Taker(inbox, nursery, wait_s=0), trio.current_time()
    assert (taker.told, trio.current_time()) == ([False], began)


async def test_a_second_take_sends_the_first_away() -> None:
    inbox = Inbox()
    async with trio.open_nursery() as nursery:
        first = Taker(inbox, nursery)
        await settled()
        second = Taker(inbox, nursery)
        await settled()
        assert (first.told, inbox.waiters) == ([False], 1)
        inbox.look_again()
        await settled()
        assert (first.told, second.told) == ([False], [True])
        second.scope.cancel()


async def test_who_gives_up_is_told_nothing_more() -> None:
    inbox = Inbox()
    async with trio.open_nursery() as nursery:
        taker = Taker(inbox, nursery)
        nursery.start_soon(inbox.wait)
        await settled()
        assert inbox.waiters == 2
        taker.scope.cancel()
        await settled()
        assert inbox.waiters == 1
        inbox.look_again()
    assert (taker.told, inbox.waiters) == ([], 0)
