"""Parked threads: what is held, what goes on, what is given up, and what the feed says of it."""

import pytest

from brokerd.store import deliveries, messages, parked
from brokerd.store.deliveries import id_of
from brokerd.store.parked import close_some, release_some
from protocol.brokerd import DeliveryChanged, ParkedThread, ThreadParked, ThreadReleased
from protocol.messages import DeliveryState, SystemEvent
from protocol.problem import Problem, Refused
from protocol.tools import Sent
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import draft, send

HELD, QUEUED, DEAD = DeliveryState.HELD, DeliveryState.QUEUED, DeliveryState.DEAD


def states(db: Db, sent: Sent) -> list[DeliveryState]:
    return [receipt.state for receipt in deliveries.of_message(db, sent.message)]


def far(sender: str = "iris", recipients: tuple[str, ...] = ("atlas",), **more: object) -> messages.Draft:
    return draft(sender, recipients, hops=41, held=True, **more)  # type: ignore[arg-type]  # what a test varies


def test_a_message_that_is_held_parks_its_thread(db: Db, write: Writer) -> None:
    (sent,) = send(write, far())
    assert (sent.held, states(db, sent)) == (True, [HELD])
    assert parked.read_holding(db) == (ParkedThread(sent.thread, ("atlas", "iris"), 41, 1, write.now_ms),)
    assert write.kinds() == ["MessageSent", "ThreadParked"]
    assert deliveries.open_counts(db) == {"atlas": 1}
    assert deliveries.any_queued(db, ["atlas"]) == []


def test_the_operator_gets_what_agents_say_however_long_they_went_on(db: Db, write: Writer) -> None:
    (sent,) = send(write, far(recipients=("operator",)))
    assert (sent.held, states(db, sent)) == (False, [QUEUED])
    assert parked.read_holding(db) == ()


def test_what_comes_later_into_the_thread_is_held_too_unless_it_comes_from_outside(
    db: Db, write: Writer
) -> None:
    (first,) = send(write, far(recipients=("atlas", "hm1nd")))
    write.now_ms += 5
    (answer,) = send(write, draft("atlas", ("iris",), in_reply_to=first.message, hops=1))
    (elsewhere,) = send(write, draft("atlas", ("iris",), hops=1))
    (outside,) = send(write, draft("operator", ("iris",), in_reply_to=first.message))
    (told,) = send(write, draft("atlas", ("operator",), in_reply_to=first.message, hops=1))
    (answered,) = send(
        write,
        draft("atlas", ("iris",), in_reply_to=first.message, hops=3, event=SystemEvent.ANSWERED, about=1),
    )
    assert [each.held for each in (answer, elsewhere, outside, told, answered)] == [True, *[False] * 4]
    assert parked.read_holding(db) == (
        ParkedThread(first.thread, ("atlas", "hm1nd", "iris"), 41, 3, write.now_ms - 5),
    )


def test_several_in_one_job_are_held_together(db: Db, write: Writer) -> None:
    sent = send(write, far(), far(), far())
    assert [each.held for each in parked.read_holding(db)] == [1, 1, 1]
    more = send(write, *[draft("atlas", ("iris",), in_reply_to=sent[0].message, hops=2) for _ in range(3)])
    assert [each.held for each in more] == [True] * 3
    assert [each.held for each in parked.read_holding(db)] == [4, 1, 1]


def test_a_released_thread_goes_on_with_hops_from_the_start(db: Db, write: Writer) -> None:
    (first,) = send(write, far(recipients=("atlas", "hm1nd")))
    (second,) = send(write, draft("atlas", ("iris",), in_reply_to=first.message, hops=7))
    write.told.clear()
    assert write(release_some, first.thread, 10) == write.told[-1].seq
    assert [type(entry.body) for entry in write.told] == [DeliveryChanged] * 3 + [ThreadReleased]
    assert states(db, first) + states(db, second) == [QUEUED] * 3
    assert [messages.read(db, each.message).hops for each in (first, second)] == [0, 0]
    assert parked.read_holding(db) == ()
    (third,) = send(write, draft("iris", ("atlas",), in_reply_to=first.message, hops=1))
    assert (third.held, states(db, third)) == (False, [QUEUED])
    with pytest.raises(Refused, match=f"thread {first.thread} is not parked") as refused:
        write(release_some, first.thread, 10)
    assert refused.value.problem is Problem.NOT_FOUND


