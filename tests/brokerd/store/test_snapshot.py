"""The snapshot: several tables as of one place of the feed, and never more than a reply holds."""

import msgspec
import pytest

from brokerd.store import agents, deliveries, feed, snapshot, turn_events, turns
from brokerd.store.turns import Ending
from protocol.brokerd import Activity, AgentGone
from protocol.limits import PAGE_BYTES_MAX, REPLY_BYTES_MAX
from protocol.names import OPERATOR
from protocol.turns import Outcome, Said
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import begin, draft, send

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def test_what_it_holds(db: Db, write: Writer) -> None:
    write.now_ms = 2 * HOUR_MS
    write(agents.change, "iris", attached=True, status="busy")
    first, _ = send(write, draft("operator", ("iris",)), draft("iris", (OPERATOR,)))
    turn = begin(write, "iris", deliveries.id_of(first.message, 0), "a" * 32)
    taken = snapshot.take(db, write.now_ms + 1)
    assert taken.seq == feed.last_seq(db)
    assert (taken.at_ms, taken.messages_hour, taken.operator_unread) == (write.now_ms + 1, 2, 1)
    assert [message.id for message in taken.messages] == [first.message, first.message + 1]
    assert [receipt.state for receipt in taken.messages[0].deliveries] == ["in_turn"]
    assert [now.agent.name for now in taken.agents] == ["atlas", "hm1nd", "iris"]
    iris = taken.agents[2]
    assert (iris.agent.activity, iris.agent.status, iris.agent.turn) == (Activity.THINKING, "busy", turn)
    assert (iris.inbox, iris.turns_began_ms) == (1, (write.now_ms,))


def test_it_belongs_to_the_last_place_that_is_durable(db: Db, write: Writer) -> None:
    """Entries that only concern events.sqlite may be ahead of it; whoever watches from here gets them."""
    send(write, draft())
    head = feed.durable_head(db).head
    log = feed.FeedLog(db, 1)
    log.append("iris", AgentGone("iris"))
    log.flush(durable=False)
    assert snapshot.take(db, 1).seq == head == feed.last_seq(db) - 1


def test_the_newest_hundred_oldest_first(db: Db, write: Writer) -> None:
    sent = send(write, *(draft() for _ in range(130)))
    assert [message.id for message in snapshot.take(db, 1).messages] == [each.message for each in sent[30:]]


def test_what_waits_for_the_operator_is_shown_however_old(db: Db, write: Writer) -> None:
    (question,) = send(write, draft("iris", (OPERATOR,)))
    (lost,) = send(write, draft("operator", ("atlas",)))
    write(deliveries.bury, "atlas", 1)
    send(write, *(draft() for _ in range(120)))
    taken = snapshot.take(db, write.now_ms)
    assert [message.id for message in taken.wanting] == [question.message, lost.message]
    assert [receipt.state for message in taken.wanting for receipt in message.deliveries] == [
        "queued",
        "dead",
    ]
    write(deliveries.mark_read, [question.message])
    assert [message.id for message in snapshot.take(db, write.now_ms + DAY_MS).wanting] == [lost.message]
    assert snapshot.take(db, write.now_ms + DAY_MS + 1).wanting == ()


def test_it_fits_into_a_reply_whatever_was_sent(db: Db, write: Writer) -> None:
    largest = "\x01" * 65_536  # six bytes each, as JSON
    send(write, *(draft("iris", (OPERATOR,), largest) for _ in range(8)))
    taken = snapshot.take(db, 1)
    assert len(taken.messages) == len(taken.wanting) == 1
    assert len(msgspec.json.encode(taken)) < REPLY_BYTES_MAX


def ended_turn(write: Writer, events: int, text: str = "word") -> int:
    (sent,) = send(write, draft())
    turn = begin(write, "iris", deliveries.id_of(sent.message, 0), "a" * 32)
    for start in range(0, events, 64):
        batch = [Said(n, n, text) for n in range(start, min(start + 64, events))]
        write(turn_events.publish, "iris", turn, batch)
    write(turns.end, "iris", turn, Ending(Outcome.DONE))
    return turn


def test_a_tail_is_turns_with_their_events(db: Db, write: Writer) -> None:
    numbers = [ended_turn(write, 3) for _ in range(3)]
    page, faults = snapshot.tail(db, "iris", None, 2)
    assert faults == ()
    assert [each.turn.id for each in page.turns] == numbers[1:]
    assert [[event.n for event in each.events] for each in page.turns] == [[0, 1, 2]] * 2
    assert (page.before, page.seq) == (numbers[1], feed.last_seq(db))
    older, _ = snapshot.tail(db, "iris", page.before, 2)
    assert ([each.turn.id for each in older.turns], older.before) == ([numbers[0]], None)


def test_a_tail_of_nobody_is_empty(db: Db, write: Writer) -> None:
    page, _ = snapshot.tail(db, "atlas", None, 20)
    assert (page.turns, page.before) == ((), None)


def test_a_long_turn_is_cut_and_says_so(db: Db, write: Writer) -> None:
    turn = ended_turn(write, 100, "x" * 8_000)
    page, _ = snapshot.tail(db, "iris", None, 20)
    (only,) = page.turns
    assert only.turn.id == turn
    assert only.cut + len(only.events) == 100
    assert only.events[-1].n == 99
    assert len(msgspec.json.encode(page)) < PAGE_BYTES_MAX + 10_000


def test_a_page_ends_before_a_turn_that_does_not_fit(db: Db, write: Writer) -> None:
    first, second = ended_turn(write, 50, "x" * 8_000), ended_turn(write, 50, "x" * 8_000)
    page, _ = snapshot.tail(db, "iris", None, 20)
    assert [each.turn.id for each in page.turns] == [second]
    assert page.before == second
    older, _ = snapshot.tail(db, "iris", page.before, 20)
    assert [(each.turn.id, each.cut) for each in older.turns] == [(first, 0)]


@pytest.mark.parametrize("broken", [0, 2])
def test_an_event_that_cannot_be_read_is_reported(db: Db, write: Writer, broken: int) -> None:
    turn = ended_turn(write, 3)
    db.execute("UPDATE turn_events SET body = ? WHERE n = ?", (b"{", broken))
    page, faults = snapshot.tail(db, "iris", None, 1)
    assert len(page.turns[0].events) == 3
    (fault,) = faults
    assert f"turn {turn}, event {broken}" in fault
