"""Reminders: messages that are sent later, once, at an interval or by a cron expression."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from protocol.limits import (
    CRON_CHARS_MAX,
    INTEGER_MAX,
    ONLY_IF_CHARS_MAX,
    REMINDER_AHEAD_S_MAX,
    REMINDER_CHARS_MAX,
    REMINDER_EVERY_S_MIN,
    ZONE_CHARS_MAX,
)

ReminderId = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
ReminderText = Annotated[str, Meta(min_length=1, max_length=REMINDER_CHARS_MAX)]
Seconds = Annotated[int, Meta(ge=1, le=REMINDER_AHEAD_S_MAX)]
EverySeconds = Annotated[int, Meta(ge=REMINDER_EVERY_S_MIN, le=REMINDER_AHEAD_S_MAX)]
CronExpression = Annotated[str, Meta(min_length=1, max_length=CRON_CHARS_MAX)]
ZoneName = Annotated[str, Meta(min_length=1, max_length=ZONE_CHARS_MAX, description="such as Europe/Berlin")]
OnlyIf = Annotated[str, Meta(min_length=1, max_length=ONLY_IF_CHARS_MAX)]
AtTime = Annotated[str, Meta(max_length=40, description="ISO 8601; without an offset it is in `zone`")]


class Once(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="once"):
    at_ms: int


class Every(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="every"):
    every_s: int
    from_ms: int
    """The first occurrence; the others follow in steps of `every_s`."""


class Cron(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="cron"):
    expression: str
    zone: str


AnySchedule = Once | Every | Cron


class ReminderState(StrEnum):
    """Where a reminder stands."""

    ACTIVE = "active"
    ENDED = "ended"
    """It fired for the last time."""
    CANCELLED = "cancelled"


class Reminder(Struct, frozen=True, forbid_unknown_fields=True):
    """One reminder and what became of its occurrences."""

    id: int
    agent: str
    """Who is reminded."""
    set_by: str
    """`operator`, an agent, or `system` for what the agent's configuration sets."""
    body: str
    schedule: AnySchedule
    state: ReminderState
    created_ms: int
    only_if: str | None = None
    """A shell command, run in the cage as the agent before a turn is spent; when it fails, the turn is not run."""
    next_ms: int | None = None
    last_ms: int | None = None
    """When it fired last."""
    attempted: int = 0
    """Occurrences whose message was sent."""
    delivered: int = 0
    """… and drove a turn that ended well."""
    failed: int = 0
    """… and whose delivery is dead."""
    skipped: int = 0
    """… and which `only_if` ended; and occurrences that came while the one before still waited."""
    standing: str | None = None
    """Its name in the agent's configuration, when that sets it."""


class ReminderRollup(Struct, frozen=True):
    """What became of occurrences in a span of time."""

    since_ms: int
    attempted: int
    delivered: int
    failed: int
    skipped: int
    waiting: int
    """Reminders that are still to fire, now."""
