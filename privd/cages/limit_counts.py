"""What the kernel counts when a cage meets a limit: processes ended for want of memory, and processes refused.

Read from the cage's own control groups and those below them; where there are none, or no such file, nothing is
counted. Version 2 counts what happens below a group in the group itself, version 1 only where it happened.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct


class LimitCounts(Struct, frozen=True):
    """Since the cage started."""

    ended_for_memory: int = 0
    tasks_refused: int = 0

    def at_least(self, before: "LimitCounts") -> "LimitCounts":
        """These, or what was counted before where a group has gone with what it counted."""
        return LimitCounts(
            max(self.ended_for_memory, before.ended_for_memory), max(self.tasks_refused, before.tasks_refused)
        )


SOURCES: Final = (
    ("memory.events", "oom_kill", False),
    ("memory.oom_control", "oom_kill", True),
    ("pids.events", "max", True),
)
"""File, the word before the number, and whether the groups below count for themselves."""
DEPTH_MAX: Final = 4
"""Groups below a cage's own that are looked into: nspawn makes one level."""


def count(folders: Iterable[str]) -> LimitCounts:
    """What stands there now; what is gone counts as nothing."""
    found = dict.fromkeys((file for file, _, _ in SOURCES), 0)
    for folder in folders:
        for file, word, below in SOURCES:
            found[file] += sum(
                _number(place / file, word) for place in _places(Path(folder), file, below=below)
            )
    return LimitCounts(found["memory.events"] + found["memory.oom_control"], found["pids.events"])


def _places(folder: Path, file: str, *, below: bool, depth: int = 0) -> Iterator[Path]:
    if not (folder / file).exists():
        return
    yield folder
    if below and depth < DEPTH_MAX:
        try:
            with os.scandir(folder) as entries:
                deeper = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:  # the group went meanwhile
            return
        for each in deeper:
            yield from _places(each, file, below=below, depth=depth + 1)


def _number(file: Path, word: str) -> int:
    try:
        text = file.read_text()
    except OSError:  # the group went meanwhile
        return 0
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == word and value.isdecimal():
            return int(value)
    return 0
