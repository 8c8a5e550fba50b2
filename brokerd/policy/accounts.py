"""What a limit of a model account means for the agents that share it. Pure.

egressd, where it sees the API's replies, is believed. A turn's end is a word from a cage, so it holds the others for
a few hours at most: then one of them tries.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from protocol.egressd import Account
from protocol.settings import AgentRole
from protocol.turns import Outcome

MINUTE_MS: Final = 60 * 1000
HOUR_MS: Final = 60 * MINUTE_MS
RESUME_EVERY_S: Final = 5.0
"""Between two agents of one account that go on after its limit: the first to meet it again spares the others."""
RESET_MARGIN_MS: Final = 10 * 1000
"""Waited past a stated end: the API's clock and ours need not agree."""
HELD_MS_MAX: Final = 8 * 24 * HOUR_MS
"""No limit holds anybody for longer, whoever says so and however the clock is set: a weekly one ends before."""
TURN_SAYS_MS_MAX: Final = 6 * HOUR_MS
"""How long what one agent's turn said of a limit holds the others of its account."""
EGRESSD: Final = "egressd"


class Limit(Struct, frozen=True):
    """That an account is limited, until when, and who said so (`egressd`, or the agent whose turn ended so)."""

    since_ms: int
    until_ms: int
    said_by: str
    detail: str = ""


def said_by_turn(before: Limit | None, agent: str, until_ms: int, detail: str, at_ms: int) -> Limit | None:
    """The limit after a turn of an agent ended `rate_limited` with a known end. egressd's word is not replaced."""
    if until_ms <= at_ms or (before is not None and before.said_by == EGRESSD):
        return before
    since_ms = at_ms if before is None else before.since_ms
    return Limit(since_ms, min(until_ms, at_ms + TURN_SAYS_MS_MAX), agent, detail)


def said_by_egressd(before: Limit | None, seen: Account, at_ms: int) -> Limit | None:
    """The limit after egressd said how an account stands.

    That it is not limited counts when egressd has seen a reply since the limit is known; one that was started anew
    knows nothing yet.
    """
    until_ms = seen.limited_until_ms
    if until_ms is not None and until_ms > at_ms:
        since_ms = at_ms if before is None else before.since_ms
        return Limit(since_ms, min(until_ms, at_ms + HELD_MS_MAX), EGRESSD, seen.detail)
    if before is None or seen.seen_ms is None:
        return before
    return None if before.said_by == EGRESSD or seen.seen_ms > before.since_ms else before


def left_ms(until_ms: int, at_ms: int) -> int:
    """How long a limit still holds; never longer than HELD_MS_MAX, as a clock that was put back would have it."""
    return max(0, min(until_ms + RESET_MARGIN_MS - at_ms, HELD_MS_MAX))


class Waiting(Struct, frozen=True):
    """An agent that a limit holds."""

    agent: str
    role: AgentRole
    last_turn_ms: int | None


def in_order(waiting: Iterable[Waiting]) -> tuple[str, ...]:
    """Who goes on first: the manager, then whoever has had no turn for longest."""
    ordered = sorted(
        waiting,
        key=lambda each: (each.role is not AgentRole.MANAGER, each.last_turn_ms or 0, each.agent),
    )
    return tuple(each.agent for each in ordered)


class Standing(Struct, frozen=True):
    """Why an agent takes no message: a reason, until when, and what is said of it."""

    parked: Outcome | None
    until_ms: int | None
    detail: str


def standing(own: Standing, account: str | None, until_ms: int | None) -> Standing:
    """What is shown of an agent that its harness parked, that its account's limit holds, or both.

    What only the operator can mend goes before the limit.
    """
    if account is None or own.parked in (Outcome.AUTH, Outcome.BILLING):
        return own
    return Standing(Outcome.RATE_LIMITED, until_ms, limited_words(account, until_ms))


def limited_words(account: str, until_ms: int | None) -> str:
    """`account default is limited until 14:05 UTC`."""
    return f"account {account} is limited" + ("" if until_ms is None else f" until {time_of_day(until_ms)}")


def time_of_day(at_ms: int) -> str:
    """Hours and minutes; a time that no calendar has is given as it is."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"
