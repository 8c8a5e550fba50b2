"""Many rows by few statements, and never one too many."""

import sqlite3
from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from brokerd.store import rows


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
