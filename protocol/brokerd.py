"""What the operator (hivectl, webd) may ask of brokerd. `Send` and `Hello` are shared with the agents' sockets."""

from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from protocol.limited import EgressRefusal, LimitHit, ModelAccount
from protocol.limits import INTEGER_MAX, PAGE_ROWS_MAX, SEARCH_CHARS_MAX, TURN_DELIVERIES_TOLD_MAX
from protocol.messages import DeliveryId, Message, MessageId, Receipt
from protocol.names import AccountName, AgentName
from protocol.questions import Broken, Question
from protocol.reminders import (
    AtTime,
    CronExpression,
    EverySeconds,
    OnlyIf,
    Reminder,
    ReminderId,
    ReminderText,
    ZoneName,
)
from protocol.rpc import Call, Watch
from protocol.settings import AgentRole, ModelName
from protocol.statistics import Statistics
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


def activity_of(*, attached: bool, turn: int | None, parked: Outcome | None) -> Activity:
    """A running turn says more than a connection: the harness may be connecting again after brokerd's restart."""
    if turn is not None:
        return Activity.THINKING
    if not attached:
        return Activity.ABSENT
    return Activity.IDLE if parked is None else Activity.PARKED


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
    paused: bool = False
    """The operator wants no turn to begin; a running one ends by itself."""
    limited_by: AccountName | None = None
    """The model account whose limit holds the agent; `parked`, `until_ms` and `detail` say the same in words."""
    attached: bool = False
    """Whether its harness is there."""
    model: ModelName | None = None
    """What the operator chose for its turns, until its settings name another; None is what they say."""

    def after(self, turn: Turn) -> "Agent":
        """The agent once it is known that one of its turns began or ended, which TurnChanged alone tells."""
        if turn.ended_ms is None:
            return replace(self, turn=turn.id, activity=Activity.THINKING, since_ms=turn.began_ms)
        at_rest = activity_of(attached=self.attached, turn=None, parked=self.parked)
        return replace(self, turn=None, activity=at_rest, since_ms=turn.ended_ms, last_turn_ms=turn.ended_ms)


class AgentNow(Struct, frozen=True):
    """An agent in a snapshot, with what only a query can tell."""

    agent: Agent
    inbox: int
    """Open deliveries."""
    turns_began_ms: tuple[int, ...]
    """Of the last hour, oldest first, at most 500."""


class ParkedThread(Struct, frozen=True):
    """A thread in which agents wrote to each other for too long with nobody from outside; its messages are held."""

    thread: int
    agents: tuple[str, ...]
    hops: int
    held: int
    """Deliveries that wait for the release."""
    since_ms: int


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
    questions: tuple[Question, ...] = ()
    """Open ones, the oldest first: at most 100 that the operator is asked, and 100 between agents."""
    broken_questions: tuple[Broken, ...] = ()
    parked: tuple[ParkedThread, ...] = ()
    accounts: tuple[ModelAccount, ...] = ()
    """Those of which anything is known."""
    refusals: tuple[EgressRefusal, ...] = ()
    """Of the last 24 hours, the newest 100, oldest first."""
    limit_hits: tuple[LimitHit, ...] = ()


class TakeSnapshot(Call[Snapshot], frozen=True):
    """The state of the swarm and the place in the feed that it belongs to."""


class MessageSent(Struct, frozen=True, tag_field="kind", tag="message_sent", omit_defaults=True):
    message: Message
    fired: Reminder | None = None
    """The reminder whose message this is, as it stands now that it has fired."""


class DeliveryChanged(Struct, frozen=True, tag_field="kind", tag="delivery_changed"):
    delivery: Receipt


class TurnChanged(Struct, frozen=True, tag_field="kind", tag="turn_changed"):
    """A turn began or ended: its whole row. What that changes about the agent is `Agent.after`."""

    turn: Turn
    deliveries: Annotated[tuple[Receipt, ...], Meta(max_length=TURN_DELIVERIES_TOLD_MAX)] = ()
    """What that changes about deliveries. Of a turn with more than these, the others were told by themselves."""


class TurnEventAdded(Struct, frozen=True, tag_field="kind", tag="turn_event_added"):
    agent: AgentName
    turn: int
    event: AnyTurnEvent


class AgentChanged(Struct, frozen=True, tag_field="kind", tag="agent_changed"):
    """An agent's whole row after a change that is not the begin or the end of a turn."""

    agent: Agent


class AgentGone(Struct, frozen=True, tag_field="kind", tag="agent_gone"):
    name: AgentName


class QuestionChanged(Struct, frozen=True, tag_field="kind", tag="question_changed"):
    """A question was asked or has ended: its whole row."""

    question: Question


class ReminderChanged(Struct, frozen=True, tag_field="kind", tag="reminder_changed"):
    """A reminder was set, changed or ended, or was due and sent nothing: its whole row. MessageSent tells of others."""

    reminder: Reminder


class ThreadParked(Struct, frozen=True, tag_field="kind", tag="thread_parked"):
    """A thread was parked, or holds another message: its whole row."""

    parked: ParkedThread


