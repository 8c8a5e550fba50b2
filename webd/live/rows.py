"""What browsers are told, row by row: the types of docs/reference/http.md, and how each follows from the wire's.

Text from agents is made plain here, once, so that nothing behind this page ever holds an escape sequence.
"""

from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from protocol.brokerd import Activity
from protocol.brokerd import Agent as BrokerAgent
from protocol.messages import Message, Receipt
from protocol.privd import Cage, Power
from protocol.questions import Broken, Question
from protocol.reminders import Reminder
from protocol.settings import CageLimits, Runner
from protocol.turns import AnyTurnEvent, Outcome, Turn
from webd.policy.text import TEXT_CHARS_MAX, plain

PULSE_BINS: Final = 24
PULSE_BIN_MS: Final = 150_000


class AgentState(StrEnum):
    """One word for an agent: its cage's while that is not running, else what its harness does."""

    IDLE = "idle"
    THINKING = "thinking"
    STARTING = "starting"
    STOPPING = "stopping"
    OFFLINE = "offline"
    CRASHED = "crashed"
    FAILED = "failed"
    LIMITED = "limited"
    PARKED = "parked"


class AgentRow(Struct, frozen=True):
    """One agent in the swarm."""

    name: str
    role: str
    state: AgentState
    since_ms: int
    doing: str
    runner: str
    model: str | None
    """Of its next turn: what the operator chose, or else what its settings say; None where no model drives it."""
    inbox: int
    turn: int | None
    last_turn_ms: int | None
    up_since_ms: int | None
    backend: str
    degraded: tuple[str, ...]
    pulse: tuple[int, ...]
    detail: str
    until_ms: int | None
    """When the limit that holds the agent is said to end."""
    paused: bool
    """Whether the operator wants no turn to begin."""
    account: str
    """The model account that pays for it."""
    limited_by: str | None
    """That account, while its limit holds the agent."""
    limits: CageLimits
    """What its cage may use."""
    egress_hosts: tuple[str, ...]
    """Where it may connect to, beside the model API."""
    generation: int | None
    """Of its configuration: what is deployed."""
    stale: str
    """Why its cage, which runs, still is what was before; empty when it is not."""
    icon: str
    """A sign or two of its own, as its settings bound it; empty for none."""
    pronouns: str


class KeptRow(Struct, frozen=True):
    """An agent without a cage: what a destroyed one left, or a draft."""

    name: str
    role: str
    since_ms: int
    runner: str
    model: str | None


class DeliveryRow(Struct, frozen=True):
    id: int
    recipient: str
    state: str
    turn: int | None
    attempts: int
    changed_ms: int


class MessageRow(Struct, frozen=True):
    id: int
    thread: int
    in_reply_to: int | None
    sender: str
    to: str
    broadcast: bool
    body: str
    sent_ms: int
    deliveries: tuple[DeliveryRow, ...]
    event: str | None = None
    about: int | None = None
    hops: int = 0


class TurnRow(Struct, frozen=True):
    id: int
    agent: str
    began_ms: int
    ended_ms: int | None
    outcome: str | None
    woke_by: str
    message: int | None
    usage: Any
    detail: str
    tool_calls: int


class DaemonStates(Struct, frozen=True):
    privd: str = "down"
    brokerd: str = "down"
    egressd: str = "down"


class Totals(Struct, frozen=True):
    messages_hour: int = 0


class HiveRow(Struct, frozen=True):
    """The hive as a whole. `operator` is filled in for each reader."""

    name: str
    version: str
    backend: str = ""
    separated: bool = True
    click: bool = False
    """Whether a click is enough to approve, because no key is enrolled."""
    notices: tuple[str, ...] = ()
    operator: str = ""
    daemons: DaemonStates = DaemonStates()
    totals: Totals = Totals()


EventRow = dict[str, Any]
"""One event of a turn: `turn`, `n` counted from 1, and the event's own fields."""

_POWERS: Final = {
    Power.STOPPED: AgentState.OFFLINE,
    Power.STARTING: AgentState.STARTING,
    Power.STOPPING: AgentState.STOPPING,
    Power.CRASHED: AgentState.CRASHED,
    Power.FAILED: AgentState.FAILED,
    Power.KEPT: AgentState.OFFLINE,
    Power.DRAFT: AgentState.OFFLINE,
}

_ACTIVITIES: Final = {
    Activity.ABSENT: AgentState.STARTING,
    Activity.IDLE: AgentState.IDLE,
    Activity.THINKING: AgentState.THINKING,
    Activity.PARKED: AgentState.PARKED,
}

_PASSING: Final = frozenset({Outcome.RATE_LIMITED, Outcome.OVERLOADED})
"""Reasons to park that end by themselves."""


class Known(Struct, frozen=True):
    """What brokerd's feed tells of one agent."""

    agent: BrokerAgent
    inbox: int = 0
    pulse: tuple[int, ...] = (0,) * PULSE_BINS
    tool: str = ""
    """What the open turn called last."""


