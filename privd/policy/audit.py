"""What stands in the audit log, and what must hold between its lines. Pure.

    begin   a request, or privd by itself, is about to change something
    end     what came of that; `of` is the number of its beginning. None: privd ended meanwhile
    note    of the log itself

Each line is canonical JSON and holds the SHA-256 of the line before it: none can be changed, taken out or put in
without every later one. Where the oldest lines went, a note says up to which.
"""

import hashlib
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Struct

LINE_BYTES_MAX: Final = 2_048
DETAIL_CHARS_MAX: Final = 200
NOTHING: Final = "0" * 64
"""What the first line of all follows."""
DONE, CANCELLED, DEFECT = "done", "cancelled", "defect"
"""Verdicts beside the codes of a refusal: it was done, given up by a stop of privd, or broke."""


class Begin(
    Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="line", tag="begin"
):
    """Written, and on the disk, before anything is done. `by` is the role that the socket gave, or `privd`."""

    seq: int
    prev: str
    at_ms: int
    by: str
    uid: int
    op: str
    agent: str = ""
    number: int | None = None
    """The proposal or deployment, where it has one by now."""
    frame: str = ""
    """SHA-256 of the request's frame; empty for what privd does by itself."""


class End(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="line", tag="end"):
    """`verdict` is one of the three above, or a problem's code."""

    seq: int
    prev: str
    at_ms: int
    of: int
    verdict: str
    took_ms: int
    number: int | None = None
    detail: str = ""


class About(StrEnum):
    """What a note tells."""

    STARTED = "started"
    REPAIRED = "repaired"
    """A line that a crash had cut off was taken away."""
    CUT = "cut"
    """Lines that had been written were not there any more."""
    DROPPED = "dropped"
    """The oldest lines go, up to `upto`, whose hash is `hash`."""
    UNTOLD = "untold"
    """Requests were refused for their number alone (`privd.policy.pace`), and nothing was done for them."""


class Note(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="line", tag="note"):
    seq: int
    prev: str
    at_ms: int
    about: About
    detail: str = ""
    upto: int = 0
    hash: str = ""


AnyLine = Begin | End | Note


class Head(Struct, frozen=True):
    """The newest line: its number and hash. All that comes before follows from it."""

    seq: int
    hash: str


FIRST: Final = Head(0, NOTHING)
"""Before the first line of all."""
_decoder: Final = msgspec.json.Decoder(AnyLine)


def encode(line: AnyLine) -> bytes:
    """A line as it is written, with its end."""
    return msgspec.json.encode(line, order="deterministic") + b"\n"


def decode(written: bytes) -> AnyLine:
    """The line that this is, without its end. ValueError where it is none of ours."""
    try:
        line: AnyLine = _decoder.decode(written)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no line of ours: {error}") from error
    if encode(line) != written + b"\n":
        raise ValueError("not in canonical form")
    return line


def head_of(line: AnyLine) -> Head:
    return Head(line.seq, hashlib.sha256(encode(line)).hexdigest())


def follows(head: Head, line: AnyLine) -> str:
    """Why a line cannot be the one after *head*; empty when it is."""
    if line.seq > head.seq + 1:
        missing = f"{head.seq + 1} to {line.seq - 1}" if line.seq > head.seq + 2 else f"{head.seq + 1}"
        return f"line {missing} of the audit log is missing"
    if line.seq <= head.seq:
        return f"line {line.seq} of the audit log stands after line {head.seq}"
    if line.prev != head.hash:
        return f"line {head.seq} of the audit log was changed after line {line.seq} was written"
    return ""


def head_line(head: Head) -> bytes:
    """A head as its file holds it: always as many bytes."""
    return f"{head.seq:016d} {head.hash}\n".encode()


def read_head(written: bytes) -> Head:
    """ValueError where it is none."""
    number, _, found = written.decode("ascii").rstrip("\n").partition(" ")
    head = Head(int(number), found)
    if head_line(head) != written or len(found) != len(NOTHING):
        raise ValueError("it is no head")
    return head
