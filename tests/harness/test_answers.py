"""What a model is shown of each reply: everything that it needs, times that it can read, and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.mcp.answers import SHOWN, iso, result_json
from harness.wake import BROADCAST_HINT
from protocol.messages import DeliveryState, Message, Receipt, SystemEvent
from protocol.questions import Question, QuestionState
from protocol.reminders import Cron, Every, Once, Reminder, ReminderState
from protocol.tools import TOOLS, OpenMatters, OpenThread, Received, ReminderPage, Sent

AT_MS = 1_795_186_401_000
AT = "2026-11-20T14:53:21Z"
SMALL = {"Identity", "tuple", "NoneType"}
"""Replies that are shown as they are."""


def shown(reply: object) -> object:
    return json.loads(result_json(reply))


def message(**changes: object) -> Message:
    values: dict[str, object] = {
        "id": 12,
        "thread": 9,
        "in_reply_to": None,
        "sender": "iris",
        "to": "atlas",
        "broadcast": False,
        "body": "hello",
        "sent_ms": AT_MS,
    }
    return Message(**(values | changes))  # type: ignore[arg-type]  # a table of fields


def test_every_reply_of_a_tool_is_thought_of() -> None:
    for tool in TOOLS:
        reply = tool.answer_type()
        name = getattr(getattr(reply, "__origin__", reply), "__name__", "NoneType")
        assert reply in SHOWN or name in SMALL, tool


def test_nothing_to_say_is_ok() -> None:
    assert shown(None) == {"ok": True}


def test_sent() -> None:
    assert shown(Sent(12, 9, ("iris",), 77)) == {"message": 12, "thread": 9, "recipients": ["iris"]}
    held = shown(Sent(12, 9, ("iris",), 77, held=True))
    assert isinstance(held, dict)
    assert "until the operator releases its thread" in held["held"]


def test_pulled_messages() -> None:
    plain = {"id": 12, "thread": 9, "sender": "iris", "sent": AT, "body": "hello"}
    assert shown(Received((message(),))) == {"messages": [plain]}
    asked = message(event=SystemEvent.QUESTION, about=3, in_reply_to=4)
    assert shown(Received((asked,))) == {
        "messages": [plain | {"event": "question", "question": 3, "in_reply_to": 4}]
    }
    to_all = message(broadcast=True, to="*", event=SystemEvent.REBUILT)
    assert shown(Received((to_all,))) == {"messages": [plain | {"event": "rebuilt", "note": BROADCAST_HINT}]}


def test_a_receipt() -> None:
    once = Receipt(1, 12, "atlas", DeliveryState.DONE, 7, 1, AT_MS)
    twice = Receipt(2, 12, "hm1nd", DeliveryState.DEAD, None, 5, AT_MS)
    assert shown(message(deliveries=(once, twice))) == {
        "message": 12,
        "to": "atlas",
        "sent": AT,
        "deliveries": [
            {"recipient": "atlas", "state": "done", "since": AT},
            {"recipient": "hm1nd", "state": "dead", "since": AT, "attempts": 5},
        ],
    }


def test_questions_and_threads() -> None:
    asked = Question(3, "iris", "operator", "may I?", ("yes", "no"), False, QuestionState.OPEN, AT_MS, AT_MS)
    thread = OpenThread(9, "atlas", "iris", 12, AT_MS, "well?")
    assert shown(OpenMatters((thread,), (asked,))) == {
        "threads": [
            {
                "thread": 9,
                "with": "atlas",
                "waits_for": "iris",
                "last_message": 12,
                "last": AT,
                "text": "well?",
            }
        ],
        "questions": [
            {
                "question": 3,
                "from": "iris",
                "to": "operator",
                "state": "open",
                "text": "may I?",
                "options": ["yes", "no"],
                "asked": AT,
                "deadline": AT,
            }
        ],
    }


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Once(AT_MS), "once"),
        (Every(60, AT_MS), "every 60 s"),
        (Cron("0 9 * * *", "Europe/Berlin"), "0 9 * * * (Europe/Berlin)"),
    ],
)
def test_reminders(schedule: Once | Every | Cron, words: str) -> None:
    own = Reminder(5, "iris", "iris", "look", schedule, ReminderState.ACTIVE, AT_MS, next_ms=AT_MS)
    plain = {"reminder": 5, "agent": "iris", "text": "look", "when": words, "next": AT}
    assert shown(own) == plain
    others = Reminder(
        5, "iris", "hm1nd", "look", schedule, ReminderState.ENDED, AT_MS, "true", None, AT_MS, 3, 2, 0, 1
    )
    del plain["next"]
    ended = {"set_by": "hm1nd", "last": AT, "only_if": "true", "state": "ended"}
    assert shown(ReminderPage((others,), 5)) == {
        "reminders": [plain | ended | {"attempted": 3, "delivered": 2, "skipped": 1}],
        "before": 5,
    }


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_words_of_others_stay_inside_their_string(body: str) -> None:
    answer = shown(Received((message(body=body),)))
    assert isinstance(answer, dict)
    assert answer["messages"][0]["body"] == body


@given(st.integers(0, 2**45))
def test_times_are_iso_to_the_second(at_ms: int) -> None:
    text = iso(at_ms)
    assert text is not None
    assert len(text) == len(AT)
    assert text.endswith("Z")
