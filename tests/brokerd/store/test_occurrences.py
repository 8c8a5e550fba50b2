"""What becomes of occurrences: settled with their deliveries, counted, and forgotten in the end."""

import pytest

from brokerd.store import deliveries, firing, occurrences, reminders
from brokerd.store.deliveries import Bound
from brokerd.store.occurrences import Tally
from protocol.messages import DeliveryState
from protocol.problem import Refused
from protocol.turns import Outcome
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import draft, send
from tests.brokerd.store.test_firing import MINUTE_MS, START_MS, fire, remind, settle


def counts(db: Db, reminder: int) -> tuple[int, int, int, int]:
    row = reminders.read(db, reminder)
    return row.attempted, row.delivered, row.failed, row.skipped


def fired(write: Writer) -> int:
    reminder = remind(write)
    fire(write, START_MS + MINUTE_MS)
    write.told.clear()
    return reminder.id


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((DeliveryState.DONE,), (1, 1, 0, 0)),
        ((DeliveryState.DEAD,), (1, 0, 1, 0)),
        ((DeliveryState.QUEUED,), (1, 0, 0, 0)),
        ((DeliveryState.DEAD, DeliveryState.QUEUED), (1, 0, 0, 0)),
        ((DeliveryState.DEAD, DeliveryState.QUEUED, DeliveryState.DONE), (1, 1, 0, 0)),
    ],
)
def test_a_delivery_takes_its_occurrence_along(
    write: Writer, db: Db, states: tuple[DeliveryState, ...], expected: tuple[int, int, int, int]
) -> None:
    reminder = fired(write)
    for state in states:
        settle(write, 1, state)
    assert counts(db, reminder) == expected
    waits = states[-1] is DeliveryState.QUEUED
    row = db.execute("SELECT waiting FROM reminders WHERE id = ?", (reminder,)).fetchone()
    assert row["waiting"] == (1 if waits else None)


def test_the_end_of_a_turn_is_one_of_an_occurrence(write: Writer, db: Db) -> None:
    reminder = fired(write)
    delivery = deliveries.id_of(1, deliveries.REMINDER_PLACE)
    bound = Bound(delivery, "iris", 7, 1)
    deliveries.bind(db, [bound], START_MS)
    write(deliveries.settle, [(bound, Outcome.DONE)])
    assert counts(db, reminder) == (1, 1, 0, 0)
    assert write.kinds() == ["ReminderChanged"]  # the end of the turn tells the rest


def test_an_ordinary_delivery_asks_for_no_occurrence(write: Writer, db: Db) -> None:
    """The hot path pays nothing for reminders."""
    (sent,) = send(write, draft())
    delivery = deliveries.id_of(sent.message, 0)
    bound = Bound(delivery, "iris", 7, 1)
    deliveries.bind(db, [bound], START_MS)
    asked: list[str] = []
    db.set_trace_callback(asked.append)
    write(deliveries.settle, [(bound, Outcome.DONE)])
    db.set_trace_callback(None)
    assert asked
    assert not any("occurrences" in statement or "reminders" in statement for statement in asked)


def test_one_that_was_dead_while_another_went_out_does_not_take_its_place(write: Writer, db: Db) -> None:
    reminder = fired(write)
    settle(write, 1, DeliveryState.DEAD)
    fire(write, START_MS + 2 * MINUTE_MS)
    settle(write, 1, DeliveryState.QUEUED)
    row = db.execute("SELECT waiting FROM reminders WHERE id = ?", (reminder,)).fetchone()
    assert row["waiting"] == 2
    settle(write, 1)
    assert db.execute("SELECT waiting FROM reminders").fetchone()["waiting"] == 2
    settle(write, 2)
    assert counts(db, reminder) == (2, 2, 0, 0)


