"""What the demo agent does with a message. Pure: a generator that yields actions and is sent the tools' answers.

It is no model and says so. It answers each message once, and never an answer: two demos cannot keep each other busy.
"""

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

from harness.wake import Woken
from protocol.messages import SystemEvent
from protocol.names import OPERATOR, SYSTEM

COUNT_MAX: Final = 100
COUNT_PAUSE_S: Final = 0.25
QUOTE_CHARS_MAX: Final = 500
STATUS_CHARS_MAX: Final = 200

RELAY: Final = re.compile(r"(?:tell|ask)\s+(\*|[a-z][a-z0-9]{0,8})\s*[,:]?\s+(.+)", re.IGNORECASE | re.DOTALL)
STATUS: Final = re.compile(r"status\s+(.+)", re.IGNORECASE | re.DOTALL)
REMEMBER: Final = re.compile(r"remember\s+(.+)", re.IGNORECASE | re.DOTALL)
QUESTION: Final = re.compile(r"question\s+([^\[\]]+?)\s*(?:\[([^\[\]]+)\]\s*)?", re.IGNORECASE | re.DOTALL)
COUNT: Final = re.compile(r"count\s+to\s+(\d{1,6})\W*", re.IGNORECASE)
WHO: Final = re.compile(r"who\W*", re.IGNORECASE)
HELP: Final = re.compile(r"help\W*", re.IGNORECASE)

HELP_TEXT: Final = (
    "I am {name}, a demo agent: no model is behind me. I understand:\n"
    "  tell|ask <agent> <text>   I pass the text on, and the answer back to you\n"
    "  who                       who is in the hive\n"
    "  status <text>             I show that beside my name\n"
    "  remember <text>           I write it into my notes\n"
    "  question <text> [a | b]   I ask you that, to choose one; with [a & b] to choose any; without, in words\n"
    "  count to <n>              I count, slowly, so that you can watch or cancel me\n"
    "  help                      this list"
)


@dataclass(frozen=True)
class Say:
    """Words for the record of the turn."""

    text: str


@dataclass(frozen=True)
class Call:
    """A tool call; its answer is sent back into the generator."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Rest:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True)
class Note:
    """Append a line to the notes."""

    text: str


@dataclass(frozen=True)
class Owe:
    """Remember that the answer to `sent` is awaited by `asker`, who asked in `message`."""

    sent: int
    asker: str
    message: int


@dataclass(frozen=True)
class Settle:
    """The answer to `sent` was passed on."""

    sent: int


@dataclass(frozen=True)
class Debt:
    """Who waits for an answer, and in which message they asked."""

    asker: str
    message: int


@dataclass(frozen=True)
class Answered:
    """A tool's answer."""

    value: Any
    fault: str = ""


Action = Say | Call | Rest | Note | Owe | Settle
Mind = Generator[Action, Answered | None, None]


def respond(woken: Woken, name: str, debts: dict[int, Debt]) -> Mind:
    """Everything the demo agent *name* does in the turn that *woken* began."""
    yield Say(f"I am {name}, a demo agent; no model is behind me. {woken.sender} wrote: {quoted(woken.body)}")
    debt = debts.get(woken.in_reply_to) if woken.in_reply_to is not None else None
    if debt is not None and woken.in_reply_to is not None:
        yield from reply(debt.asker, debt.message, f"{woken.sender} answers: {woken.body}")
        yield Settle(woken.in_reply_to)
    elif woken.event is SystemEvent.ANSWERED:
        yield from thank(woken)
    elif woken.event is SystemEvent.QUESTION:
        yield Say("That is a question; without a model I have nothing to choose by, so I leave it open.")
    elif woken.sender == SYSTEM:
        yield Say("The hive needs no answer.")
    elif woken.broadcast:
        yield Say("That was a broadcast; I leave it unanswered.")
    elif woken.in_reply_to is not None and woken.sender != OPERATOR:
        yield Say("That is an answer; I do not answer answers.")
    else:
        yield from obey(woken, name)


