"""egressd's own answers at a model socket, in the shape of the API's errors, so that the agent CLI shows what they say.

{"type": "error", "error": {"type": "permission_error", "message": "egress: …"}}
"""

from http import HTTPStatus
from typing import Final

import msgspec

from egressd.policy.head import Headers
from protocol.problem import Problem

OVERLOADED: Final = 529
"""The API's own status for a moment in which it cannot serve."""
KINDS: Final = {
    400: "invalid_request_error",
    403: "permission_error",
    408: "invalid_request_error",
    413: "request_too_large",
    417: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    502: "api_error",
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}
MESSAGE_CHARS_MAX: Final = 500


class Answer(msgspec.Struct, frozen=True):
    """A whole answer of egressd's own."""

    status: int
    reason: str
    headers: Headers
    body: bytes


def answer(
    status: int, problem: Problem, text: str, *, retries: bool = False, again_s: int | None = None
) -> Answer:
    """An error in the API's shape. `retries`: whether the same request may succeed soon."""
    message = f"egress: {text}".encode("ascii", "backslashreplace")[:MESSAGE_CHARS_MAX].decode("ascii")
    body = msgspec.json.encode({"type": "error", "error": {"type": KINDS[status], "message": message}})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-hive-problem", problem.value.encode()),
        (b"x-should-retry", b"true" if retries else b"false"),
    ]
    if again_s is not None:
        headers.append((b"retry-after", str(again_s).encode()))
    reason = "Overloaded" if status == OVERLOADED else HTTPStatus(status).phrase
    return Answer(status, reason, tuple(headers), body)


def on_the_wire(given: Answer) -> bytes:
    """The answer as bytes, for where no connection is kept: it ends with it."""
    lines = [f"HTTP/1.1 {given.status} {given.reason}".encode()]
    lines += [name + b": " + value for name, value in (*given.headers, (b"connection", b"close"))]
    return b"\r\n".join(lines) + b"\r\n\r\n" + given.body
