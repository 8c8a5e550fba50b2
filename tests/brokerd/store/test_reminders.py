"""Reminders as they are stored: bounds, pages, the end of an agent, a clock that was put back."""

import pytest

from brokerd.policy.schedules import Wish
from brokerd.store import reminders
from brokerd.store.keys import Asked
from brokerd.store.reminders import NewReminder
from protocol.brokerd import EditReminder
from protocol.limits import REMINDERS_OPEN_MAX
from protocol.problem import Problem, Refused
from protocol.reminders import ReminderState
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.test_firing import START_MS, remind

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def new(key: int, agent: str = "iris", digest: bytes = b"") -> NewReminder:
    return NewReminder(Asked("operator", key.to_bytes(16, "big")), digest, agent, "look", Wish(in_s=60), None)


def test_a_repeat_stores_nothing(write: Writer, db: Db) -> None:
    first = write(reminders.set_reminder, new(7), START_MS)
    assert write.kinds() == ["ReminderChanged"]
    assert write(reminders.set_reminder, new(7), START_MS + 1) == first
    assert (write.kinds(), reminders.count_open(db)) == ([], 1)
    with pytest.raises(Refused) as refused:
        write(reminders.set_reminder, new(7, digest=b"other"), START_MS)
    assert refused.value.problem is Problem.CONFLICT


def test_only_for_an_agent_that_is_there(write: Writer, db: Db) -> None:
    with pytest.raises(Refused, match="there is no agent nobody"):
        write(reminders.set_reminder, new(7, "nobody"), START_MS)
    assert reminders.next_due(db) is None


def test_so_many_that_are_still_to_fire(write: Writer, db: Db) -> None:
    numbers = [remind(write, in_s=60).id for _ in range(REMINDERS_OPEN_MAX)]
    with pytest.raises(Refused, match="cancel some") as refused:
        remind(write, in_s=60)
    assert refused.value.problem is Problem.LIMIT
    remind(write, "atlas")
    write(reminders.cancel, numbers[0])
    remind(write, in_s=60)
    assert (reminders.count_open(db, "iris"), reminders.count_open(db)) == (200, 201)


def test_the_next_one(write: Writer, db: Db) -> None:
    late, soon = remind(write, in_s=900), remind(write, in_s=60)
    assert reminders.next_due(db) == soon.next_ms
    write(reminders.edit, EditReminder(soon.id, every_s=1_000), START_MS)
    assert reminders.next_due(db) == late.next_ms
    write(reminders.cancel, late.id)
    assert reminders.next_due(db) == START_MS + 1_000_000


def test_reminders_of_an_agent_that_is_gone(write: Writer, db: Db) -> None:
    for _ in range(5):
        remind(write)
    other = remind(write, "atlas")
    assert reminders.agents_with_open(db) == ["atlas", "iris"]
    assert [write(reminders.cancel_of, "iris", 3) for _ in range(3)] == [3, 2, 0]
    assert reminders.agents_with_open(db) == ["atlas"]
    assert reminders.read(db, other.id).state is ReminderState.ACTIVE
    assert {each.state for each in reminders.over(db, "iris", 2**53, 10).reminders} == {
        ReminderState.CANCELLED
    }
    assert reminders.over(db, "atlas", 2**53, 10).reminders == []
    assert len(reminders.over(db, None, 2**53, 10).reminders) == 5


def test_the_same_time_twice_is_no_end_of_a_page(write: Writer, db: Db) -> None:
    numbers = [remind(write, agent, in_s=60).id for agent in ("iris", "atlas") * 3]
    shown: list[int] = []
    for _ in numbers:
        found = reminders.active(db, None, shown[-1] if shown else None, 1)
        shown += [each.id for each in found.reminders]
    assert shown == numbers
    assert [each.id for each in reminders.active(db, "atlas", numbers[1], 9).reminders] == [
        numbers[3],
        numbers[5],
    ]


def test_a_broken_row_is_named_and_hides_no_other(write: Writer, db: Db) -> None:
    broken, whole = remind(write), remind(write)
    db.execute("UPDATE reminders SET schedule = x'7b7d' WHERE id = ?", (broken.id,))
    found = reminders.active(db, "iris", None, 10)
    assert [each.id for each in found.reminders] == [whole.id]
    assert found.faults[0].startswith(f"reminder {broken.id}: ")
    assert write(reminders.work_out_anew, 0, START_MS - DAY_MS, 10) is None


def test_a_clock_that_was_put_back_moves_what_recurs(write: Writer, db: Db) -> None:
    once = remind(write, in_s=60)
    every = remind(write, every_s=3_600)
    cron = remind(write, cron="0 * * * *")
    back_ms = START_MS - DAY_MS
    assert write(reminders.work_out_anew, 0, back_ms, 1) == every.id
    assert write(reminders.work_out_anew, every.id, back_ms, 1) == cron.id
    assert write(reminders.work_out_anew, cron.id, back_ms, 1) is None
    assert reminders.read(db, once.id).next_ms == once.next_ms
    for each in (every, cron):
        next_ms = reminders.read(db, each.id).next_ms
        assert next_ms is not None
        assert back_ms < next_ms <= back_ms + HOUR_MS
    assert reminders.clock(db) == back_ms


def test_only_if(write: Writer, db: Db) -> None:
    reminder = remind(write)
    assert reminders.only_if_of(db, reminder.id) is None
    write(reminders.edit, EditReminder(reminder.id, only_if="true"), START_MS)
    assert reminders.only_if_of(db, reminder.id) == "true"
    assert reminders.only_if_of(db, 99) is None
    assert reminders.only_if_of(db, None) is None
