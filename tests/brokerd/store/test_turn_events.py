"""Events of turns: each once, in order, and a broken one hides no other."""

import pytest

from brokerd.store import turn_events, turns
from brokerd.store.deliveries import id_of
from brokerd.store.turns import Ending
from protocol.problem import Refused
from protocol.turns import AnyTurnEvent, Failed, Outcome, Said
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import begin, draft, send


@pytest.fixture
def turn(write: Writer) -> int:
    (sent,) = send(write, draft())
    begun = begin(write, "iris", id_of(sent.message, 0), "a" * 32)
    write.told.clear()
    return begun


def said(*numbers: int) -> list[AnyTurnEvent]:
    return [Said(n, 1_000 + n, f"word {n}") for n in numbers]


def numbers(db: Db, turn: int, bytes_max: int = 10_000) -> list[int]:
    return [event.n for event in turn_events.newest(db, turn, bytes_max).events]


def test_events_are_kept_and_told_in_order(db: Db, write: Writer, turn: int) -> None:
    write(turn_events.publish, "iris", turn, said(1, 0))
    write(turn_events.publish, "iris", turn, said(2))
    assert turn_events.newest(db, turn, 10_000).events == tuple(said(0, 1, 2))
    assert [entry.body.event.n for entry in write.told] == [0, 1, 2]  # type: ignore[union-attr]  # TurnEventAdded


@pytest.mark.parametrize("repeat", [(0, 1, 2), (1, 2, 3), (2,), (0, 0)])
def test_a_repeat_adds_nothing_twice(db: Db, write: Writer, turn: int, repeat: tuple[int, ...]) -> None:
    write(turn_events.publish, "iris", turn, said(0, 1, 2))
    write(turn_events.publish, "iris", turn, said(*repeat))
    expected = sorted({0, 1, 2, *repeat})
    assert numbers(db, turn) == expected
    assert len(write.told) == len(expected)


def test_an_earlier_batch_that_comes_later_is_kept(db: Db, write: Writer, turn: int) -> None:
    write(turn_events.publish, "iris", turn, said(3, 4))
    write(turn_events.publish, "iris", turn, said(0, 1, 2))
    assert numbers(db, turn) == [0, 1, 2, 3, 4]


def test_a_turn_that_ended_or_is_anothers_takes_no_event(write: Writer, turn: int) -> None:
    with pytest.raises(Refused, match="atlas has no turn"):
        write(turn_events.publish, "atlas", turn, said(0))
    write(turns.end, "iris", turn, Ending(Outcome.DONE))
    with pytest.raises(Refused, match=f"turn {turn} ended: done"):
        write(turn_events.publish, "iris", turn, said(0))


def test_what_does_not_fit_is_counted_and_the_newest_stay(db: Db, write: Writer, turn: int) -> None:
    write(turn_events.publish, "iris", turn, said(*range(50)))
    tail = turn_events.newest(db, turn, 200)
    assert 0 < len(tail.events) < 5
    assert tail.events[-1].n == 49
    assert tail.cut == 50 - len(tail.events)
    assert tail.size <= 200
    assert turn_events.newest(db, turn, 0).cut == 50


def test_one_that_cannot_be_read_is_shown_as_broken(db: Db, write: Writer, turn: int) -> None:
    write(turn_events.publish, "iris", turn, said(0, 1, 2))
    db.execute("UPDATE turn_events SET body = ? WHERE n = 1", (b'{"kind":"unheard"}',))
    tail = turn_events.newest(db, turn, 10_000)
    assert [event.n for event in tail.events] == [0, 1, 2]
    assert isinstance(tail.events[1], Failed)
    (fault,) = tail.faults
    assert "event 1" in fault
    assert "unheard" in fault
