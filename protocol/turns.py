"""What happens in a turn, as the harness reports it, brokerd keeps it and the dashboard shows it."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from protocol.limits import INTEGER_MAX, TURN_LABEL_CHARS_MAX, TURN_TEXT_CHARS_MAX
from protocol.names import AgentName

Text = Annotated[str, Meta(max_length=TURN_TEXT_CHARS_MAX)]
Label = Annotated[str, Meta(max_length=TURN_LABEL_CHARS_MAX)]
Count = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]


class Outcome(StrEnum):
    """How a turn ended."""

    DONE = "done"
    CANCELLED = "cancelled"
    """By the operator: its deliveries are done with."""
    INTERRUPTED = "interrupted"
    """By a stop of the cage: its deliveries come again."""
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    AUTH = "auth"
    BILLING = "billing"
    CONTEXT_FULL = "context_full"
    MAX_TURNS = "max_turns"
    BUDGET = "budget"
    CRASHED = "crashed"
    TIMEOUT = "timeout"


class Usage(Struct, frozen=True, forbid_unknown_fields=True):
    """What a turn cost; tokens as the model API counts them, money in millionths of a dollar at list price."""

    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    cost_microusd: Count = 0


class TurnEvent(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag=str.lower):
    """What every event of a turn has: its place in the turn and its time. `n` counts up from 0 without a hole."""

    n: Count
    at_ms: Count


class Woken(TurnEvent, frozen=True, tag="woken"):
    """The message that drives the turn, or one pulled during it."""

    message: Count
    sender: Label
    text: Text


class Said(TurnEvent, frozen=True, tag="said"):
    text: Text


class Thought(TurnEvent, frozen=True, tag="thought"):
    text: Text


class ToolCalled(TurnEvent, frozen=True, tag="tool_called"):
    call: Label
    tool: Label
    summary: Label
    input: Text
    """The arguments as JSON."""


class ToolReturned(TurnEvent, frozen=True, tag="tool_returned"):
    call: Label
    ok: bool
    text: Text
    duration_ms: Count


class Noted(TurnEvent, frozen=True, tag="noted"):
    """Something about the turn itself: a retry, a permission that was denied, a compaction."""

    text: Text


class Failed(TurnEvent, frozen=True, tag="failed"):
    text: Text


AnyTurnEvent = Woken | Said | Thought | ToolCalled | ToolReturned | Noted | Failed


class Turn(Struct, frozen=True, forbid_unknown_fields=True):
    """One run of the agent CLI for one delivery."""

    id: int
    agent: AgentName
    woke_by: str
    """Sender of the message that drove it."""
    message: int
    began_ms: int
    ended_ms: int | None = None
    outcome: Outcome | None = None
    detail: str = ""
    usage: Usage | None = None
    tool_calls: int = 0
