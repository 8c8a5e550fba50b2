"""Messages and deliveries as everybody sees them: immutable text from one sender, one delivery for each recipient."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from protocol.limits import BODY_BYTES_MAX, INTEGER_MAX

MessageId = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
DeliveryId = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
TurnId = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
Body = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=BODY_BYTES_MAX,
        description="the text; longer things go into a file under /shared, send its path",
    ),
]
"""At most BODY_BYTES_MAX bytes of UTF-8 (checked by brokerd's policy), at least one character, no NUL."""


class SystemEvent(StrEnum):
    """What a message tells that is more than its sender's words: the hive wrote it, or wrote it down for somebody."""

    CONTAINER_CRASH = "container_crash"
    REBUILT = "rebuilt"
    DEPLOYED = "deployed"
    DEPLOY_FAILED = "deploy_failed"
    APPROVED = "approved"
    DENIED = "denied"
    QUESTION = "question"
    """One agent asks another; `about` is the question."""
    ANSWERED = "answered"
    """The answer to a question of the recipient's; `about` is the question."""
    EXPIRED = "expired"
    """Nobody answered in time, and `about` is the question; or, without it, nobody decided a proposal in time."""
    REMINDER = "reminder"
    """A reminder is due; `about` is the reminder."""
    RATE_LIMITED = "rate_limited"
    RESUMED = "resumed"
    LIMIT_HIT = "limit_hit"


class DeliveryState(StrEnum):
    """Where a delivery stands. `done` means that a turn it drove has ended, or that the operator has read it."""

    HELD = "held"
    """Its thread went on too long without anybody from outside; it waits for the operator's release."""
    QUEUED = "queued"
    LEASED = "leased"
    IN_TURN = "in_turn"
    DONE = "done"
    DEAD = "dead"


class Receipt(Struct, frozen=True, forbid_unknown_fields=True):
    """One delivery of a message, as its sender and the operator see it."""

    id: int
    message: int
    recipient: str
    state: DeliveryState
    turn: int | None
    attempts: int
    changed_ms: int


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """One message. `to` is what the sender wrote; `deliveries` says what became of it."""

    id: int
    thread: int
    in_reply_to: int | None
    sender: str
    to: str
    broadcast: bool
    body: str
    sent_ms: int
    deliveries: tuple[Receipt, ...] = ()
    event: SystemEvent | None = None
    about: int | None = None
    """The number of the question or the reminder that `event` is about."""
    hops: int = 0
    """How many messages of agents led to this one, each sent in a turn that the one before it drove."""
