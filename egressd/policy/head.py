"""The head of an HTTP request as far as egressd speaks HTTP: `CONNECT host:port HTTP/1.1`, headers, an empty line.

Whatever the bytes are, the answer is a Target or a BadHead, nothing else. Lines end in CR LF only; no header may
promise a body. HTTP/1.0 is taken as well: Python's own client opens its tunnels with it.
"""

import re
from typing import Final

from egressd.policy.target import NotATarget, Target, parse_target
from protocol.problem import Problem

HEAD_BYTES_MAX: Final = 8 * 1024
HEADERS_MAX: Final = 64

_END: Final = b"\r\n\r\n"
_BARE_BREAK: Final = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n")
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_REQUEST_LINE: Final = re.compile(rb"\A(" + _TOKEN + rb"{1,32}) (\S{1,4096}) HTTP/([0-9])\.([0-9])\Z")
_HEADER: Final = re.compile(rb"\A(" + _TOKEN + rb"{1,256}):([\t\x20-\x7e\x80-\xff]*)\Z")
_VERSIONS: Final = frozenset({(b"1", b"0"), (b"1", b"1")})


class BadHead(Exception):
    """A request that is refused for its form: the HTTP status, our problem code and one line for a person."""

    def __init__(self, status: int, problem: Problem, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.problem = problem
        self.reason = reason


class HeadReader:
    """Collects bytes until the head is whole. What came after it is `rest`: the first bytes for the tunnel."""

    def __init__(self) -> None:
        self.rest = b""
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, untrusted: bytes | bytearray) -> bytes | None:
        """The whole head without its last line break, or None while it is not complete. Raises BadHead."""
        self._buffer += untrusted
        end = self._buffer.find(_END, max(0, self._searched - len(_END) + 1))
        head = self._buffer if end < 0 else self._buffer[: end + len(_END)]
        if len(head) > HEAD_BYTES_MAX:
            raise BadHead(431, Problem.MALFORMED, f"the request head is longer than {HEAD_BYTES_MAX} bytes")
        if _BARE_BREAK.search(head, max(0, self._searched - 1)):
            raise BadHead(400, Problem.MALFORMED, "lines end in CR LF")
        self._searched = len(self._buffer)
        if end < 0:
            return None
        self.rest = bytes(self._buffer[end + len(_END) :])
        return bytes(head[: -len(_END)])


def parse_connect(untrusted_head: bytes) -> Target:
    """Where a head asks to be connected to. Raises BadHead for everything that is not a plain CONNECT."""
    request_line, *header_lines = untrusted_head.split(b"\r\n")
    found = _REQUEST_LINE.search(request_line)
    if found is None:
        raise BadHead(400, Problem.MALFORMED, "the first line is not: CONNECT host:port HTTP/1.1")
    method, authority, *version = found.groups()
    if method != b"CONNECT":
        raise BadHead(
            405, Problem.MALFORMED, f"only CONNECT host:port is offered here, not {method.decode('ascii')}"
        )
    if tuple(version) not in _VERSIONS:
        raise BadHead(400, Problem.MALFORMED, "only HTTP/1.1 is spoken here")
    _check_headers(header_lines)
    try:
        return parse_target(authority.decode("latin-1"))
    except NotATarget as fault:
        raise BadHead(400, Problem.MALFORMED, str(fault)) from None


def _check_headers(lines: list[bytes]) -> None:
    if len(lines) > HEADERS_MAX:
        raise BadHead(431, Problem.MALFORMED, f"more than {HEADERS_MAX} headers")
    for line in lines:
        found = _HEADER.search(line)
        if found is None:
            raise BadHead(400, Problem.MALFORMED, "a header line is not: name: value")
        name, value = found.group(1).lower(), found.group(2).strip(b" \t")
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            raise BadHead(400, Problem.MALFORMED, "a CONNECT request has no body")