def state_of(cage: Cage, known: Known | None) -> AgentState:
    """The one word."""
    if cage.power is not Power.RUNNING:
        return _POWERS[cage.power]
    if known is None:
        return AgentState.STARTING
    if known.agent.activity is Activity.PARKED and known.agent.parked in _PASSING:
        return AgentState.LIMITED
    return _ACTIVITIES[known.agent.activity]


def agent_row(cage: Cage, known: Known | None) -> AgentRow:
    """One agent's row from its cage and what brokerd knows of it."""
    state = state_of(cage, known)
    agent = known.agent if known is not None and cage.power is Power.RUNNING else None
    held = agent if state in (AgentState.LIMITED, AgentState.PARKED) else None
    speaks = agent is not None and state is not AgentState.STARTING
    tool = known.tool if known is not None and state is AgentState.THINKING else ""
    return AgentRow(
        name=cage.agent,
        role=cage.settings.role,
        state=state,
        since_ms=agent.since_ms if agent is not None and speaks else cage.since_ms,
        doing=plain((agent.status or tool) if agent is not None else ""),
        runner=cage.settings.runner,
        model=_model(cage, known),
        inbox=known.inbox if known else 0,
        turn=agent.turn if agent else None,
        last_turn_ms=known.agent.last_turn_ms if known else None,
        up_since_ms=cage.started_ms if cage.power is Power.RUNNING else None,
        backend=cage.backend,
        degraded=tuple(plain(text) for text in cage.degraded),
        pulse=known.pulse if known else (0,) * PULSE_BINS,
        detail=plain(_why_held(held) if held else cage.detail),
        until_ms=held.until_ms if held else None,
        paused=known is not None and known.agent.paused,
        account=cage.settings.account,
        limited_by=known.agent.limited_by if known else None,
        limits=cage.settings.limits,
        egress_hosts=cage.settings.egress_hosts,
        generation=cage.generation,
        stale=plain(cage.stale),
        icon=plain(cage.settings.icon).strip(),
        pronouns=plain(cage.settings.pronouns).strip(),
    )


def _model(cage: Cage, known: Known | None) -> str | None:
    if known is not None and known.agent.model is not None:
        return known.agent.model
    return cage.settings.model if cage.settings.runner is Runner.CLAUDE else None


def kept_row(cage: Cage) -> KeptRow:
    settings = cage.settings
    model = settings.model if settings.runner is Runner.CLAUDE else None
    return KeptRow(cage.agent, settings.role, cage.since_ms, settings.runner, model)


def _why_held(agent: BrokerAgent) -> str:
    """Why it takes no message; until when is shown in the reader's own time."""
    if agent.limited_by is not None and agent.parked is Outcome.RATE_LIMITED:
        return f"account {agent.limited_by} is limited"
    return agent.detail or str(agent.parked or "")


def delivery_row(receipt: Receipt) -> DeliveryRow:
    return DeliveryRow(
        id=receipt.id,
        recipient=receipt.recipient,
        state=receipt.state,
        turn=receipt.turn,
        attempts=receipt.attempts,
        changed_ms=receipt.changed_ms,
    )


def message_row(message: Message) -> MessageRow:
    return MessageRow(
        id=message.id,
        thread=message.thread,
        in_reply_to=message.in_reply_to,
        sender=message.sender,
        to=message.to,
        broadcast=message.broadcast,
        body=plain(message.body),
        sent_ms=message.sent_ms,
        deliveries=tuple(delivery_row(receipt) for receipt in message.deliveries),
        event=message.event,
        about=message.about,
        hops=message.hops,
    )


def question_row(question: Question) -> Question:
    return replace(
        question,
        text=plain(question.text),
        options=tuple(map(plain, question.options)),
        answer=plain(question.answer),
        choices=tuple(map(plain, question.choices)),
    )


def broken_row(broken: Broken) -> Broken:
    return replace(broken, fault=plain(broken.fault))


def reminder_row(reminder: Reminder) -> Reminder:
    only_if = None if reminder.only_if is None else plain(reminder.only_if)
    return replace(reminder, body=plain(reminder.body), only_if=only_if)


def turn_row(turn: Turn) -> TurnRow:
    return TurnRow(
        id=turn.id,
        agent=turn.agent,
        began_ms=turn.began_ms,
        ended_ms=turn.ended_ms,
        outcome=turn.outcome,
        woke_by=turn.woke_by,
        message=turn.message,
        usage=turn.usage,
        detail=plain(turn.detail),
        tool_calls=turn.tool_calls,
    )


def event_row(turn: int, event: AnyTurnEvent) -> EventRow:
    row: EventRow = {"turn": turn, **msgspec.to_builtins(event)}
    row["n"] = event.n + 1
    return {
        name: plain(value, TEXT_CHARS_MAX) if isinstance(value, str) else value for name, value in row.items()
    }
