"""What happens, as lines for people: for each kind of feed event whom it concerns and how it reads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from hivectl import limited, tables
from hivectl.tables import printable, worded
from protocol.brokerd import (
    AccountChanged,
    AgentChanged,
    AgentGone,
    DeliveryChanged,
    EgressRefused,
    FeedEvent,
    LimitReached,
    MessageSent,
    QuestionChanged,
    ReminderChanged,
    ThreadParked,
    ThreadReleased,
    TurnChanged,
    TurnEventAdded,
)

B = TypeVar("B")


@dataclass(frozen=True)
class Shown:
    """How one kind of event is shown."""

    concerns: Callable[[Any], frozenset[str]]
    words: Callable[[Any], str]


def _shown(
    kind: type[B], concerns: Callable[[B], frozenset[str]], words: Callable[[B], str]
) -> tuple[type[B], Shown]:
    """One row of KINDS, whose functions take that kind."""
    return kind, Shown(concerns, words)


def _message_sent(body: MessageSent) -> str:
    return tables.message_words(body.message)


def _delivery_changed(body: DeliveryChanged) -> str:
    delivery = body.delivery
    turn = f" (turn {delivery.turn})" if delivery.turn else ""
    return f"#{delivery.message} at {delivery.recipient}: {worded(delivery.state)}{turn}"


def _turn_changed(body: TurnChanged) -> str:
    turn = body.turn
    states = ", ".join(f"#{delivery.message} {worded(delivery.state)}" for delivery in body.deliveries)
    became = f" ({states})" if states else ""
    if turn.outcome is None:
        return f"{turn.agent}: turn {turn.id} began, woken by {printable(turn.woke_by)}{became}"
    return f"{turn.agent}: turn {turn.id} {worded(turn.outcome)}{became} {printable(turn.detail)}".rstrip()


def _agent_changed(body: AgentChanged) -> str:
    agent = body.agent
    paused = ", paused" if agent.paused else ""
    model = "" if agent.model is None else f", with {printable(agent.model)}"
    status = f": {printable(agent.status)}" if agent.status else ""
    return f"{agent.name} is {agent.activity}{paused}{model}{status}"


def _question_changed(body: QuestionChanged) -> str:
    question = body.question
    head = f"question {question.id} of {question.asker} to {question.asked_of} is {question.state}"
    return f"{head}: {printable(question.text)}"


def _thread_parked(body: ThreadParked) -> str:
    parked = body.parked
    return f"thread {parked.thread} of {' and '.join(parked.agents)} is parked: {parked.held} held"


KINDS: Final[dict[type[Any], Shown]] = dict(
    (
        _shown(
            MessageSent,
            lambda body: frozenset(
                {body.message.sender, *(delivery.recipient for delivery in body.message.deliveries)}
            ),
            _message_sent,
        ),
        _shown(DeliveryChanged, lambda body: frozenset({body.delivery.recipient}), _delivery_changed),
        _shown(TurnChanged, lambda body: frozenset({body.turn.agent}), _turn_changed),
        _shown(
            TurnEventAdded,
            lambda body: frozenset({body.agent}),
            lambda body: f"{body.agent}  {tables.event_line(body.event)}",
        ),
        _shown(AgentChanged, lambda body: frozenset({body.agent.name}), _agent_changed),
        _shown(AgentGone, lambda body: frozenset({body.name}), lambda body: f"{body.name} is gone"),
        _shown(
            QuestionChanged,
            lambda body: frozenset({body.question.asker, body.question.asked_of}),
            _question_changed,
        ),
        _shown(
            ReminderChanged,
            lambda body: frozenset({body.reminder.agent}),
            lambda body: f"{body.reminder.agent}: reminder {body.reminder.id} is {body.reminder.state}",
        ),
        _shown(ThreadParked, lambda body: frozenset(body.parked.agents), _thread_parked),
        _shown(
            AccountChanged,
            lambda body: frozenset(body.account.held),
            lambda body: limited.account_line(body.account),
        ),
        _shown(
            EgressRefused,
            lambda body: frozenset({body.refusal.agent}),
            lambda body: limited.refusal_line(body.refusal),
        ),
        _shown(
            LimitReached, lambda body: frozenset({body.hit.agent}), lambda body: limited.hit_line(body.hit)
        ),
        _shown(ThreadReleased, lambda _: frozenset(), lambda body: f"thread {body.thread} goes on"),
    )
)
"""A test sees to it that no kind of event is missing."""


def concerns(event: FeedEvent) -> frozenset[str]:
    """The agents that an event is about."""
    return KINDS[type(event.body)].concerns(event.body)


def line(event: FeedEvent) -> str:
    """One event as one line for people."""
    return f"{tables.clock(event.at_ms)}  {KINDS[type(event.body)].words(event.body)}"
