"""The limit of a durable send: the rows that brokerd writes for one, in groups, by one loop over sqlite3 alone.

Nobody asks and nobody is answered: what is left is the database and the disk. The rows are brokerd's own: one message
is sent through its code, and every row that this left behind is written again and again under new keys, into the same
files with the same pragmas and indexes.

python -m bench.servers.commit_limit FOLDER SECONDS [ROWS_IN_A_GROUP]        prints its figures as JSON
"""

import json
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.measure import PAYLOAD
from brokerd.store import keys, messages, schema, wal
from brokerd.store.feed import FeedLog, open_feed
from brokerd.store.messages import Draft
from runtime.clock import new_request_key, now_ms
from runtime.store import connect

GROUP = int(sys.argv[3]) if len(sys.argv) > 3 else 64
WARM_GROUPS = 50
APART = 1_000
"""Ids are this far apart, as room for those that are made of others."""


@dataclass
class Left:
    """A row that a send left in a table, and which of its columns make the key."""

    table: str
    row: tuple[Any, ...]
    key: tuple[int, ...]

    @property
    def insert(self) -> str:
        return f"INSERT INTO {self.table} VALUES ({','.join('?' * len(self.row))})"

    def again(self, number: int) -> tuple[Any, ...]:
        """The row under a key that was not there yet."""
        values = list(self.row)
        for column in self.key:
            if isinstance(values[column], int):
                values[column] = number * APART
            elif isinstance(values[column], bytes):
                values[column] = number.to_bytes(16, "big")
        return tuple(values)


def opened(folder: Path) -> sqlite3.Connection:
    """Brokerd's databases with its pragmas, its schema and its grown log."""
    shape = schema.shape_of(folder / "broker.sqlite", folder / "events.sqlite")
    schema.migrate(shape.path, shape)
    db = connect(shape)
    in_one_commit(db, partial(open_feed, db, "bench"))
    for _ in range(wal.STEPS):
        in_one_commit(db, partial(wal.grow, db))
    in_one_commit(db, partial(wal.finish, db))
    return db


def in_one_commit(db: sqlite3.Connection, job: Callable[[], object]) -> None:
    db.execute("BEGIN IMMEDIATE")
    job()
    db.execute("COMMIT")


def tables(db: sqlite3.Connection) -> dict[str, int]:
    """Every table of every file, and how many rows it has."""
    found: dict[str, int] = {}
    for _, name, _ in db.execute("PRAGMA database_list").fetchall():
        for (table,) in db.execute(f"SELECT name FROM {name}.sqlite_schema WHERE type = 'table'").fetchall():
            if not table.startswith(("sqlite_", "_")):
                found[f"{name}.{table}"] = db.execute(f"SELECT count(*) FROM {name}.{table}").fetchone()[0]
    return found


def left_by_a_send(db: sqlite3.Connection) -> list[Left]:
    """The rows of one send."""
    before = tables(db)
    asked = keys.Asked("operator", bytes.fromhex(new_request_key()))
    draft = Draft(asked, b"d" * keys.DIGEST_BYTES, "a00", ("a00",), False, PAYLOAD, None)
    db.execute("BEGIN IMMEDIATE")
    log = FeedLog(db, now_ms())
    messages.send(db, log, [draft])
    log.flush(durable=True)
    db.execute("COMMIT")
    grown = [table for table, rows in tables(db).items() if rows > before[table]]
    return [Left(table, newest(db, table), key_of(db, table)) for table in grown]


def newest(db: sqlite3.Connection, table: str) -> tuple[Any, ...]:
    return tuple(db.execute(f"SELECT * FROM {table}").fetchall()[-1])


def key_of(db: sqlite3.Connection, table: str) -> tuple[int, ...]:
    name, _, bare = table.partition(".")
    return tuple(column[0] for column in db.execute(f"PRAGMA {name}.table_info({bare})") if column[5])


def write_group(db: sqlite3.Connection, rows: list[Left], number: int) -> int:
    """One transaction; the last number used."""
    numbers = range(number + 1, number + 1 + GROUP)
    db.execute("BEGIN IMMEDIATE")
    for row in rows:
        db.executemany(row.insert, [row.again(each) for each in numbers])
    db.execute("UPDATE feed_state SET head = ?", (number + GROUP,))
    db.execute("COMMIT")
    return number + GROUP


def main() -> None:
    """Write groups until the time is over; the first ones are not counted."""
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    db = opened(folder)
    rows = left_by_a_send(db)
    number = 1
    for _ in range(WARM_GROUPS):
        number = write_group(db, rows, number)
    counted_from, began, last, spent_s = number, time.monotonic(), time.monotonic(), time.process_time()
    taken: list[float] = []
    while last - began < seconds:
        number = write_group(db, rows, number)
        taken.append(time.monotonic() - last)
        last += taken[-1]
    rate = (number - counted_from) / (last - began)
    server_us = (time.process_time() - spent_s) * 1e6 / (number - counted_from)
    print(json.dumps({"calls_per_s": rate, "server_us": server_us, "p50_us": statistics.median(taken) * 1e6}))


if __name__ == "__main__":
    main()
