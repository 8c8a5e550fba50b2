"""brokerd's own folder: what lies in it beside the databases, and whose it is at this moment."""

import fcntl
import os
from pathlib import Path
from typing import Final

from runtime.service import Unusable

BROKER_FILE: Final = "broker.sqlite"
EVENTS_FILE: Final = "events.sqlite"
BACKUPS: Final = "backups"
SET_ASIDE: Final = "set-aside"
"""Where a restore puts what was there before it."""
RESTORING: Final = "restoring"
"""What a restore works in; while it is there, the databases beside it may be half exchanged."""
DOUBT: Final = "doubt"
"""Left when a database gave reason to doubt it: the next start looks at all of it before it serves."""
LOCK: Final = "lock"


def hold(state: Path) -> int:
    """Make the folder this process's own until the descriptor is closed. Unusable when it is another's."""
    descriptor = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise Unusable(
            f"{state}: process {holder or 'unknown'} works on these databases; stop the hive first"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def check_whole(state: Path) -> None:
    """Unusable when a restore was begun here and did not end."""
    if (state / RESTORING).exists():
        raise Unusable(f"{state}: a restore was begun and did not end; run it again: hivectl restore")


def doubt(state: Path) -> None:
    """Let the next start look at all of the databases before it serves."""
    (state / DOUBT).touch()


def is_doubted(state: Path) -> bool:
    return (state / DOUBT).exists()


def trust(state: Path) -> None:
    (state / DOUBT).unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Put on disk which files a folder has."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
