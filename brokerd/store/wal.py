"""The write-ahead log's size. Overwriting costs a commit half of what a longer file does, so it is grown once.

Grown in steps: one large transaction would keep all its pages in memory. On a small file system it is kept short
instead: there it could fill the disk before it is ever copied into the database.
"""

from typing import Final

from runtime.store import Db

STEPS: Final = 8
STEP_PAGES: Final = 300
CHECKPOINT_PAGES: Final = 2_000
"""Pages after which sqlite copies the log into the database; fewer than STEPS of them make, so it never grows again."""
PAGE_BYTES: Final = 4_096

DISK_SHARE: Final = 32
"""The log of a small file system is copied when it is this part of it."""

SET_CHECKPOINT: Final = f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}"
MAKE_ROOM: Final = "CREATE TABLE IF NOT EXISTS broker.wal_room (room BLOB) STRICT"
EMPTY_ROOM: Final = "DELETE FROM broker.wal_room"
FILL_ROOM: Final = f"INSERT INTO broker.wal_room VALUES (zeroblob({STEP_PAGES * PAGE_BYTES}))"
REMOVE_ROOM: Final = "DROP TABLE IF EXISTS broker.wal_room"


def pages_for(disk_bytes: int) -> int:
    """After how many pages the log is copied into the database, on a file system of this size."""
    return min(CHECKPOINT_PAGES, disk_bytes // DISK_SHARE // PAGE_BYTES)


def keep_short(db: Db, pages: int) -> None:
    """Instead of growing it."""
    db.execute(f"PRAGMA wal_autocheckpoint = {pages:d}")


def grow(db: Db) -> None:
    """One step of STEPS, a transaction of its own: the same pages again, at another place of the log."""
    db.execute(SET_CHECKPOINT)
    db.execute(MAKE_ROOM)
    db.execute(EMPTY_ROOM)
    db.execute(FILL_ROOM)


def finish(db: Db) -> None:
    """After the last step; the commit finds the log long enough and starts it again from its beginning."""
    db.execute(REMOVE_ROOM)
