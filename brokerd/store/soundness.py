"""Whether a database file can be believed: what sqlite itself finds wrong with it, and who wrote it.

A small file is looked through before anything is served from it, a large one table by table while brokerd serves.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from brokerd.store import folder
from runtime.service import Unusable
from runtime.store import is_damage

CHECKED_FIRST_BYTES_MAX: Final = 64 * 1024 * 1024
"""A file up to this size is looked through at each start, which takes a fraction of a second."""
FAULTS_MAX: Final = 5
QUICK_CHECK: Final = "SELECT * FROM pragma_quick_check(?)"
TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name"


def faults(db: sqlite3.Connection, table: str | None = None) -> list[str]:
    """What is wrong with the connection's file, or with one table of it; empty when it is sound."""
    subject = FAULTS_MAX if table is None else table
    found = [row[0] for row in db.execute(QUICK_CHECK, (subject,))]
    return [] if found == ["ok"] else found[:FAULTS_MAX]


def file_faults(file: Path) -> list[str]:
    """What is wrong with a file that others write to, one table at a time so that none of them is held up for long."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as db:
        try:
            names = [row[0] for row in db.execute(TABLES)]
            return [fault for name in names for fault in faults(db, name)][:FAULTS_MAX]
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return [str(error)]


def unusable(file: Path, found: list[str]) -> Unusable:
    """What the operator is told of a file that cannot be believed."""
    way_out = "To go back to a backup: hivectl restore"
    if file.name == folder.EVENTS_FILE:
        way_out = (
            f"To go on without this log, which costs no message: hivectl restore --without-log. {way_out}"
        )
    return Unusable(
        f"{file}: the database is damaged ({'; '.join(' '.join(each.split()) for each in found)}); "
        f"nothing is served from it. {way_out}"
    )


@contextmanager
def believed(file: Path) -> Iterator[None]:
    """Turn what sqlite says of a damaged file into words for the operator."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        raise unusable(file, [str(error)]) from None
