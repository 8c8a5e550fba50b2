"""What is over may go, what is open never; and it goes with everything that belongs to it."""

import pytest

from brokerd.policy.search import search_for
from brokerd.store import behind, deliveries, history, keys, messages, retention, search, turn_events, turns
from brokerd.store.keys import Asked, First
from brokerd.store.turns import Ending
from protocol.messages import DeliveryState
from protocol.turns import Outcome, Said
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import begin, draft, send

OLD, NEW, NOW = 1_000, 5_000, 9_000
BEFORE = 3_000
TOKEN = "a" * 32


def sent_to(write: Writer, *recipients: str, at_ms: int = OLD, body: str = "hello") -> int:
    write.now_ms = at_ms
    (sent,) = send(write, draft("hm1nd", recipients, body))
    return sent.message


def settle(db: Db, message: int, *states: DeliveryState, at_ms: int = OLD) -> None:
    for receipt, state in zip(deliveries.of_message(db, message), states, strict=True):
        db.execute(
            "UPDATE deliveries SET state = ?, changed_ms = ? WHERE id = ?", (state.value, at_ms, receipt.id)
        )


def counts(db: Db, *tables: str) -> list[int]:
    return [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]


def test_a_message_is_over_when_its_last_delivery_is(db: Db, write: Writer) -> None:
    done, dead, open_, young, mixed, held = (sent_to(write, "iris", "atlas") for _ in range(6))
    alone = sent_to(write, "iris")
    db.execute("DELETE FROM deliveries WHERE id >> 7 = ?", (alone,))
    settle(db, done, DeliveryState.DONE, DeliveryState.DONE)
    settle(db, dead, DeliveryState.DEAD, DeliveryState.DONE)
    settle(db, open_, DeliveryState.DONE, DeliveryState.QUEUED)
    settle(db, young, DeliveryState.DONE, DeliveryState.DONE, at_ms=NEW)
    settle(db, mixed, DeliveryState.IN_TURN, DeliveryState.DONE)
    settle(db, held, DeliveryState.HELD, DeliveryState.DONE)
    recent = sent_to(write, "iris", at_ms=NEW)
    settle(db, recent, DeliveryState.DONE)
    found = retention.old_messages(db, 0, BEFORE)
    assert (found.numbers, found.place) == ((done, dead, alone), None)


def test_it_goes_with_all_that_belongs_to_it(db: Db, write: Writer) -> None:
    gone, kept = sent_to(write, "iris", "atlas", body="gone"), sent_to(write, "iris", body="kept")
    late = sent_to(write, "atlas", body="not in the index")
    settle(db, gone, DeliveryState.DONE, DeliveryState.DONE)
    settle(db, late, DeliveryState.DONE)
    behind.catch_up(db, kept, 100)
    assert retention.remove_messages(db, [gone, late], BEFORE) == 2
    assert counts(db, "messages", "deliveries", "history", "words_docsize") == [1, 1, 2, 1]
    assert db.execute("SELECT messages_gone FROM retention").fetchone()[0] == 2
    wanted = search_for("gone")
    assert wanted is not None
    assert search.newest(db, wanted, None, None, 9) == ([], None)
    assert [message.id for message in history.newest(db, "iris", None, 9)[0]] == [kept]
    assert behind.catch_up(db, late, 100) == late
    db.execute("INSERT INTO words (words) VALUES ('integrity-check')")


def test_what_came_back_since_it_was_looked_at_stays(db: Db, write: Writer) -> None:
    message = sent_to(write, "iris")
    settle(db, message, DeliveryState.DEAD)
    found = retention.old_messages(db, 0, BEFORE)
    settle(db, message, DeliveryState.QUEUED)
    assert found.numbers == (message,)
    assert retention.remove_messages(db, found.numbers, BEFORE) == 0
    assert counts(db, "messages", "deliveries") == [1, 1]