def obey(woken: Woken, name: str) -> Mind:
    """Do what a message asks and answer it, once."""
    body = woken.body.strip()
    if found := RELAY.fullmatch(body):
        yield from relay(woken, found[1].lower(), found[2])
    elif found := COUNT.fullmatch(body):
        yield from count(woken, int(found[1]))
    elif found := STATUS.fullmatch(body):
        status = " ".join(found[1].split())[:STATUS_CHARS_MAX]
        answered = yield Call("set_status", {"text": status})
        fault = answered.fault if answered else ""
        yield from answer(woken, fault or f"My status is now: {status}")
    elif found := REMEMBER.fullmatch(body):
        yield Note(found[1].strip())
        yield from answer(woken, "I wrote that into my notes.")
    elif found := QUESTION.fullmatch(body):
        yield from ask(woken, found[1], found[2] or "")
    elif WHO.fullmatch(body):
        answered = yield Call("list_agents", {})
        yield from answer(woken, who(answered))
    elif HELP.fullmatch(body):
        yield from answer(woken, HELP_TEXT.format(name=name))
    else:
        yield from answer(
            woken,
            f"Thank you, {woken.sender}. I am {name}, a demo agent without a model, so all I can do with "
            f"{quoted(woken.body)} is quote it. Write “help” to see what I understand.",
        )


def relay(woken: Woken, to: str, text: str) -> Mind:
    """Pass a text on; the answer, when it comes, wakes us again."""
    answered = yield Call("send", {"to": to, "body": text})
    if answered is None or answered.fault:
        yield from answer(
            woken, f"I could not pass that on to {to}: {answered.fault if answered else 'no answer'}"
        )
        return
    yield Owe(int(answered.value["message"]), woken.sender, woken.message)
    yield Say(f"I passed it on to {to} and tell {woken.sender} when an answer comes.")


def ask(woken: Woken, text: str, choices: str) -> Mind:
    """Put a question to whoever wants to be asked; the answer, when it comes, wakes us again."""
    multi = "&" in choices
    options = [option.strip() for option in choices.split("&" if multi else "|") if option.strip()]
    asked = {"question": text, "options": options, "multi": multi, "to": woken.sender}
    answered = yield Call("ask", asked)
    if answered is None or answered.fault:
        yield from answer(woken, f"I could not ask that: {answered.fault if answered else 'no answer'}")
    else:
        yield Say(f"I asked {woken.sender}, who may answer when they like.")


def thank(woken: Woken) -> Mind:
    """Show an answer beside our name."""
    yield Say(f"Question {woken.about} was answered: {quoted(woken.body)}")
    yield Call("set_status", {"text": f"answered: {' '.join(woken.body.split())}"[:STATUS_CHARS_MAX]})


def count(woken: Woken, number: int) -> Mind:
    last = min(number, COUNT_MAX)
    for each in range(1, last + 1):
        yield Say(str(each))
        yield Rest(COUNT_PAUSE_S)
    more = f" I stop at {COUNT_MAX}." if number > COUNT_MAX else ""
    yield from answer(woken, f"I counted to {last}.{more}")


def answer(woken: Woken, text: str) -> Mind:
    yield from reply(woken.sender, woken.message, text)


def reply(to: str, message: int, text: str) -> Mind:
    answered = yield Call("send", {"to": to, "body": text, "in_reply_to": message})
    if answered is not None and answered.fault:
        yield Say(f"My answer to {to} did not go out: {answered.fault}")


def who(answered: Answered | None) -> str:
    if answered is None or answered.fault:
        return f"I could not ask: {answered.fault if answered else 'no answer'}"
    lines = [
        f"{card['name']} ({card['role']}): {card['state']}"
        + (f", {card['status']}" if card.get("status") else "")
        for card in answered.value
    ]
    return "In the hive are:\n" + "\n".join(lines) if lines else "Nobody else is in the hive."


def quoted(text: str) -> str:
    shown = text.strip()
    return f"“{shown[:QUOTE_CHARS_MAX]}{'…' if len(shown) > QUOTE_CHARS_MAX else ''}”"
