"""What fires, is skipped, waits or has fired; each in one transaction with its message."""

import pytest

from brokerd.policy.schedules import Wish
from brokerd.store import deliveries, firing, messages, occurrences, reminders
from brokerd.store.firing import Fired
from brokerd.store.keys import Asked
from brokerd.store.reminders import NewReminder
from protocol.brokerd import MessageSent
from protocol.messages import DeliveryState, SystemEvent
from protocol.problem import Refused
from protocol.reminders import Reminder, ReminderState
from runtime.store import Db
from tests.brokerd.store.conftest import Writer

START_MS = 1_800_000_000_000
MINUTE_MS = 60_000


def remind(write: Writer, agent: str = "iris", at_ms: int = START_MS, **wish: int | str) -> Reminder:
    remind.keys += 1  # type: ignore[attr-defined]  # a counter
    asked = Asked("operator", remind.keys.to_bytes(16, "big"))  # type: ignore[attr-defined]  # a counter of its own
    wanted = Wish(**(wish or {"every_s": 60}))  # type: ignore[arg-type]  # what a test varies
    return write(reminders.set_reminder, NewReminder(asked, b"", agent, "look", wanted, None), at_ms)


remind.keys = 0  # type: ignore[attr-defined]  # a counter of its own


def fire(write: Writer, at_ms: int, *full: str) -> Fired:
    found = firing.find_due(write.db, at_ms, 1_000)
    return write(firing.fire_due, found, at_ms, frozenset(full))


def settle(write: Writer, message: int, state: DeliveryState = DeliveryState.DONE) -> None:
    delivery = deliveries.id_of(message, deliveries.REMINDER_PLACE)
    write(deliveries._change, delivery, state, None, 1)


def test_the_message_of_a_firing(write: Writer, db: Db) -> None:
    reminder = remind(write, in_s=60)
    write.told.clear()
    assert fire(write, START_MS + MINUTE_MS - 1) == Fired(0, 0, 0)
    assert fire(write, START_MS + MINUTE_MS) == Fired(1, 1, 0)
    (told,) = [entry.body for entry in write.told]
    message, after = messages.read_whole(db, 1), reminders.read(db, reminder.id)
    assert told == MessageSent(message, after)
    assert (message.sender, message.to, message.body) == ("operator", "iris", "look")
    assert (message.event, message.about, message.hops) == (SystemEvent.REMINDER, reminder.id, 0)
    (receipt,) = message.deliveries
    assert deliveries.is_reminder(receipt.id)
    assert (receipt.state, receipt.recipient) == (DeliveryState.QUEUED, "iris")
    assert (after.state, after.next_ms, after.last_ms) == (ReminderState.ENDED, None, START_MS + MINUTE_MS)


def test_ordinary_messages_have_no_reminders_place(write: Writer) -> None:
    most = deliveries.new(1, [f"a{n}" for n in range(127)], 1)
    assert not any(deliveries.is_reminder(each.id) for each in most)


def test_agents_are_side_by_side_and_the_earliest_come_first(write: Writer, db: Db) -> None:
    numbers = [remind(write, agent, every_s=60 + n).id for n, agent in enumerate(["iris", "atlas"] * 3)]
    due = firing.find_due(db, START_MS + 10 * MINUTE_MS, 5)
    assert due == [numbers[1], numbers[3], numbers[0], numbers[2], numbers[4]]


def test_what_was_found_and_is_not_due_any_more_does_not_fire(write: Writer) -> None:
    cancelled, kept = remind(write), remind(write)
    found = firing.find_due(write.db, START_MS + MINUTE_MS, 10)
    write(reminders.cancel, cancelled.id)
    assert write(firing.fire_due, found, START_MS + MINUTE_MS, frozenset()) == Fired(1, 1, 0)
    assert write(firing.fire_due, found, START_MS + MINUTE_MS, frozenset()) == Fired(0, 0, 0)
    assert reminders.read(write.db, kept.id).attempted == 1


def test_skipped_while_the_one_before_waits(write: Writer, db: Db) -> None:
    reminder = remind(write)
    for minute in (1, 2, 3):
        fire(write, START_MS + minute * MINUTE_MS)
    row = reminders.read(db, reminder.id)
    assert (row.attempted, row.skipped) == (1, 2)
    settle(write, 1)
    fire(write, START_MS + 4 * MINUTE_MS)
    row = reminders.read(db, reminder.id)
    assert (row.attempted, row.skipped, row.delivered) == (2, 2, 1)


