"""Refusals are answered at once while they are few, and never faster than the bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egressd.policy.pace import REFUSALS_AT_ONCE_MAX, REFUSALS_PER_S_MAX, Pace

TINY_S = 1e-6


def test_a_few_wait_for_nothing() -> None:
    pace = Pace()
    assert {pace.wait_s(1000.0) for _ in range(REFUSALS_AT_ONCE_MAX)} == {0.0}
    assert pace.wait_s(1000.0) == pytest.approx(1 / REFUSALS_PER_S_MAX)


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=400))
def test_no_second_has_more_answers_than_the_bound(pauses: list[float]) -> None:
    pace, now_s, answers = Pace(), 0.0, []
    for pause in pauses:
        now_s += pause
        answers.append(now_s + pace.wait_s(now_s))
    assert answers == sorted(answers)
    for place, began in enumerate(answers):
        within = sum(began <= each < began + 1 - TINY_S for each in answers[place:])
        assert within <= REFUSALS_AT_ONCE_MAX + REFUSALS_PER_S_MAX + 1


def test_who_rests_is_answered_at_once_again() -> None:
    pace = Pace()
    for _ in range(10 * REFUSALS_AT_ONCE_MAX):
        pace.wait_s(0.0)
    assert pace.wait_s(0.0) > 1
    assert pace.wait_s(10 * REFUSALS_AT_ONCE_MAX / REFUSALS_PER_S_MAX + 1) == 0.0
