"""Many rows by few statements, and never one too many."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from brokerd.store import deliveries, feed, keys, messages, occurrences, rows, turn_events
from runtime.store import Db


@given(st.lists(st.integers(), max_size=200))
def test_parts_are_the_whole_in_order(given_rows: list[int]) -> None:
    parts = rows.parts(given_rows)
    assert [row for part in parts for row in part] == given_rows
    assert all(len(part) in rows.LARGE or len(part) <= rows.SMALL for part in parts)
    assert len(parts) <= 3 + len(given_rows) // 64


def test_every_row_is_inserted_whatever_their_number() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute("CREATE TABLE t (a, b)")
        for count in (0, 1, 3, 16, 17, 64, 65, 150):
            db.execute("DELETE FROM t")
            new = [(number, -number) for number in range(count)]
            rows.insert(db, "INSERT INTO t (a, b) VALUES", new)
            assert db.execute("SELECT a, b FROM t ORDER BY a").fetchall() == new


def written_bytes() -> int:
    """What this process handed to the system so far."""
    return int(re.findall(r"wchar: (\d+)", Path("/proc/self/io").read_text())[0])


def test_a_statement_of_many_rows_keeps_no_copies_of_what_it_changes(db: Db) -> None:
    new = [
        ("operator", b"%016x" % (number * 7_919 % 4_001), b"digest", b"answer" * 20, 1)
        for number in range(4_001)
    ]
    rows.insert(db, keys.INSERT, new[:3_900])
    db.execute("BEGIN")
    before = written_bytes()
    rows.insert(db, keys.INSERT, new[3_900:3_964])
    assert written_bytes() == before
    db.execute("COMMIT")
    assert written_bytes() - before > 64 * 1024
    (kept,) = db.execute("SELECT count(*) FROM keys").fetchone()
    assert kept == 3_964


def test_what_is_inserted_together_fails_together() -> None:
    for module in (deliveries, feed, keys, messages, occurrences, turn_events):
        assert module.INSERT.startswith("INSERT OR FAIL INTO ")