def test_skipping(write: Writer, db: Db) -> None:
    reminder = fired(write)
    delivery = deliveries.id_of(1, deliveries.REMINDER_PLACE)
    with pytest.raises(Refused, match=r"^conflict: the lease"):
        write(deliveries.skip, delivery, "iris", is_leased=False)
    for _ in range(2):
        write(deliveries.skip, delivery, "iris", is_leased=True)
    assert counts(db, reminder) == (1, 0, 0, 1)
    assert deliveries.read(db, delivery).state is DeliveryState.DONE


def test_what_a_turn_has_done_cannot_be_skipped(write: Writer, db: Db) -> None:
    reminder = fired(write)
    delivery = deliveries.id_of(1, deliveries.REMINDER_PLACE)
    bound = Bound(delivery, "iris", 7, 1)
    deliveries.bind(db, [bound], START_MS)
    write(deliveries.settle, [(bound, Outcome.DONE)])
    with pytest.raises(Refused, match=r"^conflict: the lease of delivery \d+ was lost: it is done"):
        write(deliveries.skip, delivery, "iris", is_leased=True)
    assert counts(db, reminder) == (1, 1, 0, 0)


def test_tallies_are_of_a_span(write: Writer, db: Db) -> None:
    fired(write)
    remind(write, "atlas")
    fire(write, START_MS + 2 * MINUTE_MS)
    settle(write, 1)
    assert occurrences.tallies(db, 0) == {"iris": Tally(1, 1, 0, 1), "atlas": Tally(1, 0, 0, 0)}
    assert occurrences.tallies(db, START_MS + 2 * MINUTE_MS) == {
        "iris": Tally(0, 0, 0, 1),
        "atlas": Tally(1, 0, 0, 0),
    }
    iris = occurrences.roll_up(db, "iris", 0)
    assert (iris.attempted, iris.delivered, iris.failed, iris.skipped, iris.waiting) == (1, 1, 0, 1, 1)
    everybody = occurrences.roll_up(db, None, 0, occurrences.tallies(db, 0))
    assert (everybody.attempted, everybody.skipped, everybody.waiting) == (2, 1, 2)
    assert occurrences.roll_up(db, "nobody", 0).attempted == 0


def test_what_is_over_long_ago_is_forgotten(write: Writer, db: Db) -> None:
    write.now_ms = START_MS
    old = remind(write, in_s=60)
    kept = remind(write)
    for minute in (1, 2, 3):
        write.now_ms = START_MS + minute * MINUTE_MS
        fire(write, write.now_ms)
        for row in db.execute("SELECT waiting FROM reminders WHERE waiting IS NOT NULL").fetchall():
            settle(write, row["waiting"])
    later = write.now_ms + 1
    assert write(lambda db, log: occurrences.forget_before(db, START_MS, 100)) == 0
    assert write(lambda db, log: occurrences.forget_before(db, later, 2)) == 2
    assert db.execute("SELECT count(*) FROM occurrences").fetchone()[0] == 2
    while write(lambda db, log: occurrences.forget_before(db, later, 2)):
        continue
    assert db.execute("SELECT count(*) FROM occurrences").fetchone()[0] == 0
    with pytest.raises(Refused, match="there is no reminder"):
        reminders.read(db, old.id)
    assert reminders.read(db, kept.id).attempted == 3


def test_what_waits_is_not_forgotten(write: Writer, db: Db) -> None:
    fired(write)
    assert write(lambda db, log: occurrences.forget_before(db, 2**53, 100)) == 0
    assert db.execute("SELECT state FROM occurrences").fetchone()["state"] == "waiting"


def test_a_delivery_outlives_what_is_known_of_its_reminder(write: Writer, db: Db) -> None:
    reminder = remind(write, in_s=60)
    fire(write, START_MS + MINUTE_MS)
    db.execute("DELETE FROM reminders WHERE id = ?", (reminder.id,))
    settle(write, 1)
    assert db.execute("SELECT state FROM occurrences").fetchone()["state"] == "delivered"
    db.execute("DELETE FROM occurrences")
    settle(write, 1, DeliveryState.DEAD)
    assert firing.find_due(db, 2**53, 10) == []
