"""What the operator (hivectl, webd) may ask of brokerd. `Send` and `Hello` are shared with the agents' sockets."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from protocol.limits import INTEGER_MAX, PAGE_ROWS_MAX
from protocol.messages import Message, MessageId, Receipt
from protocol.names import AgentName
from protocol.rpc import Call, Watch
from protocol.settings import AgentRole
from protocol.turns import AnyTurnEvent, Outcome, Turn

Seq = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
Limit = Annotated[int, Meta(ge=1, le=PAGE_ROWS_MAX)]


class Activity(StrEnum):
    """What an agent's harness is doing, as brokerd knows it."""

    ABSENT = "absent"
    """No harness is attached."""
    IDLE = "idle"
    THINKING = "thinking"
    PARKED = "parked"


class Agent(Struct, frozen=True):
    """One agent as brokerd knows it."""

    name: AgentName
    role: AgentRole
    activity: Activity
    since_ms: int
    status: str = ""
    """In the agent's own words."""
    turn: int | None = None
    parked: Outcome | None = None
    until_ms: int | None = None
    detail: str = ""
    last_turn_ms: int | None = None


class AgentNow(Struct, frozen=True):
    """An agent in a snapshot, with what only a query can tell."""

    agent: Agent
    inbox: int
    """Open deliveries."""
    turns_began_ms: tuple[int, ...]
    """Of the last hour, oldest first, at most 500."""


class Snapshot(Struct, frozen=True):
    """Everything a dashboard starts from, as of `seq`: events after it bring the rest."""

    epoch: str
    seq: int
    at_ms: int
    agents: tuple[AgentNow, ...]
    messages: tuple[Message, ...]
    """The newest 100, oldest first."""
    messages_hour: int
    operator_unread: int
    wanting: tuple[Message, ...] = ()
    """Messages that wait for the operator, however old: unread by them, or dead in the last 24 hours.

    Oldest first, at most 100; they may be among `messages` too.
    """


class TakeSnapshot(Call[Snapshot], frozen=True):
    """The state of the swarm and the place in the feed that it belongs to."""


class MessageSent(Struct, frozen=True, tag_field="kind", tag="message_sent"):
    message: Message


class DeliveryChanged(Struct, frozen=True, tag_field="kind", tag="delivery_changed"):
    delivery: Receipt


class TurnChanged(Struct, frozen=True, tag_field="kind", tag="turn_changed"):
    """A turn began or ended: its whole row."""

    turn: Turn


class TurnEventAdded(Struct, frozen=True, tag_field="kind", tag="turn_event_added"):
    agent: AgentName
    turn: int
    event: AnyTurnEvent


class AgentChanged(Struct, frozen=True, tag_field="kind", tag="agent_changed"):
    """An agent's whole row after a change."""

    agent: Agent


class AgentGone(Struct, frozen=True, tag_field="kind", tag="agent_gone"):
    name: AgentName


AnyFeedBody = MessageSent | DeliveryChanged | TurnChanged | TurnEventAdded | AgentChanged | AgentGone


class FeedEvent(Struct, frozen=True):
    """One thing that happened. `seq` is durable and grows by one each time."""

    seq: int
    at_ms: int
    body: AnyFeedBody


class WatchFeed(Watch[FeedEvent], frozen=True):
    """Everything after `since`, then everything as it happens.

    `not_found` when that place is no longer (or was never) in this feed: take a snapshot.
    """

    epoch: Annotated[str, Meta(max_length=40)]
    since: Seq


class MessagePage(Struct, frozen=True):
    """Newest first; `before` leads to older ones and is None at the end."""

    messages: tuple[Message, ...]
    before: int | None


class ListMessages(Call[MessagePage], frozen=True):
    """Messages with their deliveries, newest first, of everyone or of one agent or thread."""

    before: MessageId | None = None
    limit: Limit = 100
    agent: AgentName | None = None
    thread: MessageId | None = None


class Marked(Struct, frozen=True):
    seq: int
    """The place in the feed after which the change has been seen."""


class MarkRead(Call[Marked], frozen=True):
    """The operator has read these messages: their deliveries to the operator are done."""

    messages: Annotated[tuple[MessageId, ...], Meta(min_length=1, max_length=PAGE_ROWS_MAX)]


class TurnWithEvents(Struct, frozen=True):
    turn: Turn
    events: tuple[AnyTurnEvent, ...]
    cut: int = 0
    """Events that did not fit into the page (the oldest ones of the turn)."""


class TailPage(Struct, frozen=True):
    """Turns oldest first; `before` leads to older ones and is None at the end."""

    turns: tuple[TurnWithEvents, ...]
    before: int | None
    seq: int


class ReadTail(Call[TailPage], frozen=True):
    """One agent's newest turns before a turn, with their events."""

    agent: AgentName
    before: Annotated[int, Meta(ge=1, le=INTEGER_MAX)] | None = None
    limit: Annotated[int, Meta(ge=1, le=50)] = 20


class StopTurn(Call[None], frozen=True):
    """Ask the agent's harness to end the running turn; `conflict` when none runs or no harness listens."""

    agent: AgentName


class WakeParked(Call[None], frozen=True):
    """Ask a parked harness to try again."""

    agent: AgentName
