"""Migrations: each whole or not at all, and nothing twice."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from sqlite_utils import Database, Migrations

from brokerd.store import folder, keys, schema, soundness
from brokerd.store.broker_steps import broker
from brokerd.store.keys import Asked, First
from runtime import VERSION
from runtime.service import Unusable
from runtime.store import Db, StoreShape, connect
from tests.brokerd.campaign.disk import Disk, Loss, lay
from tests.brokerd.store import released
from tests.brokerd.store.conftest import shape_in


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        return {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_both_files_are_made_and_say_who_wrote_them(shape: StoreShape) -> None:
    """What is in them, all of it, is compared in test_released."""
    assert {"messages", "deliveries", "keys", "turns", "feed_state"} <= tables(shape.attached["broker"])
    assert {"feed", "turn_events"} <= tables(shape.path)
    for file in (shape.path, shape.attached["broker"]):
        with closing(sqlite3.connect(file)) as db:
            (number,) = db.execute("PRAGMA user_version").fetchone()
            assert schema.version_of(number) == VERSION


def test_migrating_again_changes_nothing(shape: StoreShape) -> None:
    before = shape.path.read_bytes()
    schema.migrate(shape.path, shape)
    assert shape.path.read_bytes() == before


def test_a_step_that_fails_leaves_nothing_behind_nor_do_those_before_it(
    shape: StoreShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Migrations("broker")

    @steps()
    def whole(db: Database) -> None:
        db.execute("CREATE TABLE whole (x INTEGER)")

    @steps()
    def broken(db: Database) -> None:
        db.executescript("CREATE TABLE half (x INTEGER); CREATE TABLE half (x INTEGER);")

    monkeypatch.setattr(schema, "_check_known", lambda *_: None)
    with monkeypatch.context() as newer:
        newer.setattr(schema, "broker", steps)
        before = tables(shape.attached["broker"])
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            schema.migrate(shape.path, shape)
        assert tables(shape.attached["broker"]) == before


def test_keys_are_still_known_when_their_order_has_changed(tmp_path: Path) -> None:
    shape = schema.shape_of(tmp_path / "broker.sqlite", tmp_path / "events.sqlite")
    with closing(sqlite3.connect(shape.attached["broker"])) as older:
        broker.apply(Database(older, execute_plugins=False), stop_before="broker_013_keys_in_order")
        for sender in ("iris", "atlas"):
            older.execute("INSERT INTO keys VALUES (?, x'01', x'02', ?, 3)", (sender, sender.encode()))
        older.commit()
    schema.migrate(shape.path, shape)
    with closing(connect(shape)) as db:
        found = keys.find(db, [Asked("iris", b"\1"), Asked("atlas", b"\1"), Asked("iris", b"\2")])
    assert found == {Asked(name, b"\1"): First(b"\2", name.encode()) for name in ("iris", "atlas")}


def test_a_start_that_is_cut_short_is_taken_up_by_the_next(tmp_path: Path) -> None:
    """Killed or without power, at each moment of making both files: the next start ends where a whole one does."""
    made = tmp_path / "made"
    made.mkdir()
    with Disk.recorded(made) as disk:
        schema.migrate(shape_in(made).path, shape_in(made))
    wanted = [released.schema_of(connected) for connected in opened(made)]
    chance = Random(1)
    for moment in range(0, len(disk.operations), 3):
        for loss in Loss:
            left = tmp_path / f"{moment}-{loss.value}"
            left.mkdir()
            lay(disk.image(moment, chance, loss), left)
            schema.migrate(shape_in(left).path, shape_in(left))
            assert [released.schema_of(connected) for connected in opened(left)] == wanted, (moment, loss)


def opened(state: Path) -> Iterator[sqlite3.Connection]:
    for file in released.FILES:
        with closing(sqlite3.connect(state / file)) as db:
            yield db


@pytest.mark.parametrize("file", released.FILES)
def test_a_newer_schema_is_refused_with_the_way_out(shape: StoreShape, file: str) -> None:
    path = shape.path.with_name(file)
    steps = file.partition(".")[0]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name) VALUES (?, 'broker_900_later')", (steps,)
        )
        db.execute(f"PRAGMA user_version = {schema.number_of('2.7.1')}")
    before = path.read_bytes()
    with pytest.raises(Unusable) as refused:
        schema.migrate(shape.path, shape)
    for words in (str(path), "hyperhive 2.7.1", f"this is {VERSION}", "broker_900_later", "hivectl restore"):
        assert words in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("file", released.FILES)
@pytest.mark.parametrize("damage", ["page", "head", "text"])
def test_a_damaged_file_is_not_served(db: Db, shape: StoreShape, file: str, damage: str) -> None:
    for number in range(2_000):
        db.execute("INSERT INTO keys VALUES (?, 'x', x'00', x'00', 1)", (number.to_bytes(16, "big"),))
        db.execute("INSERT INTO turn_events VALUES (1, ?, x'00')", (number,))
    db.close()
    path = shape.path.with_name(file)
    content = bytearray(path.read_bytes())
    if damage == "page":
        content[-4_096:] = b"\xff" * 4_096
    elif damage == "head":
        content[100:200] = b"\xff" * 100
    else:
        content = bytearray(b"dear diary")
    path.write_bytes(content)
    with pytest.raises(Unusable) as refused:
        schema.migrate(shape.path, shape)
    assert str(refused.value).startswith(f"{path}: the database is damaged")
    assert "hivectl restore" in str(refused.value)


@pytest.mark.parametrize("is_empty", [True, False])
def test_messages_that_were_taken_away_are_missed(shape: StoreShape, *, is_empty: bool) -> None:
    broker = shape.attached["broker"]
    broker.unlink()
    if is_empty:
        broker.touch()
    with pytest.raises(Unusable, match=r"broker\.sqlite: is missing or empty"):
        schema.migrate(shape.path, shape)
    shape.path.unlink()
    schema.migrate(shape.path, shape)


def test_a_large_file_is_looked_through_at_the_start_only_when_it_is_doubted(
    db: Db, shape: StoreShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise that is done while brokerd serves (brokerd.upkeep.look_through)."""
    db.close()
    monkeypatch.setattr(soundness, "CHECKED_FIRST_BYTES_MAX", 4_096)
    monkeypatch.setattr(soundness, "faults", lambda *_: ["a fault"])
    schema.migrate(shape.path, shape)
    folder.doubt(shape.path.parent)
    with pytest.raises(Unusable, match="a fault"):
        schema.migrate(shape.path, shape)
    monkeypatch.undo()
    schema.migrate(shape.path, shape)
    assert not folder.is_doubted(shape.path.parent)


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
