"""What a harness may ask of brokerd at its own socket; the agent's own requests are in protocol.tools.

Which agent is asking follows from the socket. Requests that store something carry a key made by the client, or
are bound to a token or a turn, so that each may be sent again after a lost connection.
"""

from typing import Annotated, ClassVar

from msgspec import Meta, Struct, field

from protocol.limits import (
    DETAIL_CHARS_MAX,
    INTEGER_MAX,
    TAKE_WAIT_S_MAX,
    TOOL_NAME_CHARS_MAX,
    TURN_EVENTS_BATCH_MAX,
    TURN_TOOLS_MAX,
)
from protocol.messages import DeliveryId, Message, TurnId
from protocol.names import AgentName, RequestKey
from protocol.rpc import Call, Watch
from protocol.settings import AgentRole, ModelName
from protocol.turns import AnyTurnEvent, Count, Outcome, Usage

Token = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Detail = Annotated[str, Meta(max_length=DETAIL_CHARS_MAX)]
ToolName = Annotated[str, Meta(max_length=TOOL_NAME_CHARS_MAX)]


class Attached(Struct, frozen=True):
    """What a harness learns when it attaches."""

    agent: AgentName
    role: AgentRole
    requeued: int
    """Deliveries that an earlier harness had left in a turn and that come again."""


class Attach(Call[Attached], frozen=True):
    """Say that this harness now serves the agent. A new `instance` ends as crashed what an earlier one left open."""

    instance: RequestKey
    version: Annotated[str, Meta(max_length=40)]


class Delivery(Struct, frozen=True):
    """A leased delivery: `token` proves the lease until `expires_ms`."""

    id: DeliveryId
    token: Token
    attempt: int
    expires_ms: int
    message: Message
    only_if: str | None = None
    """With a reminder: the command that says whether a turn is worth it (protocol.reminders)."""


class Taken(Struct, frozen=True):
    delivery: Delivery | None


class TakeDelivery(Call[Taken], frozen=True):
    """Wait up to `wait_s` seconds for the agent's oldest queued delivery and lease it.

    A repeat hands out the one that was leased and not begun, under a new token.
    """

    waits: ClassVar[bool] = True

    wait_s: Annotated[int, Meta(ge=0, le=TAKE_WAIT_S_MAX)] = 60


class Lease(Struct, frozen=True):
    expires_ms: int


class ExtendLease(Call[Lease], frozen=True):
    """Keep a delivery (and the turn that it drives) for another lease. `conflict` when the lease was lost."""

    delivery: DeliveryId
    token: Token


class ReleaseDelivery(Call[None], frozen=True):
    """Give a leased delivery back to the queue without a turn; it does not count as an attempt."""

    delivery: DeliveryId
    token: Token
    reason: Detail = ""


class SkipDelivery(Call[None], frozen=True):
    """End a leased delivery without a turn, because its reminder's `only_if` said no. A repeat is harmless."""

    delivery: DeliveryId
    token: Token
    detail: Detail = ""
    """The last words of the command."""


class TurnBegun(Struct, frozen=True):
    turn: TurnId
    model: ModelName | None = None
    """What the operator chose for the agent; None is what its settings say."""


class BeginTurn(Call[TurnBegun], frozen=True):
    """Record, durably, that a turn starts for a leased delivery. `conflict` while another turn is open."""

    delivery: DeliveryId
    token: Token


class TurnClosed(Struct, frozen=True):
    done: int
    requeued: int
    dead: int


class EndTurn(Call[TurnClosed], frozen=True):
    """Record the outcome and settle every delivery of the turn at once. A repeat returns the first answer."""

    turn: TurnId
    outcome: Outcome
    detail: Detail = ""
    usage: Usage | None = None
    conversation: Annotated[str, Meta(max_length=100)] | None = None
    until_ms: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] | None = None
    """With rate_limited: when the limit is said to end."""
    tools: Annotated[dict[ToolName, Count], Meta(max_length=TURN_TOOLS_MAX)] = field(
        default_factory=dict[str, int]
    )
    """How often each tool was called."""
    notes_bytes: Count | None = None
    """The size of the agent's notes after the turn."""


class PublishEvents(Call[None], frozen=True):
    """Add events to an open turn. Numbered by `n`, so a repeated batch adds nothing twice."""

    turn: TurnId
    events: Annotated[tuple[AnyTurnEvent, ...], Meta(min_length=1, max_length=TURN_EVENTS_BATCH_MAX)]


class ReportParked(Call[None], frozen=True):
    """Say that the harness takes no delivery for now and why (a limit, a missing login).

    Without `reason`: that it takes them again.
    """

    reason: Outcome | None = None
    detail: Detail = ""
    until_ms: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] | None = None


class ReportHealth(Call[None], frozen=True):
    """Say what the harness's self-test found, because `ProveHealth` asked: a fault, or nothing when all is well."""

    started_ms: Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
    fault: Detail = ""


class CancelTurn(Struct, frozen=True, tag_field="kind", tag="cancel_turn"):
    """The operator wants this turn ended."""

    turn: int


class Unpark(Struct, frozen=True, tag_field="kind", tag="unpark"):
    """The operator wants a parked harness to try again."""


class ProveHealth(Struct, frozen=True, tag_field="kind", tag="prove_health"):
    """The hive wants to know whether this harness is well; answered by `ReportHealth` with the same time."""

    started_ms: int
    """When the cage was started whose harness is asked."""


AnyCommand = CancelTurn | Unpark | ProveHealth


class WatchCommands(Watch[AnyCommand], frozen=True):
    """What the operator wants of the harness, as it comes. The open watch is how brokerd knows the harness is there."""
