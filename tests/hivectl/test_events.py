"""Every kind of event has its line, and no agent's words steer the terminal that shows it."""

from typing import Any, get_args

import pytest

from hivectl.events import KINDS, concerns, line
from hivectl.tables import printable
from protocol.brokerd import (
    AccountChanged,
    Activity,
    Agent,
    AgentChanged,
    AgentGone,
    AnyFeedBody,
    DeliveryChanged,
    EgressRefused,
    FeedEvent,
    LimitReached,
    MessageSent,
    ParkedThread,
    QuestionChanged,
    ReminderChanged,
    ThreadParked,
    ThreadReleased,
    TurnChanged,
    TurnEventAdded,
)
from protocol.egressd import Refusal
from protocol.limited import EgressRefusal, LimitHit, ModelAccount
from protocol.messages import DeliveryState, Message, Receipt
from protocol.privd import Resource
from protocol.questions import Question, QuestionState
from protocol.reminders import Once, Reminder, ReminderState
from protocol.settings import AgentRole
from protocol.turns import Outcome, Said, Turn

HOSTILE = "a\x1b[2J\nb\u202e"
SHOWN = printable(HOSTILE)
RECEIPT = Receipt(128, 1, "iris", DeliveryState.IN_TURN, 7, 1, 0)
MESSAGE = Message(1, 1, None, "atlas", "iris", False, HOSTILE, 0, (RECEIPT,))
TURN = Turn(7, "iris", "atlas", 1, 0)
AGENT = Agent("iris", AgentRole.AGENT, Activity.IDLE, 0, HOSTILE)
QUESTION = Question(3, "iris", "operator", HOSTILE, (), False, QuestionState.OPEN, 0)
REMINDER = Reminder(
    id=4,
    agent="iris",
    set_by="hm1nd",
    body=HOSTILE,
    schedule=Once(1),
    state=ReminderState.ACTIVE,
    created_ms=0,
)

EVENTS: list[tuple[Any, set[str], str]] = [
    (MessageSent(MESSAGE), {"atlas", "iris"}, f"#1  atlas → iris  {SHOWN}  [in turn]"),
    (DeliveryChanged(RECEIPT), {"iris"}, "#1 at iris: in turn (turn 7)"),
    (TurnChanged(TURN), {"iris"}, "iris: turn 7 began, woken by atlas"),
    (TurnChanged(TURN, (RECEIPT,)), {"iris"}, "iris: turn 7 began, woken by atlas (#1 in turn)"),
    (
        TurnChanged(Turn(7, "iris", "atlas", 1, 0, 9, Outcome.RATE_LIMITED, HOSTILE)),
        {"iris"},
        f"iris: turn 7 rate limited {SHOWN}",
    ),
    (TurnEventAdded("iris", 7, Said(0, 0, HOSTILE)), {"iris"}, f"iris  ▪ {SHOWN}"),
    (AgentChanged(AGENT), {"iris"}, f"iris is idle: {SHOWN}"),
    (
        AgentChanged(Agent("iris", AgentRole.AGENT, Activity.IDLE, 0, paused=True)),
        {"iris"},
        "iris is idle, paused",
    ),
    (
        AgentChanged(Agent("iris", AgentRole.AGENT, Activity.IDLE, 0, model="opus", status="busy")),
        {"iris"},
        "iris is idle, with opus: busy",
    ),
    (AgentGone("iris"), {"iris"}, "iris is gone"),
    (QuestionChanged(QUESTION), {"iris", "operator"}, f"question 3 of iris to operator is open: {SHOWN}"),
    (ReminderChanged(REMINDER), {"iris"}, "iris: reminder 4 is active"),
    (
        ThreadParked(ParkedThread(1, ("atlas", "iris"), 41, 2, 0)),
        {"atlas", "iris"},
        "thread 1 of atlas and iris is parked: 2 held",
    ),
    (ThreadReleased(1), set(), "thread 1 goes on"),
    (
        AccountChanged(ModelAccount("night", held=("atlas", "iris"))),
        {"atlas", "iris"},
        "account night: goes on, one agent after the other; held: atlas, iris",
    ),
    (
        EgressRefused(EgressRefusal(1, "iris", Refusal.LEADS_INSIDE, HOSTILE, 443, 1, 0, 0)),
        {"iris"},
        f"iris may not connect to {SHOWN}:443: its name leads to an address inside",
    ),
    (LimitReached(LimitHit("iris", Resource.DISK, 1, 0, 0, HOSTILE)), {"iris"}, f"iris met a limit: {SHOWN}"),
]


def test_no_kind_of_event_is_missing() -> None:
    assert set(KINDS) == set(get_args(AnyFeedBody)) == {type(body) for body, _, _ in EVENTS}


@pytest.mark.parametrize(("body", "agents", "words"), EVENTS)
def test_whom_it_concerns_and_how_it_reads(body: Any, agents: set[str], words: str) -> None:
    event = FeedEvent(1, 0, body)
    assert concerns(event) == agents
    clock, _, said = line(event).partition("  ")
    assert len(clock) == len("00:00:00")
    assert said == words
