"""Numbers that move with time."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.messages import DeliveryState, Receipt
from webd.live.counts import HOUR_MS, OPEN, SLICE_MS, HourCount, Inboxes, pulse
from webd.live.rows import PULSE_BIN_MS, PULSE_BINS

NOW = 1_000 * HOUR_MS
HOUR_TIMES = st.lists(st.integers(NOW - HOUR_MS + SLICE_MS, NOW), max_size=50).map(sorted)


def receipt(number: int, state: DeliveryState, recipient: str = "iris") -> Receipt:
    return Receipt(number, 1, recipient, state, None, 0, 1)


def test_turns_fall_into_bins_of_two_and_a_half_minutes() -> None:
    oldest = NOW - (PULSE_BINS - 1) * PULSE_BIN_MS
    bins = pulse([NOW, NOW + 1, NOW - PULSE_BIN_MS, oldest, oldest - 1], NOW + 2)
    assert bins == (1, *(0,) * (PULSE_BINS - 3), 1, 2)


@given(st.lists(st.integers(0, HOUR_MS * 3)), st.integers(0, HOUR_MS * 3))
def test_no_turn_is_counted_twice(began_ms: list[int], now_ms: int) -> None:
    assert sum(pulse(began_ms, now_ms)) <= len(began_ms)


@given(HOUR_TIMES, st.integers(0, 500))
def test_an_hour_begins_with_the_total_and_ends_with_nothing(known_ms: list[int], older: int) -> None:
    count = HourCount()
    total = len(known_ms) + older
    count.start_from(total, known_ms, NOW)
    assert count.at(NOW) == total
    counts = [count.at(NOW + step * SLICE_MS * 10) for step in range(40)]
    assert counts == sorted(counts, reverse=True)
    assert count.at(NOW + HOUR_MS + 2 * SLICE_MS) == 0


def test_messages_add_up_and_fall_out_after_an_hour() -> None:
    count = HourCount()
    for minute in range(120):
        count.add(NOW + minute * 60_000)
        assert count.at(NOW + minute * 60_000) == min(minute + 1, 61)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from(list(DeliveryState))), max_size=40),
    st.lists(st.sampled_from([True, False]), min_size=5, max_size=5),
)
def test_an_inbox_is_the_number_of_its_open_deliveries(
    changes: list[tuple[int, DeliveryState]], in_snapshot: list[bool]
) -> None:
    """Five deliveries, all open at the start; whether the snapshot named each one does not matter."""
    states = dict.fromkeys(range(1, 6), DeliveryState.QUEUED)
    inboxes = Inboxes()
    named = [receipt(number, states[number]) for number in states if in_snapshot[number - 1]]
    inboxes.start_from({"iris": 5}, named)
    for number, state in changes:
        if state not in OPEN and states[number] not in OPEN:
            continue  # a closed delivery does not close again
        states[number] = state
        inboxes.changed(receipt(number, state))
        assert inboxes.of("iris") == sum(state in OPEN for state in states.values())


def test_a_new_delivery_counts_once() -> None:
    inboxes = Inboxes()
    inboxes.sent(receipt(1, DeliveryState.QUEUED))
    inboxes.changed(receipt(1, DeliveryState.LEASED))
    assert inboxes.of("iris") == 1
    inboxes.changed(receipt(1, DeliveryState.DONE))
    assert inboxes.of("iris") == 0
    inboxes.changed(receipt(1, DeliveryState.QUEUED))
    assert inboxes.of("iris") == 1
    inboxes.forget("iris")
    assert inboxes.of("iris") == 0
