"""The demo agent's mind: what it does with every message, and that two of them never keep each other busy."""

import re
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.demo.actions import Answered, Call, Debt, Note, Owe, Rest, Say, Settle
from harness.demo.mind import respond
from harness.demo.words import COUNT_MAX, HELP_TEXT, WORDS
from harness.wake import Woken
from protocol.messages import SystemEvent


def woken(body: str, **changes: Any) -> Woken:
    values: dict[str, Any] = {
        "message": 12,
        "thread": 9,
        "sender": "operator",
        "to": "iris",
        "broadcast": False,
        "in_reply_to": None,
        "body": body,
    }
    return Woken(**(values | changes))


def actions(
    message: Woken, debts: dict[str, Debt] | None = None, *, fault: str = "", value: Any = None
) -> list[Any]:
    """All actions after the introduction; every tool call works, with *value*, or fails with *fault*."""
    given = {"message": 40, "question": 41, "reminder": 42, "next": "soon"} if value is None else value
    mind = respond(message, "iris", debts or {})
    done: list[Any] = []
    answered: Answered | None = None
    while True:
        try:
            action = mind.send(answered)
        except StopIteration:
            return done[1:]
        done.append(action)
        answered = Answered(given, fault) if isinstance(action, Call) else None


def send(to: str, body: str, in_reply_to: int | None = None) -> Call:
    given = {"to": to, "body": body} | ({} if in_reply_to is None else {"in_reply_to": in_reply_to})
    return Call("send", given)


@pytest.mark.parametrize(
    ("body", "to", "text"),
    [
        ("tell atlas hello", "atlas", "hello"),
        ("Tell atlas: two\nlines", "atlas", "two\nlines"),
        ("tell * lunch", "*", "lunch"),
    ],
)
def test_relay(body: str, to: str, text: str) -> None:
    relayed, owed, said = actions(woken(body))
    assert relayed == send(to, text)
    assert owed == Owe("message 40", "operator", 12)
    assert isinstance(said, Say)


def test_a_relay_that_fails_is_told() -> None:
    tried, told, _ = actions(woken("tell atlas hello"), fault="denied: no")
    assert tried == send("atlas", "hello")
    assert told == send("operator", "I could not pass that on to atlas: denied: no", 12)


def test_the_answer_goes_to_whoever_asked() -> None:
    debts = {"message 40": Debt("operator", 12)}
    passed, settled = actions(woken("fine", sender="atlas", in_reply_to=40, message=50), debts)
    assert passed == send("operator", "atlas answers: fine", 12)
    assert settled == Settle("message 40")


@pytest.mark.parametrize(
    "message",
    [
        woken("an answer", sender="atlas", in_reply_to=3),
        woken("tell atlas hello", sender="atlas", in_reply_to=3),
        woken("hello all", sender="atlas", broadcast=True, to="*"),
        woken("hello all", broadcast=True, to="*"),
        woken("rebuilt", sender="system"),
        woken("late", sender="system", event=SystemEvent.EXPIRED, about=3),
        woken("look", sender="iris", event=SystemEvent.REMINDER, about=3),
        woken("rebuilt", sender="system", event=SystemEvent.REBUILT),
    ],
)
def test_what_needs_no_answer_gets_none(message: Woken) -> None:
    assert all(isinstance(action, Say) for action in actions(message))


def test_the_operator_is_always_answered() -> None:
    assert isinstance(actions(woken("and now?", in_reply_to=3))[0], Call)


def test_counting_is_slow_and_bounded() -> None:
    *counted, told = actions(woken("count to 999999"))
    assert len(counted) == 2 * COUNT_MAX
    assert sum(action.seconds for action in counted if isinstance(action, Rest)) < 60
    assert told == send("operator", f"I counted to {COUNT_MAX}. I stop at {COUNT_MAX}.", 12)


def test_remembering() -> None:
    noted, told = actions(woken("remember  the milk "))
    assert noted == Note("the milk")
    assert told == send("operator", "I wrote that into my notes.", 12)


def test_a_status_is_one_short_line() -> None:
    called, _ = actions(woken("status " + "sweep\n" * 200))
    assert len(called.arguments["text"]) == 200
    assert "\n" not in called.arguments["text"]


