"""What the agent itself may ask, as MCP tools of its harness. The operator shares some of these requests.

A tool's schema and description are derived from its request: the fields without those in `supplied`, the docstring.
"""

from typing import Annotated, ClassVar, Generic, TypeVar

from msgspec import Meta, Struct

from protocol.limits import (
    INTEGER_MAX,
    PAGE_ROWS_MAX,
    QUESTION_TTL_S_MAX,
    QUESTION_TTL_S_MIN,
    RECV_MESSAGES_MAX,
    STATUS_CHARS_MAX,
    TAKE_WAIT_S_MAX,
)
from protocol.messages import Body, Message, MessageId, TurnId
from protocol.names import OPERATOR, AgentName, Recipient, RequestKey
from protocol.questions import AnswerText, Options, Question, QuestionId, QuestionText
from protocol.reminders import (
    AtTime,
    CronExpression,
    EverySeconds,
    OnlyIf,
    Reminder,
    ReminderId,
    ReminderRollup,
    ReminderText,
    Seconds,
    ZoneName,
)
from protocol.rpc import Call
from protocol.settings import AgentRole, Runner

R = TypeVar("R")


class Tool(Call[R], Generic[R], frozen=True):
    """A request that the agent itself makes, as an MCP tool. The harness fills in the fields named in `supplied`."""

    tool_name: ClassVar[str]
    supplied: ClassVar[frozenset[str]] = frozenset()
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names that models know the tool by; listed beside it."""


class Sent(Struct, frozen=True):
    """A message that is on disk: its id, its thread and who will get it."""

    message: int
    thread: int
    recipients: tuple[str, ...]
    seq: int
    """The place in the feed after which everybody has seen it."""
    held: bool = False
    """Whether it waits for the operator: too many messages of agents led to it."""


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


class ReadReceipt(Tool[Message], frozen=True):
    """What became of a message that you sent: for each recipient held, queued, leased, in_turn, done or dead."""

    tool_name: ClassVar[str] = "receipt"

    message: MessageId


class Ask(Tool[Question], frozen=True):
    """Ask the operator or another agent. Returns at once; the answer comes later as a message.

    Without options the answer is a text; with options it is one of them, or several with multi. With ttl_s
    you are told when nobody answered in time.
    """

    tool_name: ClassVar[str] = "ask"
    supplied: ClassVar[frozenset[str]] = frozenset({"key"})
    aliases: ClassVar[tuple[str, ...]] = ("ask_operator",)

    question: QuestionText
    key: RequestKey
    options: Options = ()
    multi: bool = False
    to: Recipient = OPERATOR
    ttl_s: Annotated[int, Meta(ge=QUESTION_TTL_S_MIN, le=QUESTION_TTL_S_MAX)] | None = None


class Answer(Tool[Question], frozen=True):
    """Answer a question that you were asked: in words, or by choosing among its options."""

    tool_name: ClassVar[str] = "answer"

    question: QuestionId
    answer: AnswerText = ""
    choices: Options = ()


class OpenThread(Struct, frozen=True):
    """Something that is not settled yet, in one line."""

    thread: int
    other: str
    """The other side: an agent, the operator, or `*`."""
    waits_for: str
    """Whose turn it is: your name, or theirs."""
    last_message: int
    last_ms: int
    text: str
    """How its last message begins."""


class OpenMatters(Struct, frozen=True):
    """What is not settled: threads, newest first, and questions that you asked or that wait for you."""

    threads: tuple[OpenThread, ...]
    questions: tuple[Question, ...]


class OpenThreads(Tool[OpenMatters], frozen=True):
    """What is still open: threads whose last word is unanswered, questions you asked, questions that wait for you."""

    tool_name: ClassVar[str] = "open_threads"


class Remind(Tool[Reminder], frozen=True):
    """Have a message sent to yourself later: in_s seconds from now, at a time, every_s seconds, or by cron.

    Give exactly one of them. With only_if, a shell command, you are woken only when it succeeds. `agent` is for the
    manager, who may remind others.
    """

    tool_name: ClassVar[str] = "remind"
    supplied: ClassVar[frozenset[str]] = frozenset({"key"})

    text: ReminderText
    key: RequestKey
    in_s: Seconds | None = None
    at: AtTime | None = None
    every_s: EverySeconds | None = None
    cron: CronExpression | None = None
    zone: ZoneName = "UTC"
    only_if: OnlyIf | None = None
    agent: AgentName | None = None


class ReminderPage(Struct, frozen=True):
    """Reminders that are still to fire first, by their time; then ended ones, newest first."""

    reminders: tuple[Reminder, ...]
    before: int | None = None
    """Leads to older ones that have ended."""
    after: int | None = None
    """Leads to later ones that are still to fire."""


class ListReminders(Tool[ReminderPage], frozen=True):
    """Your reminders that are still to fire; with ended, those that are over too. The manager may name an agent."""

    tool_name: ClassVar[str] = "list_reminders"

    agent: AgentName | None = None
    ended: bool = False
    before: Annotated[int, Meta(ge=1, le=INTEGER_MAX)] | None = None
    """Of the ended ones: only what is older than this number."""
    after: ReminderId | None = None
    """Only what comes after this one that is still to fire."""
    limit: Annotated[int, Meta(ge=1, le=PAGE_ROWS_MAX)] = 100


class CancelReminder(Tool[Reminder], frozen=True):
    """Cancel a reminder."""

    tool_name: ClassVar[str] = "cancel_reminder"

    reminder: ReminderId


class RollUpReminders(Tool[ReminderRollup], frozen=True):
    """How your reminders went in the last since_s seconds: attempted, delivered, failed, skipped."""

    tool_name: ClassVar[str] = "reminder_rollup"

    since_s: Annotated[int, Meta(ge=1, le=INTEGER_MAX)] = 24 * 3600
    agent: AgentName | None = None


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
    icon: str = ""
    pronouns: str = ""
    """As its configuration says; an agent that chose them itself wrote them into its profile."""


class WhoAmI(Tool[Identity], frozen=True):
    """Who you are in the hive: name, role, and whom you may write to."""

    tool_name: ClassVar[str] = "whoami"


class AgentCard(Struct, frozen=True):
    name: AgentName
    role: AgentRole
    state: str
    status: str
    icon: str = ""
    pronouns: str = ""


class ListAgents(Tool[tuple[AgentCard, ...]], frozen=True):
    """The agents of the hive, with their state and what they say they are doing."""

    tool_name: ClassVar[str] = "list_agents"


TOOLS: tuple[type[Tool[object]], ...] = (  # type: ignore[assignment]  # R
    Send,
    Recv,
    ReadReceipt,
    Ask,
    Answer,
    OpenThreads,
    Remind,
    ListReminders,
    CancelReminder,
    RollUpReminders,
    SetStatus,
    WhoAmI,
    ListAgents,
)
