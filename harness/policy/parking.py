"""When the harness takes no delivery after a turn, and for how long. A turn's end never ends the harness."""

from typing import Final

from msgspec import Struct

from harness.policy.outcomes import Verdict
from protocol.turns import Outcome

MINUTE_MS: Final = 60 * 1000
RATE_LIMIT_STEPS_MS: Final = (5 * MINUTE_MS, 10 * MINUTE_MS, 20 * MINUTE_MS, 30 * MINUTE_MS)
OVERLOADED_STEPS_MS: Final = (15 * 1000, MINUTE_MS, 3 * MINUTE_MS, 10 * MINUTE_MS)
FAILED_STEPS_MS: Final = (2 * 1000, 10 * 1000, MINUTE_MS)
RESET_MARGIN_MS: Final = 10 * 1000
"""Waited past a stated end of a limit: the API's clock and ours need not agree."""
RESET_AHEAD_MS_MAX: Final = 8 * 24 * 60 * MINUTE_MS
"""A stated end further ahead than a weekly limit is not believed."""

UNTIL_OPERATOR: Final = frozenset({Outcome.AUTH, Outcome.BILLING})
"""Nothing the harness can wait for mends these."""
UNHINDERED: Final = frozenset(
    {Outcome.DONE, Outcome.CANCELLED, Outcome.INTERRUPTED, Outcome.MAX_TURNS, Outcome.BUDGET}
)


class Pause(Struct, frozen=True):
    """Take no delivery until `until_ms`, or until the operator acts when that is None."""

    reason: Outcome
    detail: str
    until_ms: int | None


class Streak(Struct, frozen=True):
    """How often in a row turns ended with the same outcome."""

    outcome: Outcome = Outcome.DONE
    length: int = 0


def longer(streak: Streak, outcome: Outcome) -> Streak:
    """Count one more end."""
    return Streak(outcome, streak.length + 1 if outcome is streak.outcome else 1)


def pause_after(verdict: Verdict, streak: Streak, now_ms: int) -> Pause | None:
    """Decide what a turn's end means for the next one; `streak` already counts this end."""
    outcome = verdict.outcome
    if outcome in UNHINDERED:
        return None
    if outcome in UNTIL_OPERATOR:
        return Pause(outcome, verdict.detail, None)
    return Pause(outcome, verdict.detail, _until_ms(verdict, streak.length, now_ms))


def _until_ms(verdict: Verdict, length: int, now_ms: int) -> int:
    if verdict.outcome is Outcome.RATE_LIMITED:
        told_ms = verdict.until_ms
        if told_ms is not None and now_ms < told_ms <= now_ms + RESET_AHEAD_MS_MAX:
            return told_ms + RESET_MARGIN_MS
        return now_ms + _step(RATE_LIMIT_STEPS_MS, length)
    if verdict.outcome is Outcome.OVERLOADED:
        return now_ms + _step(OVERLOADED_STEPS_MS, length)
    return now_ms + _step(FAILED_STEPS_MS, length)


def _step(steps_ms: tuple[int, ...], length: int) -> int:
    return steps_ms[min(max(length, 1), len(steps_ms)) - 1]
