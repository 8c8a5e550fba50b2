"""When the next delivery is taken after a turn's end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.policy.outcomes import Verdict
from harness.policy.parking import (
    MINUTE_MS,
    RESET_AHEAD_MS_MAX,
    RESET_MARGIN_MS,
    UNHINDERED,
    UNTIL_OPERATOR,
    Streak,
    longer,
    pause_after,
)
from protocol.turns import Outcome

NOW_MS = 1_795_186_000_000


@pytest.mark.parametrize("outcome", sorted(UNHINDERED))
def test_no_pause(outcome: Outcome) -> None:
    assert pause_after(Verdict(outcome), Streak(outcome, 9), NOW_MS) is None


@pytest.mark.parametrize("outcome", sorted(UNTIL_OPERATOR))
def test_only_the_operator_ends_the_pause(outcome: Outcome) -> None:
    pause = pause_after(Verdict(outcome, "Not logged in"), Streak(outcome, 1), NOW_MS)
    assert pause is not None
    assert (pause.reason, pause.detail, pause.until_ms) == (outcome, "Not logged in", None)


@pytest.mark.parametrize(
    ("outcome", "waits_s"),
    [
        (Outcome.RATE_LIMITED, [300, 600, 1200, 1800, 1800]),
        (Outcome.OVERLOADED, [15, 60, 180, 600, 600]),
        (Outcome.CRASHED, [2, 10, 60, 60]),
        (Outcome.TIMEOUT, [2, 10, 60, 60]),
        (Outcome.CONTEXT_FULL, [2, 10, 60, 60]),
    ],
)
def test_steps_grow_with_the_streak(outcome: Outcome, waits_s: list[int]) -> None:
    streak, seen = Streak(), []
    for _ in waits_s:
        streak = longer(streak, outcome)
        pause = pause_after(Verdict(outcome), streak, NOW_MS)
        assert pause is not None
        assert pause.until_ms is not None
        seen.append((pause.until_ms - NOW_MS) // 1000)
    assert seen == waits_s


def test_another_outcome_ends_the_streak() -> None:
    streak = longer(longer(Streak(), Outcome.CRASHED), Outcome.CRASHED)
    assert streak == Streak(Outcome.CRASHED, 2)
    assert longer(streak, Outcome.DONE) == Streak(Outcome.DONE, 1)
    assert longer(longer(streak, Outcome.DONE), Outcome.CRASHED) == Streak(Outcome.CRASHED, 1)


def test_a_told_end_of_the_limit_is_kept_with_a_margin() -> None:
    pause = pause_after(Verdict(Outcome.RATE_LIMITED, until_ms=NOW_MS + 90_000), Streak(), NOW_MS)
    assert pause is not None
    assert pause.until_ms == NOW_MS + 90_000 + RESET_MARGIN_MS


@pytest.mark.parametrize("until_ms", [0, NOW_MS - 1, NOW_MS, NOW_MS + RESET_AHEAD_MS_MAX + 1, 10**18])
def test_a_told_end_that_cannot_be_true_is_not_believed(until_ms: int) -> None:
    pause = pause_after(
        Verdict(Outcome.RATE_LIMITED, until_ms=until_ms), Streak(Outcome.RATE_LIMITED, 1), NOW_MS
    )
    assert pause is not None
    assert pause.until_ms == NOW_MS + 5 * MINUTE_MS


@given(st.sampled_from(Outcome), st.none() | st.integers(), st.integers(0, 10**6), st.integers(0, 10**14))
def test_every_pause_ends_within_reason(
    outcome: Outcome, until_ms: int | None, length: int, now_ms: int
) -> None:
    pause = pause_after(Verdict(outcome, until_ms=until_ms), Streak(outcome, length), now_ms)
    if pause is not None and pause.until_ms is not None:
        assert now_ms < pause.until_ms <= now_ms + RESET_AHEAD_MS_MAX + RESET_MARGIN_MS
