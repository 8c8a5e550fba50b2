"""What a harness may ask of brokerd at its own socket, the agent's tools among it.

Which agent is asking follows from the socket. Requests that store something carry a key made by the client, or
are bound to a token or a turn, so that each may be sent again after a lost connection.
"""

from typing import Annotated, ClassVar, Generic, TypeVar

from msgspec import Meta, Struct

from protocol.limits import (
    DETAIL_CHARS_MAX,
    INTEGER_MAX,
    RECV_MESSAGES_MAX,
    STATUS_CHARS_MAX,
    TAKE_WAIT_S_MAX,
    TURN_EVENTS_BATCH_MAX,
)
from protocol.messages import Body, DeliveryId, Message, MessageId, TurnId
from protocol.names import AgentName, Recipient, RequestKey
from protocol.rpc import Call, Watch
from protocol.settings import AgentRole, Runner
from protocol.turns import AnyTurnEvent, Outcome, Usage

R = TypeVar("R")

Token = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Detail = Annotated[str, Meta(max_length=DETAIL_CHARS_MAX)]


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


class TurnBegun(Struct, frozen=True):
    turn: TurnId


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


class CancelTurn(Struct, frozen=True, tag_field="kind", tag="cancel_turn"):
    """The operator wants this turn ended."""

    turn: int


class Unpark(Struct, frozen=True, tag_field="kind", tag="unpark"):
    """The operator wants a parked harness to try again."""


AnyCommand = CancelTurn | Unpark


class WatchCommands(Watch[AnyCommand], frozen=True):
    """What the operator wants of the harness, as it comes. The open watch is how brokerd knows the harness is there."""


class Tool(Call[R], Generic[R], frozen=True):
    """A request that the agent itself makes, as an MCP tool. The harness fills in the fields named in `supplied`."""

    tool_name: ClassVar[str]
    supplied: ClassVar[frozenset[str]] = frozenset()


class Sent(Struct, frozen=True):
    """A message that is on disk: its id, its thread and who will get it."""

    message: int
    thread: int
    recipients: tuple[str, ...]
    seq: int
    """The place in the feed after which everybody has seen it."""


class Send(Tool[Sent], frozen=True):
    """Send a message to another agent, to the operator, or to everyone (`*`).

    Answer a message by giving its id as in_reply_to.
    """

    tool_name: ClassVar[str] = "send"
    supplied: ClassVar[frozenset[str]] = frozenset({"key"})

    to: Recipient
    body: Body
    key: RequestKey
    in_reply_to: MessageId | None = None


class Received(Struct, frozen=True):
    messages: tuple[Message, ...]


class Recv(Tool[Received], frozen=True):
    """Read messages that came in while you work. Returns at once unless wait_s asks to wait.

    They count as handled when this turn ends.
    """

    tool_name: ClassVar[str] = "recv"
    supplied: ClassVar[frozenset[str]] = frozenset({"turn", "key"})
    waits: ClassVar[bool] = True

    turn: TurnId
    key: RequestKey
    wait_s: Annotated[int, Meta(ge=0, le=TAKE_WAIT_S_MAX)] = 0
    limit: Annotated[int, Meta(ge=1, le=RECV_MESSAGES_MAX)] = 5


class SetStatus(Tool[None], frozen=True):
    """Say in a few words what you are doing; the operator sees it beside your name."""

    tool_name: ClassVar[str] = "set_status"

    text: Annotated[str, Meta(max_length=STATUS_CHARS_MAX)]


class Identity(Struct, frozen=True):
    name: AgentName
    role: AgentRole
    runner: Runner
    model: str
    allowed_recipients: tuple[str, ...] | None


class WhoAmI(Tool[Identity], frozen=True):
    """Who you are in the hive: name, role, and whom you may write to."""

    tool_name: ClassVar[str] = "whoami"


class AgentCard(Struct, frozen=True):
    name: AgentName
    role: AgentRole
    state: str
    status: str


class ListAgents(Tool[tuple[AgentCard, ...]], frozen=True):
    """The agents of the hive, with their state and what they say they are doing."""

    tool_name: ClassVar[str] = "list_agents"


TOOLS: tuple[type[Tool[object]], ...] = (Send, Recv, SetStatus, WhoAmI, ListAgents)  # type: ignore[assignment]  # R
