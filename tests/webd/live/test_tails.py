"""A tail: whole newest turns within a bound, however it grew, and its loading while the feed goes on."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.brokerd import TailPage, TurnWithEvents
from protocol.turns import AnyTurnEvent, Said, Turn
from webd.live.rows import event_row, turn_row
from webd.live.tails import EVENTS_SHOWN, ONE_TURN_EVENTS_MAX, TURNS_KEPT_MAX, TailBook, page_of


def turn(number: int) -> Turn:
    return Turn(number, "iris", "operator", 1, number)


def said(count: int, first: int = 0) -> tuple[AnyTurnEvent, ...]:
    return tuple(Said(n=first + place, at_ms=1, text="x") for place in range(count))


def page(*sizes: int, first: int = 1, before: int | None = None, seq: int = 1) -> TailPage:
    turns = tuple(TurnWithEvents(turn(first + place), said(size)) for place, size in enumerate(sizes))
    return TailPage(turns, before, seq)


SIZES = st.lists(st.integers(0, 150), min_size=1, max_size=12)


@given(SIZES)
def test_as_many_whole_newest_turns_as_fit(sizes: list[int]) -> None:
    book = TailBook()
    book.begin([page(*sizes)], more=False)
    check(book, sizes)


@given(SIZES)
def test_growing_by_events_ends_the_same(sizes: list[int]) -> None:
    book = TailBook()
    for number, size in enumerate(sizes, start=1):
        book.take({"turn": turn_row(turn(number))})
        for event in said(size):
            book.take({"event": event_row(number, event)})
            book.take({"event": event_row(number, event)})  # told twice: changes nothing
    check(book, sizes)


def check(book: TailBook, sizes: list[int]) -> None:
    rows = book.rows()
    shown = [row.id for row in rows.turns]
    assert shown == list(range(shown[0], len(sizes) + 1))
    kept = [sizes[number - 1] for number in shown]
    assert len(rows.events) == sum(kept)
    assert sum(kept) <= EVENTS_SHOWN or len(shown) == 1
    assert rows.more == (shown[0] > 1)
    if shown[0] > 1:
        assert sum(kept) + sizes[shown[0] - 2] > EVENTS_SHOWN
    places = [(event["turn"], event["n"]) for event in rows.events]
    assert places == sorted(set(places))


def test_one_long_turn_keeps_its_newest_events() -> None:
    book = TailBook()
    book.begin([page(3, ONE_TURN_EVENTS_MAX + 5)], more=False)
    rows = book.rows()
    assert [row.id for row in rows.turns] == [2]
    assert rows.more
    assert [event["n"] for event in rows.events] == list(range(6, ONE_TURN_EVENTS_MAX + 6))


def test_turns_without_events_are_bounded_too() -> None:
    book = TailBook()
    book.begin([page(*[0] * (TURNS_KEPT_MAX + 20))], more=False)
    assert len(book.rows().turns) == TURNS_KEPT_MAX


def test_pages_of_one_walk_are_one_tail() -> None:
    book = TailBook()
    book.begin([page(2, 2), page(2, 2, first=3)], more=True)
    rows = book.rows()
    assert [row.id for row in rows.turns] == [1, 2, 3, 4]
    assert rows.more


@given(SIZES, st.integers(1, 200), st.sampled_from([None, 7]))
def test_a_page_of_older_turns_is_whole_turns_too(sizes: list[int], limit: int, before: int | None) -> None:
    rows = page_of(page(*sizes, before=before), limit)
    shown = [row.id for row in rows.turns]
    assert shown == list(range(shown[0], len(sizes) + 1))
    assert len(rows.events) <= limit or len(shown) == 1
    assert rows.more == (before is not None or shown[0] > 1)


def test_nothing_is_a_page_too() -> None:
    assert page_of(TailPage((), None, 1), 100).turns == ()
