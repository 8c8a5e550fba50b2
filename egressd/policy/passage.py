"""What the model socket passes on: which requests, which of their headers, and which headers of a reply.

A request is read more strictly than HTTP asks: one framing, one spelling, nothing folded. So what egressd checked is
what the API reads, and nobody can hide a second request in the first. Headers are passed on by name; what is not named
here stays behind, every credential with it.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from egressd.policy.head import BadHead, Head, Headers, bad_request
from protocol.problem import Problem

MODEL_HEAD_BYTES_MAX: Final = 32 * 1024
BODY_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of one request; the API takes no more either."""

_QUERY: Final = r"(?:\?[A-Za-z0-9_.~=&%,-]{0,512})?"
_MODEL_ID: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
PASSED_ON: Final = (
    ("POST", re.compile(rf"\A/v1/messages{_QUERY}\Z")),
    ("POST", re.compile(rf"\A/v1/messages/count_tokens{_QUERY}\Z")),
    ("GET", re.compile(rf"\A/v1/models(?:/{_MODEL_ID})?{_QUERY}\Z")),
)
OFFERED: Final = "POST /v1/messages, POST /v1/messages/count_tokens, GET /v1/models"
TARGET_CHARS_SHOWN: Final = 80

_LENGTH: Final = re.compile(rb"\A[0-9]{1,12}\Z")
_NAMES: Final = frozenset({b"accept", b"content-type", b"user-agent", b"x-app", b"idempotency-key"})
_FAMILIES: Final = (b"anthropic-", b"x-stainless-", b"x-claude-code-")
_CREDENTIAL: Final = re.compile(rb"api-?key|auth|token|secret|cookie|credential")
"""In a header's name, whatever its family."""
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_KEPT_BACK: Final = frozenset(
    {b"set-cookie", b"set-cookie2", b"alt-svc", b"proxy-authenticate", b"www-authenticate"}
)
"""Of a reply: what would make the agent's programs hold or ask for a credential, or go elsewhere."""


class NotOffered(Exception):
    """A well-formed request that the model socket does not pass on; one line for whoever asked."""


@dataclass(frozen=True)
class Passage:
    """A request as it goes on to the API, but for its credential and its host."""

    method: str
    target: str
    headers: Headers
    length: int | None
    """Bytes of the body; None when they come in chunks."""


def passage_of(head: Head) -> Passage:
    """What becomes of a request. Raises BadHead for its form and NotOffered for what it asks."""
    _check_form(head)
    length = _length_of(head)
    if not any(method == head.method and target.search(head.target) for method, target in PASSED_ON):
        shown = head.target[:TARGET_CHARS_SHOWN]
        raise NotOffered(f"{head.method} {shown} is not passed on, only {OFFERED}")
    if head.method == "GET" and length != 0:
        raise bad_request("a GET request has no body here")
    headers = tuple((name, value) for name, value in head.headers if _goes_on(name))
    return Passage(head.method, head.target, headers, length)


def _check_form(head: Head) -> None:
    if head.version != "1.1":
        raise bad_request("only HTTP/1.1 is spoken here")
    if len(head.values(b"host")) != 1:
        raise bad_request("a request has one Host header")
    if not head.target.startswith("/") or head.target.startswith("//"):
        raise BadHead(
            HTTPStatus.BAD_REQUEST,
            Problem.MALFORMED,
            "the target is a path that begins with one /",
            authority=head.target[:TARGET_CHARS_SHOWN],
        )
    if head.values(b"upgrade") or head.values(b"http2-settings") or "upgrade" in _connection(head):
        raise bad_request("no other protocol is spoken here")
    if head.values(b"expect"):
        raise bad_request("send the body at once, without Expect", HTTPStatus.EXPECTATION_FAILED)


def _length_of(head: Head) -> int | None:
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise bad_request("a request has one Content-Length or one Transfer-Encoding")
    if codings:
        if codings[0].lower() != b"chunked":
            raise bad_request("the only transfer coding taken here is chunked")
        return None
    if not lengths:
        return 0
    if not _LENGTH.search(lengths[0]):
        raise bad_request("the Content-Length is not a number")
    length = int(lengths[0])
    if length > BODY_BYTES_MAX:
        raise too_large()
    return length


def too_large() -> BadHead:
    return bad_request(f"a request has at most {BODY_BYTES_MAX} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def _connection(head: Head) -> set[str]:
    values = b",".join(head.values(b"connection")).decode("latin-1")
    return {word.strip().lower() for word in values.split(",")}


def _goes_on(name: bytes) -> bool:
    known = name in _NAMES or name.startswith(_FAMILIES)
    return known and not _CREDENTIAL.search(name)


def reply_headers(headers: Headers) -> Headers:
    """What the agent is shown of a reply's headers; their framing is made anew. Names come in lower case."""
    named = {
        word.strip().lower() for name, value in headers if name == b"connection" for word in value.split(b",")
    }
    dropped = _HOP_BY_HOP | _KEPT_BACK | named
    return tuple((name, value) for name, value in headers if name not in dropped)
