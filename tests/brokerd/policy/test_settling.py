"""What the end of a turn means for a delivery that was in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.policy.settling import CRASHES_MAX, Settled, settle
from protocol.limits import ATTEMPTS_MAX
from protocol.messages import DeliveryState
from protocol.turns import Outcome

DONE, QUEUED, DEAD = DeliveryState.DONE, DeliveryState.QUEUED, DeliveryState.DEAD
HANDLED = {Outcome.DONE, Outcome.CANCELLED, Outcome.MAX_TURNS, Outcome.BUDGET}
NOT_ITS_FAULT = {Outcome.INTERRUPTED, Outcome.RATE_LIMITED, Outcome.OVERLOADED, Outcome.AUTH, Outcome.BILLING}
COUNTED = {Outcome.CRASHED: CRASHES_MAX, Outcome.TIMEOUT: ATTEMPTS_MAX, Outcome.CONTEXT_FULL: ATTEMPTS_MAX}


def test_the_tables_below_name_every_outcome_once() -> None:
    assert sorted([*HANDLED, *NOT_ITS_FAULT, *COUNTED]) == sorted(Outcome)


@pytest.mark.parametrize("outcome", sorted(HANDLED))
def test_a_turn_that_handled_it_is_the_end_of_it(outcome: Outcome) -> None:
    assert settle(outcome, 1) == Settled(DONE, 1)


@pytest.mark.parametrize("outcome", sorted(NOT_ITS_FAULT))
def test_what_is_not_the_messages_fault_is_not_counted(outcome: Outcome) -> None:
    assert settle(outcome, 1) == Settled(QUEUED, 0)
    assert settle(outcome, 400) == Settled(QUEUED, 399)


@pytest.mark.parametrize(("outcome", "attempts_max"), sorted(COUNTED.items()))
def test_a_failure_is_tried_again_until_the_budget_is_spent(outcome: Outcome, attempts_max: int) -> None:
    assert settle(outcome, attempts_max - 1) == Settled(QUEUED, attempts_max - 1)
    assert settle(outcome, attempts_max) == Settled(DEAD, attempts_max)


@given(st.sampled_from(sorted(Outcome)), st.integers(0, 50))
def test_nothing_is_ever_left_in_a_turn_that_ended(outcome: Outcome, attempts: int) -> None:
    settled = settle(outcome, attempts)
    assert settled.state in {DONE, QUEUED, DEAD}
    assert 0 <= settled.attempts <= attempts
