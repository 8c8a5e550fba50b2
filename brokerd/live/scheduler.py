"""The scheduler of reminders: asleep until the next one is due. It knows that one time and no reminder.

Reminders go by the wall clock, which people set and machines correct. So no sleep is longer than LOOK_S: by then a
clock that was put forward, or a machine that slept, is noticed. One that was put back is noticed by the clock that
only ever runs, and everything that recurs is worked out anew.
"""

import math
from collections.abc import Callable
from typing import Final

import trio

from brokerd.live.feed import Feed
from brokerd.live.inboxes import Inboxes
from brokerd.live.room import Room
from brokerd.store import firing, reminders
from protocol.limits import REMINDER_CHARS_MAX
from protocol.problem import Problem, Refused
from protocol.reminders import Reminder
from runtime.clock import now_ms
from runtime.log import Log
from runtime.store import Store

LOOK_S: Final = 5.0
"""A wall clock that jumped is noticed within this time, while any reminder is to fire."""
BACK_MS_MIN: Final = 2_000
"""What a clock goes back at once before it counts as put back."""
DUE_MAX: Final = 10_000
"""Reminders that are due and known by their numbers; the others are found when these have fired."""
FIRED_PER_JOB_MAX: Final = 200
"""Reminders that fire in one transaction: few enough that a send behind them hardly waits."""
WORKED_OUT_PER_JOB_MAX: Final = 100
FULL_S: Final = 5.0
"""While the disk takes nothing new, reminders wait this long before they try again."""


class Scheduler:
    """Fires what is due. `wall` is the wall clock, in milliseconds."""

    def __init__(
        self,
        feed: Feed,
        store: Store,
        inboxes: Inboxes,
        room: Room,
        log: Log,
        wall: Callable[[], int] = now_ms,
    ) -> None:
        self.wall = wall
        self._room = room
        self._feed = feed
        self._store = store
        self._inboxes = inboxes
        self._log = log
        self._next_ms = math.inf
        """What the sleep is for."""
        self._earlier = trio.Event()
        self._ahead_ms = 0.0
        """How far the wall clock was ahead of the clock that only ever runs, when they were last looked at."""

    def mind(self, reminder: Reminder) -> None:
        """A reminder was set or moved: wake up when it comes before the one that is waited for."""
        if reminder.next_ms is not None and reminder.next_ms < self._next_ms:
            self._earlier.set()

    async def run(self) -> None:
        """For ever. Cancelled anywhere, it has fired a batch whole or not at all."""
        if self.wall() + BACK_MS_MIN < self._store.look(reminders.clock):
            await self._work_out_anew()
        self._ahead_ms = self._ahead()
        while True:
            self._earlier, self._next_ms = trio.Event(), math.inf
            next_ms = self._store.look(reminders.next_due)
            if next_ms is None:
                await self._earlier.wait()
                self._ahead_ms = self._ahead()
            elif next_ms <= self.wall():
                await self._fire()
            else:
                await self._sleep_until(next_ms)
            if self._was_put_back():
                await self._work_out_anew()

    async def _sleep_until(self, next_ms: int) -> None:
        """Until that time, or until there is an earlier one, or the clock was put back."""
        self._next_ms = next_ms
        while not self._earlier.is_set() and (left_ms := next_ms - self.wall()) > 0:
            with trio.move_on_after(min(LOOK_S, left_ms / 1000)):
                await self._earlier.wait()
            if self._is_behind():
                return
            self._ahead_ms = self._ahead()

    def _ahead(self) -> float:
        return self.wall() - trio.current_time() * 1000

    def _is_behind(self) -> bool:
        return self._ahead() < self._ahead_ms - BACK_MS_MIN

    def _was_put_back(self) -> bool:
        """Whether the clock was put back since it was last looked at. Small corrections are not."""
        was_put_back, self._ahead_ms = self._is_behind(), self._ahead()
        return was_put_back

    async def _fire(self) -> None:
        """What is due now, a batch at a time."""
        due = await self._store.read(firing.find_due, self.wall(), DUE_MAX)
        for start in range(0, len(due), FIRED_PER_JOB_MAX):
            await self._fire_batch(due[start : start + FIRED_PER_JOB_MAX])

    async def _fire_batch(self, numbers: list[int]) -> None:
        """On a disk that takes nothing new, these wait; they are found again."""
        full = self._inboxes.full()
        try:
            self._room.admit(FIRED_PER_JOB_MAX * REMINDER_CHARS_MAX)
            fired = await self._feed.write_new(firing.fire_due, numbers, self.wall(), full)
        except Refused as refused:
            if refused.problem is not Problem.STORAGE_FULL:
                raise
            self._log.warning("reminders wait for room on the disk", reason=refused.detail)
            await trio.sleep(FULL_S)
            return
        for fault in fired.faults:
            self._log.error("a reminder cannot be read; it fires no more", fault=fault)
        if fired.put_off:
            self._log.warning(
                "reminders wait for room in inboxes", reminders=fired.put_off, full=sorted(full)
            )

    async def _work_out_anew(self) -> None:
        """The clock was put back: what recurs would be silent until it is again as late as it was."""
        self._log.warning("the clock was put back; the next times of reminders are worked out anew")
        place: int | None = 0
        while place is not None:
            place = await self._feed.write_surely(
                reminders.work_out_anew, place, self.wall(), WORKED_OUT_PER_JOB_MAX
            )