class ThreadReleased(Struct, frozen=True, tag_field="kind", tag="thread_released"):
    """The operator let a parked thread go on, or closed it."""

    thread: int


class AccountChanged(Struct, frozen=True, tag_field="kind", tag="account_changed"):
    """What is known of a model account, or whom its limit holds: its whole row."""

    account: ModelAccount


class EgressRefused(Struct, frozen=True, tag_field="kind", tag="egress_refused"):
    """An agent was turned away on its way out, for the first time in an hour or again: the whole row."""

    refusal: EgressRefusal


class LimitReached(Struct, frozen=True, tag_field="kind", tag="limit_reached"):
    """A cage met one of its limits: the whole row of that limit."""

    hit: LimitHit


AnyFeedBody = (
    MessageSent
    | DeliveryChanged
    | TurnChanged
    | TurnEventAdded
    | AgentChanged
    | AgentGone
    | QuestionChanged
    | ReminderChanged
    | ThreadParked
    | ThreadReleased
    | AccountChanged
    | EgressRefused
    | LimitReached
)


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


class PauseAgent(Call[Marked], frozen=True):
    """Let no new turn of the agent begin; the running one ends by itself. Survives every restart."""

    agent: AgentName


class ResumeAgent(Call[Marked], frozen=True):
    """Let an agent go on that is paused, or that a limit of its model account holds: others stay held."""

    agent: AgentName


class ChooseModel(Call[Marked], frozen=True):
    """Use a model for the turns of an agent that begin from now on; without one, what its settings say again.

    The choice survives every restart, and ends when a deployment changes the model that the settings say.
    """

    agent: AgentName
    model: ModelName | None = None


class ListAccounts(Call[tuple[ModelAccount, ...]], frozen=True):
    """The model accounts of which anything is known: their limits, and whom they hold."""


class ResumeAccount(Call[Marked], frozen=True):
    """Take a model account's limit for over: those whom it holds go on, one after the other.

    `conflict` when it is not limited.
    """

    account: AccountName


class EgressPage(Struct, frozen=True):
    """Newest first; `before` leads to older ones and is None at the end."""

    refusals: tuple[EgressRefusal, ...]
    before: int | None


class ListEgress(Call[EgressPage], frozen=True):
    """Who was turned away on the way out, from where and why, newest first; of everybody or of one agent."""

    agent: AgentName | None = None
    before: Annotated[int, Meta(ge=1, le=INTEGER_MAX)] | None = None
    limit: Limit = 100


class RetryDelivery(Call[Marked], frozen=True):
    """Put a dead delivery back into its recipient's queue, its attempts forgotten. `conflict` when it is not dead."""

    delivery: DeliveryId


class ReleaseThread(Call[Marked], frozen=True):
    """Let a parked thread go on: what is held is delivered, and as many messages may follow as before."""

    thread: MessageId


class CloseThread(Call[Marked], frozen=True):
    """Give up what a parked thread holds: those deliveries are dead. Later messages in the thread are held again."""

    thread: MessageId


class QuestionPage(Struct, frozen=True):
    """Newest first; `before` leads to older ones and is None at the end."""

    questions: tuple[Question, ...]
    broken: tuple[Broken, ...]
    """Rows among them that cannot be read."""
    before: int | None


class ListQuestions(Call[QuestionPage], frozen=True):
    """Questions to the operator and between agents; only open ones, unless told otherwise."""

    open: bool = True
    agent: AgentName | None = None
    before: Annotated[int, Meta(ge=1, le=INTEGER_MAX)] | None = None
    limit: Limit = 100


class EditReminder(Call[Reminder], frozen=True):
    """Change a reminder that is still to fire; what is not given stays. A new schedule replaces the old one."""

    reminder: ReminderId
    text: ReminderText | None = None
    at: AtTime | None = None
    every_s: EverySeconds | None = None
    cron: CronExpression | None = None
    zone: ZoneName | None = None
    only_if: OnlyIf | None = None
    always: bool = False
    """Forget `only_if`."""


class FireReminder(Call[Reminder], frozen=True):
    """Send a reminder's message now; its schedule stays as it is."""

    repeatable: ClassVar[bool] = False

    reminder: ReminderId


class SearchMessages(Call[MessagePage], frozen=True):
    """Messages whose text has all of these words, newest first. The last word may be a beginning."""

    text: Annotated[str, Meta(min_length=1, max_length=SEARCH_CHARS_MAX)]
    before: MessageId | None = None
    limit: Limit = 50
    agent: AgentName | None = None


class ReadStatistics(Call[Statistics], frozen=True):
    """Numbers of every agent, or of one with its series, from `since_ms` until now; without it, of a day."""

    since_ms: Seq | None = None
    agent: AgentName | None = None


class BackedUp(Struct, frozen=True):
    """A backup that is whole and on disk."""

    name: str
    """Its folder below brokerd's `backups`."""
    bytes: int
    at_ms: int


class Backup(Call[BackedUp], frozen=True):
    """Copy both databases while they are in use, into a new folder below brokerd's own `backups`."""

    repeatable: ClassVar[bool] = False
