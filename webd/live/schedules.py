"""Reminders as the dashboard keeps them: those that are due soonest. Pure.

There may be a hundred thousand; a window on the soonest ones is kept up by what changes, and asked for again when too
many of it have fired.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from protocol.reminders import Reminder, ReminderState
from webd.live.rows import reminder_row

WINDOW_REMINDERS: Final = 100
HEARD_MAX: Final = 1_000

Told = tuple[str, Reminder | None]
"""What to tell of one row: its key, and None when it is not among the soonest any more."""


class Schedules:
    """Reminders that are still to fire, by id."""

    def __init__(self) -> None:
        self._rows: dict[int, Reminder] = {}
        self._begun = 0
        self._more = False
        self._heard: OrderedDict[int, int] = OrderedDict()

    def start_from(self, soonest: Sequence[Reminder], *, more: bool) -> None:
        """The soonest ones, at most WINDOW_REMINDERS; `more` says whether others are due after them."""
        self._rows = {reminder.id: reminder for reminder in soonest}
        self._begun = len(self._rows)
        self._more = more

    def changed(self, reminder: Reminder) -> list[Told]:
        """One was set, changed, fired or ended."""
        number, key = reminder.id, str(reminder.id)
        self._heard[number] = self._heard.pop(number, 0) + 1
        if len(self._heard) > HEARD_MAX:
            self._heard.popitem(last=False)
        known = self._rows.pop(number, None)
        is_due = reminder.state is ReminderState.ACTIVE and reminder.next_ms is not None
        if not is_due or (self._more and _due(reminder) > self._last_ms()):
            self._more = self._more or is_due
            return [] if known is None else [(key, None)]
        self._rows[number] = reminder
        told: list[Told] = [(key, reminder_row(reminder))]
        if len(self._rows) > WINDOW_REMINDERS:
            latest = max(self._rows.values(), key=_due)
            del self._rows[latest.id]
            self._more = True
            told.append((str(latest.id), None))
        return told

    @property
    def is_thin(self) -> bool:
        """Whether the window is to be asked for again."""
        return self._more and 2 * len(self._rows) < self._begun

    def times_heard(self, number: int) -> int:
        """How often one has changed, as far as is remembered."""
        return self._heard.get(number, 0)

    def rows(self) -> dict[str, Reminder]:
        """What is shown, by key."""
        return {str(reminder.id): reminder_row(reminder) for reminder in self._rows.values()}

    def _last_ms(self) -> int:
        return max(map(_due, self._rows.values()), default=0)


def _due(reminder: Reminder) -> int:
    return reminder.next_ms or 0