def test_long_messages_go_a_few_at_a_time(db: Db, write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHARS_MAX", 10)
    numbers = [sent_to(write, "iris", body="x" * 6) for _ in range(5)]
    for number in numbers:
        settle(db, number, DeliveryState.DONE)
    assert [retention.remove_messages(db, numbers, BEFORE) for _ in range(4)] == [2, 2, 1, 0]


def test_a_thread_without_its_root_stays_readable(db: Db, write: Writer) -> None:
    write.now_ms = OLD
    (root,) = send(write, draft("operator", ("iris",)))
    settle(db, root.message, DeliveryState.DONE)
    write.now_ms = NEW
    (answer,) = send(write, draft("iris", ("operator",), in_reply_to=root.message))
    retention.remove_messages(db, [root.message], BEFORE)
    (found,), _ = messages.newest(db, None, 10, None, root.message)
    assert (found.id, found.thread, found.in_reply_to) == (answer.message, root.message, root.message)
    (again,) = send(write, draft("operator", ("iris",), in_reply_to=answer.message))
    assert again.thread == root.message
    (late,) = send(write, draft("iris", ("operator",), in_reply_to=root.message))
    assert late.thread == late.message
    assert messages.read(db, late.message).in_reply_to is None
    assert messages.wrote_to(db, again.message, "operator", "iris")


def test_numbers_of_removed_messages_are_never_given_again(db: Db, write: Writer) -> None:
    message = sent_to(write, "iris")
    settle(db, message, DeliveryState.DONE)
    retention.remove_messages(db, [message], BEFORE)
    assert sent_to(write, "iris", at_ms=NEW) == message + 1


def test_looks_are_short_and_lead_on(db: Db, write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LOOKED_AT_ROWS", 2)
    numbers = [sent_to(write, "iris") for _ in range(5)]
    for number in numbers[1:]:
        settle(db, number, DeliveryState.DONE)
    looks = []
    place: int | None = 0
    while place is not None:
        found = retention.old_messages(db, place, BEFORE)
        looks.append(found.numbers)
        place = found.place
    assert looks == [(numbers[1],), (numbers[2], numbers[3]), (numbers[4],)]


def test_a_clock_that_was_set_back_holds_nothing_up(db: Db, write: Writer) -> None:
    """The first message and the first turn bear a time that is yet to come."""
    ran(write, NEW, None, "atlas")
    turn = ran(write, OLD, OLD)
    ran(write, NEW, NEW)  # an agent's last turn stays
    message = sent_to(write, "iris")
    settle(db, message, DeliveryState.DONE)
    settle(db, message - 2, DeliveryState.DONE)
    assert retention.old_messages(db, 0, BEFORE).numbers == (message - 2, message)
    assert retention.old_turns(db, 0, BEFORE).numbers == (turn,)
    assert retention.turns_with_old_events(db, 0, BEFORE).numbers == (turn,)


def ran(write: Writer, began_ms: int, ended_ms: int | None, agent: str = "iris") -> int:
    """A turn with three events."""
    delivery = deliveries.id_of(sent_to(write, agent, at_ms=began_ms), 0)
    turn = begin(write, agent, delivery, TOKEN)
    write(turn_events.publish, agent, turn, [Said(n=n, at_ms=began_ms, text="x") for n in range(3)])
    if ended_ms is not None:
        write.now_ms = ended_ms
        write(turns.end, agent, turn, Ending(Outcome.DONE))
    return turn


def test_events_go_by_the_end_of_their_turn(db: Db, write: Writer) -> None:
    long, running = ran(write, OLD, None), ran(write, OLD, None, "atlas")
    write.now_ms = NEW
    write(turns.end, "iris", long, Ending(Outcome.DONE))
    over = ran(write, OLD, OLD + 1)
    lost = ran(write, OLD, OLD + 1)
    db.execute("DELETE FROM turns WHERE id = ?", (lost,))
    recent = ran(write, NEW, NEW + 1)
    found = retention.turns_with_old_events(db, 0, BEFORE)
    assert (found.numbers, found.place) == ((over, lost), None)
    assert [retention.remove_events(db, found.numbers, 4) for _ in range(3)] == [4, 2, 0]
    left = {row["turn"] for row in db.execute("SELECT turn FROM turn_events")}
    assert left == {long, running, recent}
    assert retention.turns_with_old_events(db, 0, NOW).numbers == (long, recent)


def test_turns_go_once_they_ended(db: Db, write: Writer) -> None:
    over, running, recent = ran(write, OLD, OLD + 1), ran(write, OLD, None, "atlas"), ran(write, NEW, NEW)
    found = retention.old_turns(db, 0, BEFORE)
    assert found.numbers == (over,)
    assert retention.remove_turns(db, [over, running, recent], BEFORE) == 1
    assert counts(db, "turns") == [2]


def test_questions_go_once_they_ended(db: Db) -> None:
    for number, ended_ms in ((1, OLD), (2, None), (3, NEW)):
        db.execute(
            "INSERT INTO questions (id, asker, asked_of, state, asked_ms, ended_ms, form) "
            "VALUES (?, 'iris', 'operator', 'open', ?, ?, x'')",
            (number, OLD, ended_ms),
        )
    assert retention.old_questions(db, 0, BEFORE).numbers == (1,)
    assert retention.remove_questions(db, [1, 2, 3], BEFORE) == 1
    assert counts(db, "questions") == [2]


def test_keys_go_unless_a_turn_may_use_them_again(
    db: Db, write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LOOKED_AT_ROWS", 2)
    waiting = sent_to(write, "iris", at_ms=OLD)
    db.execute("DELETE FROM keys")
    asked = {
        ("iris", OLD - 1): True,  # before what waits for iris: no turn of it used that
        ("iris", OLD + 1): False,
        ("atlas", OLD + 1): True,
        ("atlas", NEW): False,
        ("operator", OLD): True,
    }
    for number, (sender, at_ms) in enumerate(asked):
        keys.remember(db, [(Asked(sender, bytes([number])), First(b"", b"{}"))], at_ms)
    needed = retention.oldest_open(db)
    assert needed == {"iris": OLD}
    found: list[retention.KeyPlace] = []
    place: retention.KeyPlace | None = retention.FIRST_KEY
    while place is not None:
        look = retention.old_keys(db, place, BEFORE, needed)
        found += look.keys
        place = look.place
    expected = {(bytes([number]), sender) for number, ((sender, _), old) in enumerate(asked.items()) if old}
    assert set(found) == expected
    assert retention.remove_keys(db, found, BEFORE) == 3
    assert retention.remove_keys(db, [(b"\3", "atlas")], BEFORE) == 0
    assert counts(db, "keys") == [2]
    for state in (DeliveryState.DEAD, DeliveryState.IN_TURN):
        settle(db, waiting, state)
        assert retention.oldest_open(db) == {"iris": OLD}
    settle(db, waiting, DeliveryState.DONE)
    assert retention.oldest_open(db) == {}
