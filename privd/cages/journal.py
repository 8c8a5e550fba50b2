"""A cage's journal: what its init wrote, line by line, in one file that is cut when it grows.

The cage holds the file open and only ever appends. Cutting copies it to `journal.old` and empties it in place, so
about 16 MiB are kept. A line's offset counts every byte that was ever written and grows across cuts. The few bytes
written between the copy and the cut are lost; after a crash of privd in between, the same lines appear twice.
"""

import os
import shutil
from pathlib import Path
from typing import Final

from protocol.limits import JOURNAL_BYTES_MAX
from protocol.privd import JournalLine, JournalPage

LIVE_BYTES_MAX: Final = 8 * 1024 * 1024
JOURNAL_MODE: Final = 0o640
BLOCK_BYTES: Final = 64 * 1024


class Journal:
    """One cage's journal. Cheap to make; keeps nothing open."""

    def __init__(self, live: Path) -> None:
        self._live = live
        self._old = live.with_suffix(".old")
        self._cut = live.with_suffix(".cut")

    def open_for_cage(self) -> int:
        """A descriptor that can only append."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._live, flags, JOURNAL_MODE)

    def say(self, text: str) -> None:
        """A line of privd's own, about what is done for the cage."""
        descriptor = self.open_for_cage()
        try:
            os.write(descriptor, text.encode() + b"\n")
        finally:
            os.close(descriptor)

    def end(self) -> int:
        """The offset behind the last byte."""
        return self._cut_at() + _size(self._live)

    def rotate(self, bytes_max: int = LIVE_BYTES_MAX) -> bool:
        """Cut the journal if it has grown past the bound; whether it did. Call it now and then."""
        if _size(self._live) <= bytes_max:
            return False
        fresh = self._old.with_suffix(".new")
        with self._live.open("rb+") as live, fresh.open("wb") as old:
            shutil.copyfileobj(live, old, BLOCK_BYTES)
            copied = live.tell()
            fresh.rename(self._old)
            self._note_cut(self._cut_at() + copied)
            live.truncate(0)
        return True

    def page(self, before: int | None = None, bytes_max: int = JOURNAL_BYTES_MAX) -> JournalPage:
        """The newest whole lines that end before an offset, oldest first, at most `bytes_max` of them."""
        stop = self.end() if before is None else max(self._first(), min(before, self.end()))
        first = max(self._first(), stop - bytes_max)
        content = self._bytes(first, stop)
        if first > self._first() and b"\n" in content and self._bytes(first - 1, first) != b"\n":
            skipped = content.index(b"\n") + 1
            first, content = first + skipped, content[skipped:]
        lines = _lines(first, content)
        return JournalPage(lines, first if first > self._first() and lines else None)

    def since(self, offset: int, bytes_max: int = JOURNAL_BYTES_MAX) -> tuple[tuple[JournalLine, ...], int]:
        """Whole lines from an offset on, and the offset to go on from. A line that is still being written waits."""
        end = self.end()
        start = min(max(offset, self._first()), end)
        content = self._bytes(start, min(end, start + bytes_max))
        whole = content.rfind(b"\n") + 1
        if not whole and len(content) == bytes_max:
            whole = len(content)
        return _lines(start, content[:whole]), start + whole

    def last(self, lines_max: int) -> tuple[str, ...]:
        """The last lines, for whoever must explain why a cage ended."""
        return tuple(line.text for line in self.page().lines[-lines_max:])

    def remove(self) -> None:
        for file in (self._live, self._old, self._cut):
            file.unlink(missing_ok=True)

    def _first(self) -> int:
        """The offset of the oldest byte that is kept."""
        return max(0, self._cut_at() - _size(self._old))

    def _cut_at(self) -> int:
        """The offset of the live file's first byte."""
        try:
            return int(self._cut.read_text())
        except FileNotFoundError:
            return 0

    def _note_cut(self, offset: int) -> None:
        fresh = self._cut.with_suffix(".new")
        fresh.write_text(str(offset))
        fresh.rename(self._cut)

    def _bytes(self, first: int, stop: int) -> bytes:
        """The kept bytes of [first, stop), from both files where they meet."""
        cut = self._cut_at()
        old = (
            _read(self._old, _size(self._old) - (cut - first), min(stop, cut) - first) if first < cut else b""
        )
        live = _read(self._live, max(0, first - cut), stop - max(first, cut)) if stop > cut else b""
        return old + live


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _read(file: Path, start: int, count: int) -> bytes:
    with file.open("rb") as opened:
        opened.seek(start)
        return opened.read(count)


def _lines(first: int, content: bytes) -> tuple[JournalLine, ...]:
    """Lines end at the newline character and nowhere else; the last may be without."""
    lines, offset = [], first
    for line in content.removesuffix(b"\n").split(b"\n") if content else ():
        lines.append(JournalLine(offset, line.decode("utf-8", "replace")))
        offset += len(line) + 1
    return tuple(lines)
