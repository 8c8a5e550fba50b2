"""The demo agent's mind: what it does with every message, and that two of them never keep each other busy."""

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.demo.mind import COUNT_MAX, Answered, Call, Debt, Note, Owe, Rest, Say, Settle, respond
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


def actions(message: Woken, debts: dict[int, Debt] | None = None, *, fault: str = "") -> list[Any]:
    """All actions after the introduction; every tool call works, or fails with *fault*."""
    mind = respond(message, "iris", debts or {})
    done: list[Any] = []
    answered: Answered | None = None
    while True:
        try:
            action = mind.send(answered)
        except StopIteration:
            return done[1:]
        done.append(action)
        answered = Answered({"message": 40}, fault) if isinstance(action, Call) else None


def send(to: str, body: str, in_reply_to: int | None = None) -> Call:
    given = {"to": to, "body": body} | ({} if in_reply_to is None else {"in_reply_to": in_reply_to})
    return Call("send", given)


@pytest.mark.parametrize(
    ("body", "to", "text"),
    [
        ("tell atlas hello", "atlas", "hello"),
        ("ask atlas how are you?", "atlas", "how are you?"),
        ("Tell atlas: two\nlines", "atlas", "two\nlines"),
        ("  ASK atlas, well? ", "atlas", "well?"),
        ("tell * lunch", "*", "lunch"),
    ],
)
def test_relay(body: str, to: str, text: str) -> None:
    relayed, owed, said = actions(woken(body))
    assert relayed == send(to, text)
    assert owed == Owe(40, "operator", 12)
    assert isinstance(said, Say)


def test_a_relay_that_fails_is_told() -> None:
    tried, told, _ = actions(woken("tell atlas hello"), fault="denied: no")
    assert tried == send("atlas", "hello")
    assert told == send("operator", "I could not pass that on to atlas: denied: no", 12)


def test_the_answer_goes_to_whoever_asked() -> None:
    debts = {40: Debt("operator", 12)}
    passed, settled = actions(woken("fine", sender="atlas", in_reply_to=40, message=50), debts)
    assert passed == send("operator", "atlas answers: fine", 12)
    assert settled == Settle(40)


@pytest.mark.parametrize(
    "message",
    [
        woken("an answer", sender="atlas", in_reply_to=3),
        woken("tell atlas hello", sender="atlas", in_reply_to=3),
        woken("hello all", sender="atlas", broadcast=True, to="*"),
        woken("hello all", broadcast=True, to="*"),
        woken("rebuilt", sender="system"),
        woken("which?", sender="atlas", event=SystemEvent.QUESTION, about=3),
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


texts = (
    st.text(max_size=80)
    | st.sampled_from(["help", "who", "count to 2", "status x"])
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
        self.debts: dict[str, dict[int, Debt]] = {name: {} for name in "abc"}
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
            case Call():
                return Answered([])
            case Owe(number, asker, message):
                self.debts[name][number] = Debt(asker, message)
            case Settle(number):
                del self.debts[name][number]
        return None


@given(st.lists(st.tuples(st.sampled_from("abc"), texts), min_size=1, max_size=4))
def test_a_hive_of_demos_falls_silent(orders: list[tuple[str, str]]) -> None:
    """Whatever the operator writes, every order leads to a bounded number of messages."""
    hive = Hive()
    for name, body in orders:
        hive.deliver("operator", {"to": name, "body": body or "x"})
    while waiting := [name for name, inbox in hive.inboxes.items() if inbox]:
        hive.turn(waiting[0])
        assert hive.sent <= 20 * len(orders)
