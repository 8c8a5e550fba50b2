"""Whether a request may come near the dashboard at all, from its head alone and before a byte of its body is read.

The browser is the only client, on pages that we served: whatever it never sends is refused. Host is matched exactly,
with its port, because cookies and DNS rebinding ignore ports; Origin decides every change; Sec-Fetch-Site is an extra,
because a rebound http page sends none. Paths are never decoded, so an escape in one can only be an attempt.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

BODY_BYTES_MAX: Final = 64 * 1024
HEADERS_MAX: Final = 64
HEADER_NAME_CHARS_MAX: Final = 64
HEADER_VALUE_CHARS_MAX: Final = 12 * 1024
"""Room for what other sites on the same host leave in our Cookie header; the whole head has a bound of its own."""
TARGET_CHARS_MAX: Final = 4 * 1024

READS: Final = frozenset({"GET", "HEAD"})
CHANGES: Final = frozenset({"POST"})
_ONCE: Final = (
    "host",
    "origin",
    "cookie",
    "content-type",
    "content-length",
    "sec-fetch-site",
    "last-event-id",
)
_JSON: Final = re.compile(r'\Aapplication/json(?:[ \t]*;[ \t]*charset="?utf-8"?)?\Z', re.IGNORECASE)
_ESCAPED: Final = re.compile(r"%(?:2e|2f|5c|00)", re.IGNORECASE)
_DIGITS: Final = re.compile(r"\A[0-9]{1,12}\Z")


@dataclass(frozen=True)
class Head:
    """A request as it arrived, without its body. Header names are lower case; nothing is decoded."""

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]
    address: str = ""
    _first: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        first: dict[str, str] = {}
        for name, value in self.headers:
            first.setdefault(name, value)
        object.__setattr__(self, "_first", first)

    def header(self, name: str) -> str | None:
        return self._first.get(name)

    def count(self, name: str) -> int:
        return sum(1 for given, _ in self.headers if given == name)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


@dataclass(frozen=True)
class Names:
    """What this dashboard is called: the exact values of Host it answers to, and the scheme the browser sees."""

    hosts: frozenset[str]
    scheme: str = "http"


@dataclass(frozen=True)
class Turned:
    """A refusal at the door: the status, and a sentence for whoever debugs it."""

    status: int
    reason: str


def judge(head: Head, names: Names) -> Turned | None:
    """The first thing that is wrong with a request's head, or None."""
    return (
        _method_fault(head)
        or _host_fault(head, names)
        or _header_fault(head)
        or _framing_fault(head)
        or _target_fault(head)
        or (_change_fault(head, names) if head.method in CHANGES else _read_fault(head))
    )


def _method_fault(head: Head) -> Turned | None:
    if head.version != "1.1":
        return Turned(505, "HTTP/1.1 only")
    if head.method not in READS | CHANGES:
        return Turned(405, f"method {head.method[:16]} not allowed")
    return None


def _host_fault(head: Head, names: Names) -> Turned | None:
    if head.count("host") != 1 or head.header("host") not in names.hosts:
        return Turned(421, "host not allowed")
    return None


def _header_fault(head: Head) -> Turned | None:
    if len(head.headers) > HEADERS_MAX:
        return Turned(431, f"more than {HEADERS_MAX} headers")
    for name, value in head.headers:
        if len(name) > HEADER_NAME_CHARS_MAX or len(value) > HEADER_VALUE_CHARS_MAX:
            return Turned(431, "a header is too long")
    if repeated := _repeated(head, _ONCE):
        return Turned(400, f"more than one {repeated} header")
    return None


def _framing_fault(head: Head) -> Turned | None:
    if head.count("content-length") and head.count("transfer-encoding"):
        return Turned(400, "both Content-Length and Transfer-Encoding")
    if head.count("transfer-encoding"):
        return Turned(411, "Transfer-Encoding is not supported; send Content-Length")
    if head.count("upgrade") or head.count("http2-settings"):
        return Turned(400, "no other protocol is spoken here")
    if head.count("range"):
        return Turned(400, "ranges are not supported")
    return None


def _repeated(head: Head, names: Iterable[str]) -> str | None:
    return next((name for name in names if head.count(name) > 1), None)


def _target_fault(head: Head) -> Turned | None:
    if len(head.target) > TARGET_CHARS_MAX:
        return Turned(414, f"the address is longer than {TARGET_CHARS_MAX} characters")
    if any(not "!" <= letter <= "~" for letter in head.target):
        return Turned(400, "path has characters outside printable ASCII")
    path = head.path
    if _ESCAPED.search(path):
        return Turned(400, "encoded dot, slash or NUL in path")
    segments = path.split("/")
    if (
        segments[0]
        or "\\" in path
        or "#" in head.target
        or "" in segments[1:-1]
        or {".", ".."} & set(segments)
    ):
        return Turned(400, "path is not normalised")
    return None


def _read_fault(head: Head) -> Turned | None:
    if head.header("content-length") not in (None, "0"):
        return Turned(400, f"a {head.method} has no body")
    site = head.header("sec-fetch-site")
    if site in (None, "same-origin", "none"):
        return None
    goes_to_page = head.header("sec-fetch-mode") == "navigate" and head.header("sec-fetch-dest") == "document"
    if not goes_to_page or head.path.startswith(("/api/", "/static/")):
        return Turned(403, "cross-site read")
    return None


def _change_fault(head: Head, names: Names) -> Turned | None:
    if head.header("origin") != f"{names.scheme}://{head.header('host')}":
        return Turned(403, "request did not come from this dashboard (Origin)")
    if head.header("sec-fetch-site") not in (None, "same-origin"):
        return Turned(403, "request did not come from this dashboard (Sec-Fetch-Site)")
    if not _JSON.match(head.header("content-type") or ""):
        return Turned(415, "expected application/json")
    length = head.header("content-length")
    if length is None or not _DIGITS.match(length):
        return Turned(411, "send Content-Length")
    if int(length) > BODY_BYTES_MAX:
        return Turned(413, "body is larger than 64 KiB")
    return None