@pytest.mark.parametrize(
    ("body", "text", "options", "multi"),
    [
        ("question which one?", "which one?", [], False),
        ("Question which one? [ red | light blue ]", "which one?", ["red", "light blue"], False),
        ("question two\nlines [a&b & c]", "two\nlines", ["a", "b", "c"], True),
    ],
)
def test_a_question_is_put_to_whoever_wants_one(
    body: str, text: str, options: list[str], multi: bool
) -> None:
    asked, said = actions(woken(body, sender="atlas"))
    assert asked == Call("ask", {"question": text, "options": options, "multi": multi, "to": "atlas"})
    assert isinstance(said, Say)


def test_an_answer_to_a_question_is_shown_and_answered_no_more() -> None:
    said, shown = actions(woken("red\nlight", event=SystemEvent.ANSWERED, about=3, in_reply_to=12))
    assert isinstance(said, Say)
    assert shown == Call("set_status", {"text": "answered: red light"})


@pytest.mark.parametrize(
    ("body", "given"),
    [
        ("ask atlas how are you?", {"question": "how are you?", "options": [], "multi": False}),
        ("  ASK atlas, tea? [yes|no] ", {"question": "tea?", "options": ["yes", "no"], "multi": False}),
        ("ask atlas which? [a & b]", {"question": "which?", "options": ["a", "b"], "multi": True}),
    ],
)
def test_a_question_to_another_is_asked_and_its_answer_passed_on(body: str, given: dict[str, Any]) -> None:
    asked, owed, said = actions(woken(body))
    assert asked == Call("ask", given | {"to": "atlas"})
    assert owed == Owe("question 41", "operator", 12)
    assert isinstance(said, Say)
    debts = {"question 41": Debt("operator", 12)}
    for quoted in ("fine", "You asked atlas (question 41):\n> how\n> are you?\n\nfine"):
        heard = woken(quoted, sender="atlas", event=SystemEvent.ANSWERED, about=41, message=50)
        assert actions(heard, debts) == [send("operator", "atlas answers: fine", 12), Settle("question 41")]
    late = woken("expired: atlas did not answer", sender="system", event=SystemEvent.EXPIRED, about=41)
    assert actions(late, debts)[0] == send("operator", "expired: atlas did not answer", 12)


def test_a_question_that_cannot_be_asked_is_told() -> None:
    tried, told, *_ = actions(woken("ask atlas why?"), fault="denied: no")
    assert tried.tool == "ask"
    assert told == send("operator", "I could not ask atlas: denied: no", 12)


def test_a_question_is_answered_by_its_first_option_or_in_words() -> None:
    asked = woken("red?", sender="atlas", event=SystemEvent.QUESTION, about=3)
    matters = {"threads": [], "questions": [{"question": 2}, {"question": 3, "options": ["red", "blue"]}]}
    looked, answered = actions(asked, value=matters)
    assert looked == Call("open_threads", {})
    assert answered == Call("answer", {"question": 3, "choices": ["red"]})
    _, in_words = actions(asked, value={"threads": [], "questions": [{"question": 3}]})
    assert "demo agent without a model" in in_words.arguments["answer"]
    _, gone = actions(asked, value={"threads": [], "questions": []})
    assert gone == Say("Question 3 does not wait for me any more.")


@pytest.mark.parametrize(
    ("body", "given"),
    [
        ("remind in 5 look", {"text": "look", "in_s": 5}),
        ("Remind me in 90 seconds: tea", {"text": "tea", "in_s": 90}),
        ("remind every 60s sweep\nthe floor", {"text": "sweep\nthe floor", "every_s": 60}),
    ],
)
def test_a_reminder_is_set_and_passed_on_when_it_is_due(body: str, given: dict[str, Any]) -> None:
    called, owed, said = actions(woken(body))
    assert called == Call("remind", given)
    assert owed == Owe("reminder 42", "operator", 12)
    assert said == Say("Reminder 42 is set, next at soon.")
    due = woken("look", sender="iris", event=SystemEvent.REMINDER, about=42, message=60)
    debts = {"reminder 42": Debt("operator", 12)}
    assert actions(due, debts) == [send("operator", "You wanted to be reminded: look", 12)]


def test_reminders_are_listed_and_forgotten() -> None:
    page = {"reminders": [{"reminder": 5, "when": "every 60 s", "next": "soon", "text": "sweep"}]}
    listed, told = actions(woken("reminders"), value=page)
    assert listed == Call("list_reminders", {})
    assert told == send("operator", "5: every 60 s, next at soon: sweep", 12)
    assert (
        actions(woken("reminders"), value={"reminders": []})[1].arguments["body"] == "I have set no reminder."
    )
    cancelled, told = actions(woken("forget 5"))
    assert cancelled == Call("cancel_reminder", {"reminder": 5})
    assert told == send("operator", "Reminder 5 is cancelled.", 12)


