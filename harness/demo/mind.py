"""What the demo agent does with what wakes it. Pure: a generator that yields actions and is sent the tools' answers.

It is no model and says so. It answers each message once, and never an answer: two demos cannot keep each other busy.
Messages whose words it knows are harness.demo.words's; here is what follows from events and from what it owes.
"""

from typing import Any

from harness.demo.actions import Answered, Call, Debt, Mind, Say, Settle, fault_of, quoted, reply
from harness.demo.words import STATUS_CHARS_MAX, obey
from harness.wake import Woken
from protocol.messages import SystemEvent
from protocol.names import OPERATOR, SYSTEM


def respond(woken: Woken, name: str, debts: dict[str, Debt]) -> Mind:
    """Everything the demo agent *name* does in the turn that *woken* began."""
    yield Say(f"I am {name}, a demo agent; no model is behind me. {woken.sender} wrote: {quoted(woken.body)}")
    match woken.event:
        case SystemEvent.QUESTION:
            yield from decide(woken, name)
        case SystemEvent.ANSWERED | SystemEvent.EXPIRED:
            yield from hear(woken, debts.get(f"question {woken.about}"))
        case SystemEvent.REMINDER:
            yield from recall(woken, debts.get(f"reminder {woken.about}"))
        case _:
            yield from read(woken, name, debts)


def read(woken: Woken, name: str, debts: dict[str, Debt]) -> Mind:
    """A message: an answer that somebody waits for, a request, or nothing to be done."""
    answers = f"message {woken.in_reply_to}"
    debt = debts.get(answers)
    if debt is not None:
        yield from reply(debt.asker, debt.message, f"{woken.sender} answers: {woken.body}")
        yield Settle(answers)
    elif woken.sender == SYSTEM:
        yield Say("The hive needs no answer.")
    elif woken.broadcast:
        yield Say("That was a broadcast; I leave it unanswered.")
    elif woken.in_reply_to is not None and woken.sender != OPERATOR:
        yield Say("That is an answer; I do not answer answers.")
    else:
        yield from obey(woken, name)


def decide(woken: Woken, name: str) -> Mind:
    """Answer a question: without a model, by its first option or by quoting it."""
    matters = yield Call("open_threads", {})
    asked = question_of(matters, woken.about)
    if asked is None:
        yield Say(f"Question {woken.about} does not wait for me any more. {fault_of(matters)}".strip())
        return
    options = asked.get("options")
    words = f"I am {name}, a demo agent without a model: I take what comes first."
    given = {"choices": options[:1]} if options else {"answer": f"{words} You asked: {quoted(woken.body)}"}
    fault = fault_of((yield Call("answer", {"question": woken.about} | given)))
    if fault:
        yield Say(f"My answer was not taken: {fault}")


def question_of(matters: Answered | None, number: int | None) -> dict[str, Any] | None:
    """The question of this number among those that wait."""
    if matters is None or matters.fault:
        return None
    return next((each for each in matters.value["questions"] if each["question"] == number), None)


def hear(woken: Woken, debt: Debt | None) -> Mind:
    """An answer, or that none came: tell whoever waits for it, else show it beside our name."""
    said = unquoted(woken.body)
    if debt is not None:
        told = f"{woken.sender} answers: {said}" if woken.event is SystemEvent.ANSWERED else woken.body
        yield from reply(debt.asker, debt.message, told)
        yield Settle(f"question {woken.about}")
        return
    yield Say(f"Question {woken.about}: {quoted(woken.body)}")
    if woken.event is SystemEvent.ANSWERED:
        yield Call("set_status", {"text": f"answered: {' '.join(said.split())}"[:STATUS_CHARS_MAX]})


def recall(woken: Woken, debt: Debt | None) -> Mind:
    """A reminder is due: tell whoever wanted to be reminded; one that repeats is owed again and again."""
    if debt is None:
        yield Say(f"That was a reminder: {quoted(woken.body)}")
    else:
        yield from reply(debt.asker, debt.message, f"You wanted to be reminded: {woken.body}")


def unquoted(body: str) -> str:
    """An answer without the question that stands before it, quoted."""
    head, _, answer = body.rpartition("\n> ")
    return answer.partition("\n")[2].strip() if head else body.strip()
