"""The window on the reminders that are due soonest, against the whole list."""

import random

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.reminders import Once, Reminder, ReminderState
from webd.live.schedules import HEARD_MAX, WINDOW_REMINDERS, Schedules

NOW = 1_800_000_000_000


def reminder(number: int, next_ms: int, state: ReminderState = ReminderState.ACTIVE) -> Reminder:
    return Reminder(number, "iris", "operator", "wake up", Once(next_ms), state, NOW, next_ms=next_ms)


def soonest(known: dict[int, Reminder]) -> list[Reminder]:
    active = [row for row in known.values() if row.state is ReminderState.ACTIVE]
    return sorted(active, key=lambda row: (row.next_ms or 0, row.id))[:WINDOW_REMINDERS]


def test_one_that_fires_again_moves_and_one_that_ended_goes() -> None:
    schedules = Schedules()
    schedules.start_from([reminder(1, 10), reminder(2, 20)], more=False)
    assert schedules.changed(reminder(1, 30)) == [("1", reminder(1, 30))]
    assert schedules.changed(reminder(2, 20, ReminderState.CANCELLED)) == [("2", None)]
    assert schedules.changed(reminder(3, 5, ReminderState.ENDED)) == []
    assert schedules.rows() == {"1": reminder(1, 30)}


def test_what_comes_later_than_the_window_is_not_told() -> None:
    schedules = Schedules()
    schedules.start_from([reminder(number, number) for number in range(1, WINDOW_REMINDERS + 1)], more=True)
    assert schedules.changed(reminder(500, 500)) == []
    assert schedules.changed(reminder(501, 50)) == [("501", reminder(501, 50)), (str(WINDOW_REMINDERS), None)]
    assert len(schedules.rows()) == WINDOW_REMINDERS


@given(seed=st.integers(0, 2**32))
def test_a_window_that_is_not_thin_has_the_soonest_and_one_that_is_asks_again(seed: int) -> None:
    chance = random.Random(seed)

    def moment(number: int) -> int:
        return chance.randrange(1, 10_000) * 1_000 + number

    known = {number: reminder(number, moment(number)) for number in range(1, 160)}
    schedules = Schedules()
    schedules.start_from(soonest(known), more=True)
    shown = dict(schedules.rows())
    for _ in range(300):
        number = chance.randrange(1, 200)
        state = chance.choice([ReminderState.ACTIVE, ReminderState.ENDED, ReminderState.CANCELLED])
        known[number] = reminder(number, moment(number), state)
        for key, row in schedules.changed(known[number]):
            if row is None:
                shown.pop(key, None)
            else:
                shown[key] = row
        assert shown == schedules.rows()
        truth = [str(row.id) for row in soonest(known)]
        assert set(truth[: len(shown)]) == set(shown) or len({row.next_ms for row in known.values()}) < len(
            known
        )
        if schedules.is_thin:
            schedules.start_from(soonest(known), more=True)
            shown = dict(schedules.rows())


def test_how_often_one_was_heard_of_is_remembered_within_a_bound() -> None:
    schedules = Schedules()
    for _ in range(2):
        schedules.changed(reminder(1, 5))
    assert schedules.times_heard(1) == 2
    for number in range(2, HEARD_MAX + 2):
        schedules.changed(replace(reminder(number, 5), state=ReminderState.ENDED))
    assert schedules.times_heard(1) == 0