def test_what_is_open_is_told() -> None:
    matters = {
        "threads": [{"thread": 4, "with": "atlas", "waits_for": "iris", "text": "well?"}],
        "questions": [{"question": 3, "from": "iris", "to": "operator", "text": "may I?"}],
    }
    _, told = actions(woken("open"), value=matters)
    assert told.arguments["body"] == (
        "thread 4 with atlas waits for iris: well?\nquestion 3 from iris to operator: may I?"
    )


def test_the_reference_has_what_help_has() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/demo.md").read_text()
    documented = re.findall(r"^\| `(\w+)", page, re.MULTILINE)
    assert documented == [line.split()[0] for line in HELP_TEXT.splitlines()[1:]]


def test_help_names_every_word() -> None:
    named = {line.split()[0] for line in HELP_TEXT.splitlines()[1:]}
    assert len(named) == len(WORDS)
    for word in named:
        assert any(pattern.pattern.startswith(word) for pattern, _ in WORDS), word


texts = (
    st.text(max_size=80)
    | st.sampled_from(["help", "who", "count to 2", "status x", "remind in 5 x", "reminders", "open"])
    | st.builds(
        "{} {} {}".format,
        st.sampled_from(["tell", "ask"]),
        st.sampled_from(["a", "b", "c", "*"]),
        st.text(min_size=1),
    )
)


class Hive:
    """Three demo minds and what is between them."""

    def __init__(self) -> None:
        self.inboxes: dict[str, deque[Woken]] = {name: deque() for name in "abc"}
        self.debts: dict[str, dict[str, Debt]] = {name: {} for name in "abc"}
        self.questions: dict[int, dict[str, Any]] = {}
        self.sent = 0

    def deliver(self, sender: str, given: dict[str, Any]) -> Answered:
        self.sent += 1
        to = given["to"]
        message = woken(
            given["body"],
            message=self.sent,
            sender=sender,
            to=to,
            broadcast=to == "*",
            in_reply_to=given.get("in_reply_to"),
        )
        for name, inbox in self.inboxes.items():
            if name == to or (to == "*" and name != sender):
                inbox.append(message)
        return Answered({"message": self.sent})

    def turn(self, name: str) -> None:
        mind = respond(self.inboxes[name].popleft(), name, self.debts[name])
        action = next(mind, None)
        while action is not None:
            try:
                action = mind.send(self.do(name, action))
            except StopIteration:
                action = None

    def do(self, name: str, action: Any) -> Answered | None:
        match action:
            case Call("send", given):
                return self.deliver(name, given)
            case Call("ask", given):
                return self.ask(name, given)
            case Call("answer", given):
                return self.answer(name, given)
            case Call("open_threads"):
                return Answered({"threads": [], "questions": list(self.questions.values())})
            case Call("list_agents"):
                return Answered([])
            case Call():
                return Answered({"reminder": 1, "reminders": []})
            case Owe(what, asker, message):
                self.debts[name][what] = Debt(asker, message)
            case Settle(what):
                del self.debts[name][what]
        return None

    def ask(self, asker: str, given: dict[str, Any]) -> Answered:
        self.sent += 1
        asked = {"question": self.sent, "from": asker, "to": given["to"], "text": given["question"]}
        self.questions[self.sent] = asked
        if given["to"] in self.inboxes:
            told = woken(given["question"], message=self.sent, sender=asker, to=given["to"])
            told = msgspec.structs.replace(told, event=SystemEvent.QUESTION, about=self.sent)
            self.inboxes[given["to"]].append(told)
        return Answered({"question": self.sent})

    def answer(self, name: str, given: dict[str, Any]) -> Answered:
        self.sent += 1
        asker = self.questions.pop(given["question"])["from"]
        told = woken(given["answer"], message=self.sent, sender=name, to=asker)
        self.inboxes[asker].append(
            msgspec.structs.replace(told, event=SystemEvent.ANSWERED, about=given["question"])
        )
        return Answered({"question": given["question"]})


@given(st.lists(st.tuples(st.sampled_from("abc"), texts), min_size=1, max_size=4))
def test_a_hive_of_demos_falls_silent(orders: list[tuple[str, str]]) -> None:
    """Whatever the operator writes, every order leads to a bounded number of messages."""
    hive = Hive()
    for name, body in orders:
        hive.deliver("operator", {"to": name, "body": body or "x"})
    while waiting := [name for name, inbox in hive.inboxes.items() if inbox]:
        hive.turn(waiting[0])
        assert hive.sent <= 20 * len(orders)
