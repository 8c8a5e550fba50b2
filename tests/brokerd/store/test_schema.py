"""Migrations: each whole or not at all, and nothing twice."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from brokerd.store import schema
from runtime.store import Db, StoreShape, connect


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        return {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_what_is_made(shape: StoreShape) -> None:
    made = {name for name in tables(shape.attached["broker"]) if not name.startswith(("sqlite_", "_sqlite"))}
    assert made == {"messages", "deliveries", "keys", "turns", "agents", "feed_state"}
    assert {"feed", "turn_events"} <= tables(shape.path)


def test_migrating_again_changes_nothing(shape: StoreShape) -> None:
    before = shape.path.read_bytes()
    schema.migrate(shape.path, shape)
    assert shape.path.read_bytes() == before


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    steps = Migrations("broker")

    @steps()
    def broken(db: Database) -> None:
        db.executescript("CREATE TABLE half (x INTEGER); CREATE TABLE half (x INTEGER);")

    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as connection:
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            steps.apply(Database(connection, execute_plugins=False))
        assert "half" not in tables(tmp_path / "x.sqlite")
        assert [step.name for step in steps.pending(Database(connection, execute_plugins=False))] == [
            "broken"
        ]


def test_what_must_be_durable_is_and_the_rest_is_relaxed(shape: StoreShape) -> None:
    with closing(connect(shape)) as db:
        for name, synchronous in (("broker", 2), ("main", 1)):
            assert db.execute(f"PRAGMA {name}.synchronous").fetchone()[0] == synchronous
            assert db.execute(f"PRAGMA {name}.journal_mode").fetchone()[0] == "wal"


HOT = (
    (
        "SELECT id FROM deliveries WHERE recipient = ? AND state = 'queued' ORDER BY id LIMIT 1",
        "deliveries_queued",
    ),
    ("SELECT id FROM deliveries WHERE turn = ? AND state = 'in_turn' ORDER BY id", "deliveries_in_turn"),
    ("SELECT id FROM turns WHERE agent = ? AND ended_ms IS NULL", "turns_open"),
    ("SELECT id FROM turns WHERE agent = ? AND id < 9 ORDER BY id DESC LIMIT 20", "turns_of_agent"),
    ("SELECT id FROM messages WHERE thread = ? AND id < 9 ORDER BY id DESC LIMIT 20", "messages_answering"),
    (
        "SELECT id FROM deliveries WHERE state = 'dead' AND changed_ms >= ? ORDER BY changed_ms",
        "deliveries_dead",
    ),
)


@pytest.mark.parametrize(("statement", "index"), HOT)
def test_hot_queries_read_an_index_and_sort_nothing(db: Db, statement: str, index: str) -> None:
    plan = " ".join(row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", ("x",)))
    assert index in plan
    assert "TEMP B-TREE" not in plan
