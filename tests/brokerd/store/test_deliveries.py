"""Deliveries outside of turns: read by the operator, given up, leased in the feed's eyes, counted."""

import pytest

from brokerd.store import deliveries, pulls
from brokerd.store.deliveries import Telling
from protocol.brokerd import DeliveryChanged
from protocol.messages import DeliveryState
from protocol.names import OPERATOR
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import begin, draft, send


def test_what_the_operator_has_read_is_done(db: Db, write: Writer) -> None:
    mine, others = send(write, draft("iris", (OPERATOR,)), draft("iris", ("atlas",)))
    write.kinds()
    seq = write(deliveries.mark_read, (mine.message, others.message, 999))
    assert seq == write.told[-1].seq
    assert write.kinds() == ["DeliveryChanged"]
    assert [receipt.state for receipt in deliveries.of_message(db, mine.message)] == [DeliveryState.DONE]
    assert [receipt.state for receipt in deliveries.of_message(db, others.message)] == [DeliveryState.QUEUED]
    assert write(deliveries.mark_read, (mine.message,)) == seq
    assert write.kinds() == []


def test_an_agent_that_is_gone_reads_nothing_more(db: Db, write: Writer) -> None:
    send(write, *(draft("operator", ("iris",)) for _ in range(3)), draft("operator", ("atlas",)))
    write.kinds()
    assert write(deliveries.bury, "iris", 2) == 2
    assert write(deliveries.bury, "iris", 2) == 1
    assert write(deliveries.bury, "iris", 2) == 0
    assert write.kinds() == ["DeliveryChanged"] * 3
    assert deliveries.open_counts(db) == {"atlas": 1}


def test_the_dead_are_found_by_the_time_of_their_death(db: Db, write: Writer) -> None:
    first, second = send(write, draft("operator", ("iris",)), draft("operator", ("atlas",)))
    write.now_ms = 5_000
    write(deliveries.bury, "atlas", 9)
    write.now_ms = 6_000
    write(deliveries.bury, "iris", 9)
    assert deliveries.dead_since(db, 0, 9) == [second.message, first.message]
    assert deliveries.dead_since(db, 5_001, 9) == [first.message]
    assert deliveries.dead_since(db, 0, 1) == [second.message]


def leased_states(write: Writer) -> list[DeliveryState]:
    bodies = [entry.body for entry in write.told]
    write.told.clear()
    assert all(isinstance(body, DeliveryChanged) for body in bodies)
    return [body.delivery.state for body in bodies if isinstance(body, DeliveryChanged)]


def test_leases_are_told_as_long_as_the_delivery_waits(db: Db, write: Writer) -> None:
    (sent,) = send(write, draft())
    delivery = deliveries.id_of(sent.message, 0)
    write.told.clear()
    write(deliveries.tell_leases, [Telling(delivery, True)])
    assert leased_states(write) == [DeliveryState.LEASED]
    write(deliveries.tell_leases, [Telling(delivery, False)])
    assert leased_states(write) == [DeliveryState.QUEUED]
    assert deliveries.read(db, delivery).state is DeliveryState.QUEUED  # a lease lives in memory
    begin(write, "iris", delivery, "a" * 32)
    write.told.clear()
    write(deliveries.tell_leases, [Telling(delivery, True), Telling(999, True)])
    assert leased_states(write) == []


def test_open_means_waiting_or_in_a_turn(db: Db, write: Writer) -> None:
    first, _, _ = send(write, draft(), draft(), draft("iris", (OPERATOR,)))
    begin(write, "iris", deliveries.id_of(first.message, 0), "a" * 32)
    assert deliveries.open_counts(db) == {"iris": 2, OPERATOR: 1}


def test_who_has_something_waiting(db: Db, write: Writer) -> None:
    send(write, draft("operator", ("atlas",)))
    assert deliveries.any_queued(db, ["iris", "atlas", "hm1nd"]) == ["atlas"]


def test_the_oldest_comes_first_with_its_message(db: Db, write: Writer) -> None:
    assert pulls.oldest_waiting(db, "iris") is None
    first, _ = send(write, draft(body="first"), draft(body="second"))
    waiting = pulls.oldest_waiting(db, "iris")
    assert waiting is not None
    assert (waiting.message.id, waiting.message.body, waiting.attempts) == (first.message, "first", 0)
    assert pulls.waiting_of(db, waiting.delivery) == waiting


@pytest.mark.parametrize("limit", [1, 2, 9])
def test_order_is_by_number(db: Db, write: Writer, limit: int) -> None:
    sent = send(write, *(draft("operator", ("atlas", "iris")) for _ in range(4)))
    waiting = deliveries.queued(db, "iris", limit)
    assert [receipt.message for receipt in waiting] == [each.message for each in sent][:limit]