def test_a_closed_thread_gives_up_what_it_holds_and_holds_what_comes_later(db: Db, write: Writer) -> None:
    (first,) = send(write, far())
    write.told.clear()
    assert write(close_some, first.thread, 10) == write.told[-1].seq
    assert write.kinds() == ["DeliveryChanged", "ThreadReleased"]
    assert states(db, first) == [DEAD]
    assert parked.read_holding(db) == ()
    assert deliveries.open_counts(db) == {}
    write.now_ms += 5
    (later,) = send(write, draft("atlas", ("iris",), in_reply_to=first.message, hops=1))
    assert (later.held, states(db, later)) == (True, [HELD])
    assert parked.read_holding(db) == (ParkedThread(first.thread, ("atlas", "iris"), 41, 1, write.now_ms),)
    write(release_some, first.thread, 10)
    assert (states(db, first), states(db, later)) == ([DEAD], [QUEUED])


@pytest.mark.parametrize("settle", [release_some, close_some])
def test_much_is_settled_in_steps(db: Db, write: Writer, settle: object) -> None:
    (first,) = send(write, far(recipients=("atlas", "hm1nd")))
    more = send(write, *[draft("atlas", ("iris",), in_reply_to=first.message, hops=2) for _ in range(5)])
    write.told.clear()
    expected = QUEUED if settle is release_some else DEAD
    steps = 0
    while write(settle, first.thread, 2) is None:  # type: ignore[arg-type]  # either of the two
        steps += 1
        assert parked.read_holding(db)[0].held == 7 - 2 * steps
        assert isinstance(write.told[-1].body, ThreadParked)
    assert steps == 3
    assert [state for each in (first, *more) for state in states(db, each)] == [expected] * 7
    assert write.told[-1].body == ThreadReleased(first.thread)


def test_what_waits_for_an_agent_that_is_gone_for_good_is_given_up(db: Db, write: Writer) -> None:
    (first,) = send(write, far(recipients=("atlas", "hm1nd")))
    (alone,) = send(write, far())
    write.told.clear()
    assert write(parked.bury, "atlas", 1) == 1
    assert write(parked.bury, "atlas", 10) == 1
    assert write(parked.bury, "atlas", 10) == 0
    assert (states(db, first), states(db, alone)) == ([DEAD, HELD], [DEAD])
    assert [each.held for each in parked.read_holding(db)] == [1]
    assert write.kinds() == ["DeliveryChanged", "ThreadParked", "DeliveryChanged", "ThreadReleased"]


def test_a_dead_delivery_is_tried_again_from_the_start(db: Db, write: Writer) -> None:
    (sent,) = send(write, far())
    write(close_some, sent.thread, 10)
    write.told.clear()
    delivery = id_of(sent.message, 0)
    known = frozenset({"atlas"})
    assert write(deliveries.revive, delivery, known) == write.told[-1].seq
    assert (write.told[-1].opened, write.told[-1].size) == (1, len("hello"))
    assert states(db, sent) == [QUEUED]
    with pytest.raises(Refused, match=f"delivery {delivery} is queued, not dead") as refused:
        write(deliveries.revive, delivery, known)
    assert refused.value.problem is Problem.CONFLICT
    with pytest.raises(Refused, match="there is no delivery 99999"):
        write(deliveries.revive, 99_999, known)


def test_nothing_is_tried_again_for_somebody_who_is_gone(write: Writer) -> None:
    (sent,) = send(write, far())
    write(close_some, sent.thread, 10)
    with pytest.raises(Refused, match="there is no agent atlas any more"):
        write(deliveries.revive, id_of(sent.message, 0), frozenset({"iris"}))


def test_what_is_open_is_counted_in_bytes(db: Db, write: Writer) -> None:
    send(write, far(body="12345"), draft(recipients=("atlas", "iris"), body="é"), draft(body="x"))
    assert deliveries.open_bytes(db) == {"atlas": 7, "iris": 3}
    assert deliveries.open_counts(db) == {"atlas": 2, "iris": 2}
