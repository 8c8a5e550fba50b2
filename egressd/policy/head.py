"""The head of an HTTP/1.1 request, read strictly: a request line, headers, an empty line.

Whatever the bytes are, the answer is a Head, or a Target for a CONNECT, or a BadHead, nothing else. Lines end in CR LF
only, no header is folded, no name is followed by a space: what two readers could read differently is refused.
HTTP/1.0 is taken for CONNECT as well: Python's own client opens its tunnels with it.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from egressd.policy.target import NotATarget, Target, parse_target
from protocol.problem import Problem

HEAD_BYTES_MAX: Final = 8 * 1024
HEADERS_MAX: Final = 64
AUTHORITY_CHARS_SHOWN: Final = 80
"""Of what somebody wrote instead of a host and a port."""

_END: Final = b"\r\n\r\n"
_BARE_BREAK: Final = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n")
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_REQUEST_LINE: Final = re.compile(rb"\A(" + _TOKEN + rb"{1,32}) (\S{1,4096}) HTTP/([0-9]\.[0-9])\Z")
_HEADER: Final = re.compile(rb"\A(" + _TOKEN + rb"{1,256}):([\t\x20-\x7e\x80-\xff]*)\Z")
_VERSIONS: Final = frozenset({"1.0", "1.1"})

Headers = tuple[tuple[bytes, bytes], ...]
"""Names in lower case, values without the white space around them."""


class BadHead(Exception):
    """A request that is refused for its form: the HTTP status, our problem code and one line for a person.

    `authority` is what stood in a host's place, if anything did.
    """

    def __init__(self, status: int, problem: Problem, reason: str, *, authority: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.problem = problem
        self.reason = reason
        self.authority = authority


@dataclass(frozen=True)
class Head:
    """One request's head, taken apart."""

    method: str
    target: str
    version: str
    headers: Headers

    def values(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.headers if each == name]


class HeadReader:
    """Collects bytes until the head is whole. What came after it is `rest`: the first bytes of what follows."""

    def __init__(self, bytes_max: int = HEAD_BYTES_MAX) -> None:
        self.rest = b""
        self._bytes_max = bytes_max
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, untrusted: bytes | bytearray) -> bytes | None:
        """The whole head without its last line break, or None while it is not complete. Raises BadHead."""
        self._buffer += untrusted
        end = self._buffer.find(_END, max(0, self._searched - len(_END) + 1))
        head = self._buffer if end < 0 else self._buffer[: end + len(_END)]
        if len(head) > self._bytes_max:
            raise BadHead(431, Problem.MALFORMED, f"the request head is longer than {self._bytes_max} bytes")
        if _BARE_BREAK.search(head, max(0, self._searched - 1)):
            raise bad_request("lines end in CR LF")
        self._searched = len(self._buffer)
        if end < 0:
            return None
        self.rest = bytes(self._buffer[end + len(_END) :])
        return bytes(head[: -len(_END)])


def bad_request(reason: str, status: int = HTTPStatus.BAD_REQUEST) -> BadHead:
    return BadHead(status, Problem.MALFORMED, reason)


def parse_head(untrusted_head: bytes, *, form: str = "METHOD /path HTTP/1.1") -> Head:
    """Take a head apart. Raises BadHead; `form` is what its first line should have been."""
    request_line, *lines = untrusted_head.split(b"\r\n")
    found = _REQUEST_LINE.search(request_line)
    if found is None:
        raise bad_request(f"the first line is not: {form}")
    method, target, version = (word.decode("latin-1") for word in found.groups())
    if len(lines) > HEADERS_MAX:
        raise bad_request(f"more than {HEADERS_MAX} headers", 431)
    return Head(method, target, version, tuple(_header(line) for line in lines))


def _header(line: bytes) -> tuple[bytes, bytes]:
    found = _HEADER.search(line)
    if found is None:
        raise bad_request("a header line is not: name: value")
    return found.group(1).lower(), found.group(2).strip(b" \t")


def parse_connect(untrusted_head: bytes) -> Target:
    """Where a head asks to be connected to. Raises BadHead for everything that is not a plain CONNECT."""
    head = parse_head(untrusted_head, form="CONNECT host:port HTTP/1.1")
    if head.method != "CONNECT":
        raise bad_request(f"only CONNECT host:port is offered here, not {head.method}", 405)
    if head.version not in _VERSIONS:
        raise bad_request("only HTTP/1.1 is spoken here")
    if head.values(b"transfer-encoding") or any(value != b"0" for value in head.values(b"content-length")):
        raise bad_request("a CONNECT request has no body")
    try:
        return parse_target(head.target)
    except NotATarget as fault:
        shown = head.target[:AUTHORITY_CHARS_SHOWN]
        raise BadHead(HTTPStatus.BAD_REQUEST, Problem.MALFORMED, str(fault), authority=shown) from None
