"""Waits grow, stay within their bound, and differ."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from runtime.backoff import delays


@given(st.floats(0.001, 10), st.floats(1, 1000), st.floats(1.1, 4), st.floats(0, 0.9))
def test_waits_are_bounded(first_s: float, times: float, factor: float, spread: float) -> None:
    max_s = first_s * times
    waits = list(islice(delays(first_s, max_s, factor, spread=spread), 40))
    assert first_s * (1 - spread) <= waits[0] <= min(max_s, first_s * (1 + spread))
    assert all(0 < wait <= max_s for wait in waits)
    assert waits[-1] >= max_s * (1 - spread) * 0.999 or factor**39 < times


def test_without_spread_they_double_until_the_bound() -> None:
    assert list(islice(delays(0.1, 1.0, spread=0), 6)) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_two_that_begin_together_do_not_stay_together() -> None:
    assert list(islice(delays(0.1, 1.0), 5)) != list(islice(delays(0.1, 1.0), 5))
