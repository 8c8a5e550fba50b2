"""What a limit of a model account means: who is believed, for how long, and who goes on first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.policy.accounts import (
    EGRESSD,
    HELD_MS_MAX,
    HOUR_MS,
    RESET_MARGIN_MS,
    TURN_SAYS_MS_MAX,
    Limit,
    Standing,
    Waiting,
    in_order,
    left_ms,
    limited_words,
    said_by_egressd,
    said_by_turn,
    standing,
    time_of_day,
)
from protocol.egressd import Account
from protocol.settings import AgentRole
from protocol.turns import Outcome

NOW = 1_800_000_000_000
SOON = NOW + HOUR_MS
TIMES = st.integers(NOW - 30 * 24 * HOUR_MS, NOW + 30 * 24 * HOUR_MS)
BY_EGRESSD = Limit(NOW - 1_000, SOON, EGRESSD, "too many tokens")
BY_IRIS = Limit(NOW - 1_000, SOON, "iris", "limit reached")
NOTHING = Standing(None, None, "")


def test_a_turn_limits_an_account_until_the_time_that_it_was_told() -> None:
    assert said_by_turn(None, "iris", SOON, "limit reached", NOW) == Limit(NOW, SOON, "iris", "limit reached")


def test_another_turn_knows_better_than_the_first_but_it_began_then() -> None:
    later = said_by_turn(BY_IRIS, "atlas", SOON + 1, "", NOW)
    assert later == Limit(BY_IRIS.since_ms, SOON + 1, "atlas", "")
    assert said_by_turn(BY_IRIS, "atlas", SOON - 1, "", NOW) == Limit(BY_IRIS.since_ms, SOON - 1, "atlas", "")


@pytest.mark.parametrize("until_ms", [NOW, NOW - 1, 0])
def test_what_is_over_already_limits_nobody(until_ms: int) -> None:
    assert said_by_turn(None, "iris", until_ms, "", NOW) is None
    assert said_by_turn(BY_IRIS, "atlas", until_ms, "", NOW) == BY_IRIS
    assert said_by_egressd(None, Account("default", limited_until_ms=until_ms), NOW) is None


def test_no_turn_gets_past_what_egressd_says() -> None:
    assert said_by_turn(BY_EGRESSD, "iris", NOW + 100 * HOUR_MS, "", NOW) == BY_EGRESSD


def test_egressd_says_when_a_limit_ends_earlier_or_later() -> None:
    for until_ms in (SOON - 1, SOON + 1):
        seen = Account("default", NOW, until_ms, "slow down")
        for before in (BY_EGRESSD, BY_IRIS):
            assert said_by_egressd(before, seen, NOW) == Limit(
                before.since_ms, until_ms, EGRESSD, "slow down"
            )
        assert said_by_egressd(None, seen, NOW) == Limit(NOW, until_ms, EGRESSD, "slow down")


def test_egressd_says_that_a_limit_is_over() -> None:
    assert said_by_egressd(BY_EGRESSD, Account("default", seen_ms=1), NOW) is None
    assert said_by_egressd(BY_IRIS, Account("default", seen_ms=BY_IRIS.since_ms + 1), NOW) is None


def test_an_egressd_that_has_seen_nothing_since_ends_no_limit() -> None:
    assert said_by_egressd(BY_EGRESSD, Account("default"), NOW) == BY_EGRESSD
    assert said_by_egressd(BY_IRIS, Account("default", seen_ms=BY_IRIS.since_ms), NOW) == BY_IRIS


@given(TIMES, TIMES)
def test_nobody_is_held_for_longer_than_the_bounds(until_ms: int, at_ms: int) -> None:
    by_turn = said_by_turn(None, "iris", until_ms, "", at_ms)
    assert by_turn is None or at_ms < by_turn.until_ms <= at_ms + TURN_SAYS_MS_MAX
    by_egressd = said_by_egressd(None, Account("default", limited_until_ms=until_ms), at_ms)
    assert by_egressd is None or at_ms < by_egressd.until_ms <= at_ms + HELD_MS_MAX
    assert 0 <= left_ms(until_ms, at_ms) <= HELD_MS_MAX


def test_a_little_is_waited_past_the_end() -> None:
    assert left_ms(SOON, SOON) == RESET_MARGIN_MS
    assert left_ms(SOON, SOON + RESET_MARGIN_MS) == 0
    assert left_ms(SOON, SOON + 2 * RESET_MARGIN_MS) == 0


def test_the_manager_goes_first_and_then_who_waited_longest() -> None:
    waiting = [
        Waiting("zoe", AgentRole.AGENT, None),
        Waiting("hm1nd", AgentRole.MANAGER, 9),
        Waiting("atlas", AgentRole.AGENT, 5),
        Waiting("iris", AgentRole.AGENT, 3),
        Waiting("bob", AgentRole.AGENT, 5),
    ]
    assert in_order(waiting) == ("hm1nd", "zoe", "iris", "atlas", "bob")
    assert in_order(reversed(waiting)) == in_order(waiting)


def test_an_agent_shows_the_limit_of_its_account() -> None:
    limited = Standing(Outcome.RATE_LIMITED, SOON, limited_words("default", SOON))
    backing_off = Standing(Outcome.RATE_LIMITED, NOW, "said the CLI")
    assert standing(NOTHING, None, None) == NOTHING
    assert standing(backing_off, None, None) == backing_off
    assert standing(NOTHING, "default", SOON) == limited
    assert standing(backing_off, "default", SOON) == limited


@pytest.mark.parametrize("reason", [Outcome.AUTH, Outcome.BILLING])
def test_what_the_operator_must_mend_is_shown_before_a_limit(reason: Outcome) -> None:
    own = Standing(reason, None, "log in")
    assert standing(own, "default", SOON) == own


def test_a_limit_in_words() -> None:
    assert limited_words("default", 1_800_000_000_000) == "account default is limited until 08:00 UTC"
    assert limited_words("default", None) == "account default is limited"
    assert time_of_day(2**62) == f"{2**62} ms"
