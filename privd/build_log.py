"""The log of one deployment: whole lines in a file of root's own, bounded, without anything that a terminal obeys."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from privd.boxes import one_line
from protocol.approvals import BuildLine
from protocol.configuration import BuildLog
from protocol.limits import BUILD_LOG_BYTES_MAX

LINE_CHARS_MAX: Final = 1_000
PAGE_BYTES: Final = 64 * 1024
FULL: Final = "… the log is full: what follows is not kept"


class Log:
    """One deployment's log, for whoever writes it."""

    def __init__(self, path: Path, tell: Callable[[tuple[BuildLine, ...]], None]) -> None:
        self._path = path
        self._tell = tell
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._size = path.stat().st_size if path.exists() else 0

    def say(self, text: str) -> None:
        """One line, or more where the text has more."""
        said = []
        for line in text.splitlines() or [""]:
            if self._size > BUILD_LOG_BYTES_MAX:
                break
            shown = one_line(line[:LINE_CHARS_MAX])
            said.append(BuildLine(self._size, shown))
            self._size += len(shown.encode()) + 1
            if self._size > BUILD_LOG_BYTES_MAX:
                said.append(BuildLine(self._size, FULL))
                self._size += len(FULL.encode()) + 1
        with self._path.open("ab") as file:
            file.write("".join(f"{line.text}\n" for line in said).encode())
        if said:
            self._tell(tuple(said))


def digest(path: Path) -> str:
    """SHA-256 of a log in hex; of nothing, where there is none."""
    content = path.read_bytes() if path.exists() else b""
    return hashlib.sha256(content).hexdigest()


def page(path: Path, before: int | None) -> BuildLog:
    """The newest whole lines before an offset."""
    if not path.exists():
        return BuildLog((), None)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        end = size if before is None else min(before, size)
        start = max(0, end - PAGE_BYTES)
        file.seek(start)
        content = file.read(end - start)
    if start:
        first = content.find(b"\n") + 1
        start, content = start + first, content[first:]
    lines = []
    at = start
    for raw in content.splitlines(keepends=True):
        lines.append(BuildLine(at, raw.decode("utf-8", "replace").rstrip("\n")))
        at += len(raw)
    return BuildLog(tuple(lines), start or None)
