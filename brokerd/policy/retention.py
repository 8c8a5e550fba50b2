"""How long what is over is kept. What is still open is kept however old it is."""

from typing import Annotated, Final

from msgspec import Meta, Struct

Days = Annotated[int, Meta(ge=1, le=3_650)]

DAY_MS: Final = 24 * 60 * 60 * 1000


class Retention(Struct, frozen=True, forbid_unknown_fields=True):
    """How many days what is over is kept."""

    messages_days: Days = 90
    """After a message's last delivery ended."""
    turn_events_days: Days = 30
    """What happened in a turn, after its end."""
    turns_days: Days = 90
    """The journal's row of each turn, and the statistics."""
    occurrences_days: Days = 90
    """What became of a reminder's firings, and of reminders that are over."""
    questions_days: Days = 90
    """After a question's end."""
    keys_days: Days = 30
    """How long a repeat of a request is known by its key; longer for senders whose own deliveries still wait."""


def before(at_ms: int, days: int) -> int:
    """What ended earlier than this may go."""
    return at_ms - days * DAY_MS
