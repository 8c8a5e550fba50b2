"""The write-ahead log is grown once and then written over."""

from brokerd.store import wal
from runtime.store import Db, StoreShape


def commit(db: Db, statement: str = "", *values: object) -> None:
    db.execute("BEGIN IMMEDIATE")
    if statement:
        db.execute(statement, values)
    db.execute("COMMIT")


def test_it_does_not_grow_under_load(db: Db, shape: StoreShape) -> None:
    log = shape.path.with_name("broker.sqlite-wal")
    for step in (*[wal.grow] * wal.STEPS, wal.finish):
        db.execute("BEGIN IMMEDIATE")
        step(db)
        db.execute("COMMIT")
    grown = log.stat().st_size
    assert grown >= wal.CHECKPOINT_PAGES * wal.PAGE_BYTES
    for number in range(1_500):
        commit(db, "INSERT INTO keys VALUES (?, 'x', x'00', x'00', 1)", number.to_bytes(16, "big"))
    assert log.stat().st_size == grown
    assert db.execute("SELECT 1 FROM broker.sqlite_master WHERE name = 'wal_room'").fetchone() is None


def test_it_can_be_grown_again_at_the_next_start(db: Db) -> None:
    for _ in range(2):
        for step in (wal.grow, wal.grow, wal.finish):
            db.execute("BEGIN IMMEDIATE")
            step(db)
            db.execute("COMMIT")
