"""What the demo agent can do, one after the other, and what it hears of it. Values only."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

QUOTE_CHARS_MAX: Final = 500


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
    """Remember that what comes of `what` (`message 40`, `question 7`) is awaited by `asker`, who asked in `message`."""

    what: str
    asker: str
    message: int


@dataclass(frozen=True)
class Settle:
    """What came of `what` was passed on."""

    what: str


@dataclass(frozen=True)
class Debt:
    """Who waits for something, and in which message they asked."""

    asker: str
    message: int


@dataclass(frozen=True)
class Answered:
    """A tool's answer."""

    value: Any
    fault: str = ""


Action = Say | Call | Rest | Note | Owe | Settle
Mind = Generator[Action, Answered | None, None]


def reply(to: str, message: int, text: str) -> Mind:
    """Answer a message."""
    fault = fault_of((yield Call("send", {"to": to, "body": text, "in_reply_to": message})))
    if fault:
        yield Say(f"My answer to {to} did not go out: {fault}")


def fault_of(answered: Answered | None) -> str:
    """Why a call did not work; empty when it did."""
    return "no answer" if answered is None else answered.fault


def quoted(text: str) -> str:
    shown = text.strip()
    return f"“{shown[:QUOTE_CHARS_MAX]}{'…' if len(shown) > QUOTE_CHARS_MAX else ''}”"
