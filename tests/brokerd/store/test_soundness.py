"""A database that others write to is looked through as well, table by table."""

import sqlite3

import pytest

from brokerd.store import soundness
from runtime.store import Db, StoreShape, is_damage


def test_a_sound_file_in_use_has_no_faults(db: Db, shape: StoreShape) -> None:
    db.execute("BEGIN IMMEDIATE")
    assert soundness.file_faults(shape.path) == []
    assert soundness.file_faults(shape.attached["broker"]) == []
    db.execute("ROLLBACK")


def test_a_damaged_page_is_found(db: Db, shape: StoreShape) -> None:
    for number in range(2_000):
        db.execute("INSERT INTO turn_events VALUES (1, ?, x'00')", (number,))
    db.close()
    content = bytearray(shape.path.read_bytes())
    content[-4_096:] = b"\xff" * 4_096
    shape.path.write_bytes(content)
    found = soundness.file_faults(shape.path)
    assert 1 <= len(found) <= soundness.FAULTS_MAX


@pytest.mark.parametrize(
    ("code", "corrupt"),
    [
        (sqlite3.SQLITE_CORRUPT, True),
        (sqlite3.SQLITE_CORRUPT | 2 << 8, True),
        (sqlite3.SQLITE_NOTADB, True),
        (sqlite3.SQLITE_FULL, False),
        (sqlite3.SQLITE_IOERR, False),
    ],
)
def test_what_says_that_a_file_is_damaged(code: int, corrupt: bool) -> None:
    error = sqlite3.DatabaseError("?")
    error.sqlite_errorcode = code
    assert is_damage(error) is corrupt
    assert not is_damage(None)
    assert not is_damage(ValueError())
