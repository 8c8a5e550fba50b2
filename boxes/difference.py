"""What changed in the files of a configuration, line by line, with a little around each change.

    request     one line of JSON, [[path, bytes before or null, bytes after or null] …], then the contents in order
    reply       a part for each file: JSON, {path, before_bytes, after_bytes, lines, cut}; a line is
                [kind, number before or null, number after or null, text]

Comparing is what takes time, and an author can make it take very much: that is why it happens in a box. Two long parts
without a common beginning or end are not compared but shown as taken out and put in. A line is whole or not there:
where one does not fit any more, the file says `cut`.
"""

import json
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Final

CONTEXT: Final = 3
LINES_MAX: Final = 4_000
"""Of all files together, as DIFF_LINES_MAX in protocol/limits.py."""
TEXT_CHARS_MAX: Final = 400_000
"""Of all lines together; two whole files of the largest size fit in one part of a reply, however they are escaped."""
COMPARED_MAX: Final = 4_000_000
"""Lines before, times lines after: what is more is not compared."""

Line = tuple[str, int | None, int | None, str]
Block = tuple[str, int, int, int, int]
"""As difflib says it: what, from and to before, from and to after."""


def answer(request: bytes) -> Iterator[bytes]:
    """The differences of all files."""
    head, _, rest = request.partition(b"\n")
    room = Room()
    at = 0
    for path, before_bytes, after_bytes in json.loads(head):
        before, at = _taken(rest, at, before_bytes)
        after, at = _taken(rest, at, after_bytes)
        lines, cut = room.fitting(compared(_lines(before), _lines(after)))
        yield json.dumps(
            {
                "path": path,
                "before_bytes": before_bytes,
                "after_bytes": after_bytes,
                "lines": lines,
                "cut": cut,
            },
            ensure_ascii=False,
        ).encode()


def _taken(rest: bytes, at: int, count: int | None) -> tuple[bytes, int]:
    end = at + (count or 0)
    return rest[at:end], end


def _lines(content: bytes) -> list[str]:
    """A last line without an end is another line than one with it."""
    text = content.decode()
    lines = text.split("\n")
    if lines[-1] == "":
        return lines[:-1]
    return [*lines[:-1], lines[-1] + " (no end of line)"]


class Room:
    """What is left of the bounds of one reply."""

    def __init__(self) -> None:
        self._lines = LINES_MAX
        self._chars = TEXT_CHARS_MAX

    def fitting(self, lines: Iterator[Line]) -> tuple[list[Line], bool]:
        """As many lines as there is room for, and whether there were more."""
        taken: list[Line] = []
        for kind, before, after, text in lines:
            if self._lines <= 0 or self._chars < len(text):
                return taken, True
            self._lines -= 1
            self._chars -= len(text)
            taken.append((kind, before, after, text))
        return taken, False


def compared(before: list[str], after: list[str]) -> Iterator[Line]:
    """The lines of all changes, with CONTEXT lines around each."""
    blocks = [block for block in _blocks(before, after) if block[0] != "equal"]
    shown_before = 0
    for at, (_, start, end, start_after, end_after) in enumerate(blocks):
        for back in range(min(CONTEXT, start - shown_before), 0, -1):
            yield " ", start - back + 1, start_after - back + 1, before[start - back]
        for number in range(start, end):
            yield "-", number + 1, None, before[number]
        for number in range(start_after, end_after):
            yield "+", None, number + 1, after[number]
        until = blocks[at + 1][1] if at + 1 < len(blocks) else len(before)
        ahead = min(CONTEXT, until - end)
        for step in range(ahead):
            yield " ", end + step + 1, end_after + step + 1, before[end + step]
        shown_before = end + ahead


def _blocks(before: list[str], after: list[str]) -> Iterator[Block]:
    """What differs. Common beginnings and ends are taken off first."""
    most = min(len(before), len(after))
    start = 0
    while start < most and before[start] == after[start]:
        start += 1
    tail = 0
    while tail < most - start and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    inner, inner_after = before[start : len(before) - tail], after[start : len(after) - tail]
    if not inner and not inner_after:
        return
    if len(inner) * len(inner_after) > COMPARED_MAX or not inner or not inner_after:
        yield "replace", start, start + len(inner), start, start + len(inner_after)
        return
    for what, a, b, c, d in SequenceMatcher(None, inner, inner_after, autojunk=False).get_opcodes():
        yield what, start + a, start + b, start + c, start + d
