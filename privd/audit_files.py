"""The files of the audit log: lines are added durably, files are begun and dropped, what a crash left is mended.

    audit.log               the newest lines
    audit-<last line>.log   older ones; the oldest file goes when there are more than FILES_MAX
    audit.head              number and hash of the newest line, so that a log that was cut short is found out
    audit.ballast           given back to a full disk, so that the operator can still stop and purge what filled it
    audit-damaged-<time>    a file whose end is no line at all, set aside

Blocking, and one call at a time.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from enum import Enum, auto
from pathlib import Path
from typing import Final

from msgspec import Struct

from privd.durable import sync
from privd.policy.audit import (
    FIRST,
    LINE_BYTES_MAX,
    About,
    AnyLine,
    Head,
    Note,
    decode,
    encode,
    head_line,
    head_of,
    read_head,
)
from runtime.clock import now_ms

NAME, HEAD_NAME, BALLAST_NAME = "audit.log", "audit.head", "audit.ballast"
OLDER: Final = "audit-[0-9]*.log"
FILE_BYTES_MAX: Final = 8 * 1024 * 1024
FILES_MAX: Final = 32
"""Older files that are kept: about half a million lines."""
TAIL_BYTES: Final = 8 * LINE_BYTES_MAX
"""What is read of a file to find its last line; a crash leaves less than one line that is none."""
BALLAST_BYTES: Final = 256 * 1024
FULL: Final = (errno.ENOSPC, errno.EDQUOT)

Make = Callable[[Head], AnyLine]
"""Makes the line that comes after a head."""


class Room(Enum):
    """What a line may take of a disk that is full."""

    BUT_BALLAST = auto()
    """Nothing: while the ballast is not laid whole, there is no room."""
    LEFT = auto()
    """What is left of the ballast once it was given."""
    ALL = auto()
    """The ballast is given for it."""


class Tail(Struct, frozen=True):
    """The end of one file: its last line (None: there is none), and how many bytes it has up to there."""

    head: Head | None
    size: int
    damaged: bool = False
    """More stands behind the last line than a crash leaves."""


class File:
    """The log, open for more lines. OSError when the disk takes none; then it is as it was before."""

    def __init__(self, state: Path, room: Room = Room.LEFT) -> None:
        self._state = state
        self._room = room
        self.found: list[tuple[About, str]] = []
        """What was wrong with it; noted in it already."""
        with ExitStack() as opened:
            set_aside = self._set_damaged_aside()
            self._log, self._newest, self._ballast = (
                self._open(name, opened) for name in (NAME, HEAD_NAME, BALLAST_NAME)
            )
            sync(state)
            self._take_up(set_aside)
            self._lay_ballast()
            self.close = opened.pop_all().close

    def use(self, room: Room) -> None:
        """From here on lines take no more than this; OSError when there is none."""
        self._room = room
        if room is Room.BUT_BALLAST and not self._lay_ballast():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def append(self, make: Make) -> None:
        """One line more, on the disk when this returns."""
        if self._size > FILE_BYTES_MAX:
            self._begin_another()
        self._put(make(self.head))

    def _open(self, name: str, opened: ExitStack) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._state / name, flags, 0o600)
        opened.callback(os.close, descriptor)
        return descriptor

    def _set_damaged_aside(self) -> str:
        """Move a file away that nothing can follow; its new name."""
        path = self._state / NAME
        if not path.exists() or not tail(path).damaged:
            return ""
        aside = f"audit-damaged-{now_ms()}"
        path.rename(path.with_name(aside))
        return aside

    def _take_up(self, set_aside: str) -> None:
        """Find the newest line, mend what a crash left of one, and note what is not there any more."""
        ends, size = tail(self._state / NAME), os.fstat(self._log).st_size
        self._size, self.head = ends.size, ends.head or self._head_of_older()
        torn = size - ends.size
        os.ftruncate(self._log, self._size)
        if torn:
            self.found.append((About.REPAIRED, f"{torn} bytes after line {self.head.seq} were no whole line"))
        if set_aside:
            self.found.append((About.CUT, f"{NAME} was damaged: it is kept as {set_aside}"))
        told = self._told_head()
        if told is not None and told.seq >= self.head.seq and told != self.head:
            self.found.append(
                (About.CUT, f"line {told.seq} was written, but the log ends with {self.head.seq}")
            )
            self.head = told
        for about, detail in self.found:
            self._put(Note(self.head.seq + 1, self.head.hash, now_ms(), about, detail))

    def _head_of_older(self) -> Head:
        older = files(self._state)[:-1]
        return tail(older[-1]).head or FIRST if older else FIRST

    def _told_head(self) -> Head | None:
        written = os.pread(self._newest, LINE_BYTES_MAX, 0)
        try:
            return read_head(written) if written else None
        except ValueError as error:
            self.found.append((About.REPAIRED, f"{HEAD_NAME} could not be read: {error}"))
            return None

    def _put(self, line: AnyLine) -> None:
        content = encode(line)
        try:
            self._put_whole(content)
        except OSError as error:
            if error.errno not in FULL or self._room is not Room.ALL or not self._give_ballast():
                raise
            self._put_whole(content)
        self._size += len(content)
        self.head = head_of(line)
        os.pwrite(self._newest, head_line(self.head), 0)

    def _put_whole(self, content: bytes) -> None:
        """What a full disk took only in part is taken away again."""
        rest, at = memoryview(content), self._size
        try:
            while rest:
                written = os.pwrite(self._log, rest, at)
                rest, at = rest[written:], at + written
            os.fsync(self._log)
        except OSError:
            os.ftruncate(self._log, self._size)
            raise

    def _begin_another(self) -> None:
        """Put the file among the older ones, and drop the oldest where there are too many."""
        (self._state / NAME).rename(self._state / f"audit-{self.head.seq:012d}.log")
        with ExitStack() as opened:
            os.dup2(self._open(NAME, opened), self._log, inheritable=False)
        self._size = 0
        sync(self._state)
        for path in files(self._state)[: -1 - FILES_MAX]:
            gone = tail(path).head or FIRST
            self._put(
                Note(
                    self.head.seq + 1, self.head.hash, now_ms(), About.DROPPED, path.name, gone.seq, gone.hash
                )
            )
            path.unlink()
        self._lay_ballast()

    def _lay_ballast(self) -> bool:
        """Where there is room for it; whether it lies there now."""
        if os.fstat(self._ballast).st_size == BALLAST_BYTES:
            return True
        try:
            os.posix_fallocate(self._ballast, 0, BALLAST_BYTES)
        except OSError as error:
            os.ftruncate(self._ballast, 0)
            if error.errno not in FULL:
                raise
            return False
        return True

    def _give_ballast(self) -> bool:
        """Whether there was any."""
        laid = os.fstat(self._ballast).st_size > 0
        os.ftruncate(self._ballast, 0)
        return laid


def files(state: Path) -> list[Path]:
    """All files of the log, the oldest first; `audit.log` is the last of them, whether it is there or not."""
    return [*sorted(state.glob(OLDER)), state / NAME]


def tail(path: Path) -> Tail:
    """The end of one file."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - TAIL_BYTES)
        file.seek(start)
        content = file.read()
    for begin, end in _lines_backwards(content):
        if begin > 0 or start == 0:
            try:
                return Tail(head_of(decode(content[begin : end - 1])), start + end)
            except ValueError:
                continue
    return Tail(None, 0, damaged=size > LINE_BYTES_MAX)


def _lines_backwards(content: bytes) -> Iterator[tuple[int, int]]:
    """Where whole lines begin and end, the last one first."""
    end = content.rfind(b"\n") + 1
    while end > 0:
        begin = content.rfind(b"\n", 0, end - 1) + 1
        yield begin, end
        end = begin
