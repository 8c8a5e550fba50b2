"""What goes back to a browser: a whole answer, or a feed that goes on until one side leaves."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from webd.policy.guard import Head, Turned
from webd.policy.refusals import problem_of

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
HTML: Final = "text/html; charset=utf-8"
EVENTS: Final = "text/event-stream"
BINARY: Final = "application/octet-stream"

Headers = tuple[tuple[str, str], ...]

Send = Callable[[bytes], Awaitable[None]]
"""Writes to the browser. Raises Gone when it does not take the bytes."""

Feed = Callable[[Send], Awaitable[None]]
"""Writes an answer of unknown length; cancelled when the browser leaves."""

ReadBody = Callable[[], Awaitable[bytes]]
"""Reads the request's body, within the bounds. Raises BodyFault."""

_encoder = msgspec.json.Encoder()


class Gone(Exception):
    """The browser left, or stopped reading."""


class BodyFault(Exception):
    """A body that does not come, or not in time: the status and the reason for the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Asked:
    """One request: its head, and how to read its body."""

    head: Head
    body: ReadBody


@dataclass(frozen=True)
class Answer:
    """A status, headers (without length and connection, which the connection adds) and what follows."""

    status: int
    body: bytes | Feed = b""
    kind: str | None = None
    headers: Headers = ()
    ends_connection: bool = False


Site = Callable[[Asked], Awaitable[Answer]]
"""Answers one request. Never raises for what a browser did."""

TurnAway = Callable[[Head | None, Turned], Answer]
"""How a refusal at the door is written; without a head when not even that was readable."""


def as_json(value: Any, status: int = 200, *, headers: Headers = ()) -> Answer:
    return Answer(status, _encoder.encode(value), JSON, headers)


def redirect(status: int, location: str) -> Answer:
    return Answer(status, kind=None, headers=(("location", location),))


def too_often(wait_s: float) -> Answer:
    """A no that time will mend."""
    seconds = str(int(wait_s) + 1)
    said = {"problem": problem_of(429), "detail": f"too often; try again in {seconds} s"}
    return as_json(said, 429, headers=(("retry-after", seconds),))
