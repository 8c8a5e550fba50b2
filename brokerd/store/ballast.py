"""The ballast: a file of a few MiB beside the databases, removed when a full disk takes nothing any more."""

import os
from pathlib import Path
from typing import Final

NAME: Final = "ballast"
PIECE_BYTES: Final = 256 * 1024


def _path(state: Path) -> Path:
    return state / NAME


def is_laid(state: Path) -> bool:
    return _path(state).exists()


def lay(state: Path, size: int) -> None:
    """Write it in full or not at all. Random bytes: no file system stores them in less than they are."""
    new = _path(state).with_suffix(".new")
    try:
        with new.open("wb") as file:
            for start in range(0, size, PIECE_BYTES):
                file.write(os.urandom(min(PIECE_BYTES, size - start)))
            file.flush()
            os.fsync(file.fileno())
        new.rename(_path(state))
    except OSError:
        new.unlink(missing_ok=True)
        raise


def give_back(state: Path) -> bool:
    """Whether there was one to give."""
    try:
        _path(state).unlink()
    except FileNotFoundError:
        return False
    return True


def make_way(state: Path) -> bool:
    """Before the databases are opened on a disk with less left than the ballast: opening them takes a little."""
    path = _path(state)
    if not path.exists():
        return False
    found = os.statvfs(state)
    return found.f_bavail * found.f_frsize < path.stat().st_size and give_back(state)