def test_late_it_comes_once(write: Writer, db: Db) -> None:
    reminder = remind(write)
    late_ms = START_MS + 1_000 * MINUTE_MS + 5
    assert fire(write, late_ms) == Fired(1, 1, 0)
    assert fire(write, late_ms) == Fired(0, 0, 0)
    row = reminders.read(db, reminder.id)
    assert (row.next_ms, row.attempted, row.skipped) == (START_MS + 1_001 * MINUTE_MS, 1, 0)


def test_a_full_inbox_puts_off(write: Writer, db: Db) -> None:
    once, every = remind(write, in_s=60), remind(write, "atlas")
    at_ms = START_MS + MINUTE_MS
    assert fire(write, at_ms, "iris") == Fired(2, 1, 1)
    row = reminders.read(db, once.id)
    assert (row.state, row.next_ms, row.attempted) == (ReminderState.ACTIVE, at_ms + firing.AGAIN_MS, 0)
    assert fire(write, at_ms + firing.AGAIN_MS, "atlas").sent == 1
    assert reminders.read(db, once.id).state is ReminderState.ENDED
    assert reminders.read(db, every.id).skipped == 1


def test_a_time_that_has_fired_does_not_fire_again(write: Writer, db: Db) -> None:
    reminder = remind(write)
    fire(write, START_MS + MINUTE_MS)
    settle(write, 1)
    assert write(reminders.work_out_anew, 0, START_MS + 1, 10) is None
    assert reminders.next_due(db) == START_MS + MINUTE_MS
    assert fire(write, START_MS + MINUTE_MS) == Fired(1, 0, 0)
    row = reminders.read(db, reminder.id)
    assert (row.next_ms, row.attempted, row.skipped) == (START_MS + 2 * MINUTE_MS, 1, 0)


def test_a_broken_row_fires_no_more_and_holds_nobody_up(write: Writer, db: Db) -> None:
    broken, zoneless, whole = remind(write), remind(write), remind(write)
    db.execute("UPDATE reminders SET schedule = x'ff' WHERE id = ?", (broken.id,))
    gone = b'{"kind":"cron","expression":"* * * * *","zone":"Moon/Base"}'
    db.execute("UPDATE reminders SET schedule = ? WHERE id = ?", (gone, zoneless.id))
    fired = fire(write, START_MS + MINUTE_MS)
    assert (fired.due, fired.sent) == (3, 1)
    assert [fault.split(":")[0] for fault in fired.faults] == [
        f"reminder {broken.id}",
        f"reminder {zoneless.id}",
    ]
    assert reminders.read(db, whole.id).attempted == 1
    assert firing.find_due(db, START_MS + MINUTE_MS, 10) == []
    assert reminders.read(db, zoneless.id).state is ReminderState.CANCELLED


def test_by_hand_and_on_time_in_the_same_millisecond(write: Writer, db: Db) -> None:
    reminder = remind(write)
    at_ms = START_MS + MINUTE_MS
    for message in (1, 2):
        write(firing.fire_now, reminder.id, at_ms)
        settle(write, message)
    assert fire(write, at_ms) == Fired(1, 1, 0)
    row = reminders.read(db, reminder.id)
    assert (row.attempted, row.delivered, row.next_ms) == (3, 2, START_MS + 2 * MINUTE_MS)


def test_by_hand_only_while_it_is_to_fire_and_nothing_waits(write: Writer) -> None:
    reminder = remind(write)
    write(firing.fire_now, reminder.id, START_MS)
    with pytest.raises(Refused, match=r"^conflict: message 1 of reminder 1 still waits for iris"):
        write(firing.fire_now, reminder.id, START_MS)
    write(reminders.cancel, reminder.id)
    with pytest.raises(Refused, match=r"^conflict: reminder 1 is cancelled"):
        write(firing.fire_now, reminder.id, START_MS)


def test_nothing_due_is_nothing_done(write: Writer, db: Db) -> None:
    before = reminders.clock(db)
    assert write(firing.fire_due, [], START_MS, frozenset()) == Fired(0, 0, 0)
    assert (write.kinds(), reminders.clock(db)) == ([], before)


def test_many_at_once(write: Writer, db: Db) -> None:
    """More than one statement's worth, of every kind."""
    numbers = [remind(write, "iris" if n % 3 else "atlas").id for n in range(150)]
    assert fire(write, START_MS + MINUTE_MS) == Fired(150, 150, 0)
    for message in range(1, 51):
        settle(write, message)
    assert fire(write, START_MS + 2 * MINUTE_MS) == Fired(150, 50, 0)
    rows = [reminders.read(db, number) for number in numbers]
    assert (sum(row.attempted for row in rows), sum(row.skipped for row in rows)) == (200, 100)
    assert db.execute("SELECT count(*) FROM occurrences").fetchone()[0] == 300
    assert occurrences.roll_up(db, None, 0).attempted == 200
