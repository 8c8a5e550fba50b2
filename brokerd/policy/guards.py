"""How much an agent may ask for, and how long agents may go on among themselves: the bounds, and what they mean.

A rate is a bucket that holds what may be done at once and fills again evenly over its window, so within any window at
most twice of it is done. Whoever stands outside, the operator and the hive itself, is what starts the agents' chains
of messages anew.
"""

from collections.abc import Iterable
from math import ceil
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.limits import BODY_BYTES_MAX, BROKER_FRAME_BYTES_MAX, INTEGER_MAX
from protocol.messages import SystemEvent
from protocol.names import OPERATOR, SYSTEM
from protocol.problem import Problem, Refused
from protocol.turns import AnyTurnEvent, Failed, Noted

MINUTE_S: Final = 60
HOUR_S: Final = 3_600
NOTE_BYTES_MAX: Final = 1_024
"""A note of this size may still be published when nothing else may: it says what was left out."""
NOTES_PER_MINUTE: Final = 10
ROUNDING: Final = 1e-6
"""Whoever waited as long as they were told is not refused for a bit that arithmetic lost."""
SYSTEM_SHARE: Final = 10
"""One part in so many of an inbox, on top of it, is kept for what the hive itself says."""

Count = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
BodyBytes = Annotated[int, Meta(ge=BODY_BYTES_MAX, le=INTEGER_MAX)]
BatchBytes = Annotated[int, Meta(ge=BROKER_FRAME_BYTES_MAX, le=INTEGER_MAX)]


class Guards(Struct, frozen=True, forbid_unknown_fields=True):
    """What no agent gets past, whatever runs in its cage."""

    messages_per_minute: Count = 60
    """That one agent sends."""
    pair_messages_per_minute: Count = 20
    """That one agent sends to the same recipient."""
    bytes_per_minute: BodyBytes = 1024 * 1024
    """Of message text that one agent sends."""
    operator_messages_per_minute: Count = 600
    """That the operator sends, from everywhere together."""
    reminders_per_hour: Count = 60
    """That one agent sets; so many at once, too."""
    turns_per_hour: Count = 2_000
    """That begin of one agent; so many at once, too."""
    inbox_deliveries_max: Count = 10_000
    """That wait for one recipient, the operator too."""
    inbox_bytes_max: BodyBytes = 32 * 1024 * 1024
    """Of message text that waits for one recipient."""
    share_deliveries_max: Count = 1_000
    """That wait for one recipient from one agent; the manager's are not bound."""
    share_bytes_max: BodyBytes = 4 * 1024 * 1024
    """Of message text that waits for one recipient from one agent."""
    hops_max: Count = 40
    """Messages of agents in a row, each sent in a turn that the one before it drove; then the operator is asked."""
    turn_events_max: Count = 10_000
    """That are kept of one turn."""
    turn_event_bytes_max: BatchBytes = 16 * 1024 * 1024
    hour_events_max: Count = 30_000
    """That are kept of one agent's turns of an hour."""
    hour_event_bytes_max: BatchBytes = 64 * 1024 * 1024


class Rate(Struct, frozen=True):
    """At most so much in each window. `what` is said to whoever asked for more."""

    what: str
    most: int
    window_s: int = MINUTE_S


class Bucket(Struct, frozen=True, gc=False):
    """What of a rate was left at a moment of a clock that never jumps."""

    left: float
    at_s: float


def left_of(bucket: Bucket | None, rate: Rate, now_s: float) -> float:
    """How much may be done at once; None is a bucket that nobody touched."""
    if bucket is None:
        return float(rate.most)
    return min(float(rate.most), bucket.left + (now_s - bucket.at_s) * rate.most / rate.window_s)


def spent(bucket: Bucket | None, rate: Rate, amount: int, now_s: float) -> Bucket | None:
    """The bucket after `amount` was done; None when there is not as much left."""
    left = left_of(bucket, rate, now_s) - amount
    return None if left < -ROUNDING else Bucket(max(0.0, left), now_s)


def wait_s(bucket: Bucket | None, rate: Rate, amount: int, now_s: float) -> int:
    """Seconds, at least one, until there is enough of it."""
    missing = min(amount, rate.most) - left_of(bucket, rate, now_s)
    return max(1, ceil(missing * rate.window_s / rate.most))


def too_fast(who: str, rate: Rate, seconds: int) -> Refused:
    window = {MINUTE_S: "a minute", HOUR_S: "an hour"}.get(rate.window_s, f"{rate.window_s} s")
    return Refused(
        Problem.LIMIT,
        f"{who}: at most {rate.most} {rate.what} in {window}; nothing was stored, try again in {seconds} s",
    )


def check_inbox(recipient: str, deliveries: int, size: int, added: int, sender: str, guards: Guards) -> None:
    """Refuse (`limit`) one more delivery of `added` bytes for a recipient for whom so many of `size` bytes wait.

    What the hive itself says is refused last.
    """
    share = SYSTEM_SHARE if sender == SYSTEM else 0
    if deliveries >= _with_share(guards.inbox_deliveries_max, share):
        raise Refused(Problem.LIMIT, f"{recipient} has {deliveries} messages waiting; nothing was stored")
    if size + added > _with_share(guards.inbox_bytes_max, share):
        raise Refused(
            Problem.LIMIT,
            f"{recipient} has {size} bytes of messages waiting, at most {guards.inbox_bytes_max} are allowed; "
            "nothing was stored",
        )


def check_share(sender: str, recipient: str, waiting: int, size: int, added: int, guards: Guards) -> None:
    """Refuse (`limit`) one more delivery of `added` bytes when so many of this sender's wait for the recipient."""
    if waiting >= guards.share_deliveries_max:
        raise Refused(
            Problem.LIMIT,
            f"{waiting} messages of {sender} wait for {recipient}; nothing was stored, try again when some are read",
        )
    if size + added > guards.share_bytes_max:
        raise Refused(
            Problem.LIMIT,
            f"{size} bytes of {sender}'s messages wait for {recipient}, at most {guards.share_bytes_max} are "
            "allowed; nothing was stored, try again when some are read",
        )


def _with_share(bound: int, share: int) -> int:
    return bound + ceil(bound / share) if share else bound


def may_be_held(sender: str, event: SystemEvent | None) -> bool:
    """Whether a message that goes into a parked thread waits there: words of agents to agents, questions among them.

    The operator's, the hive's and reminders come from outside; an answer is what somebody waits for.
    """
    return sender not in (OPERATOR, SYSTEM) and event in (None, SystemEvent.QUESTION)


def is_note(events: Iterable[AnyTurnEvent], size: int) -> bool:
    """Whether a batch of that many bytes only says, in few words, that something went wrong."""
    return size <= NOTE_BYTES_MAX and all(isinstance(event, Noted | Failed) for event in events)
