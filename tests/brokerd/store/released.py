"""Databases as a released version left them, kept as SQL: what every later version must be able to go on with.

released/<version>.<file>.sql holds the schema as sqlite remembers it, the steps that were taken, and the rows of a
small life. A released version's files are never written again.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from brokerd.store import folder

FOLDER = Path(__file__).with_name("released")
FILES = (folder.BROKER_FILE, folder.EVENTS_FILE)
SCHEMA = (
    "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite^_%' ESCAPE '^' "
    "AND (type <> 'table' OR name IN (SELECT name FROM pragma_table_list WHERE type <> 'shadow')) ORDER BY rowid"
)
QUOTED = "SELECT {columns} FROM {table}"


def script_of(version: str, file: str) -> Path:
    return FOLDER / f"{version}.{file}.sql"


def versions() -> list[str]:
    """Those whose databases are kept, oldest first."""
    suffix = f".{FILES[0]}.sql"
    found = (path.name.removesuffix(suffix) for path in FOLDER.glob(f"*{suffix}"))
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


def schema_of(db: sqlite3.Connection) -> dict[str, str]:
    """Every table and index by name, with its SQL in one line."""
    return {name: " ".join(sql.split()) for _, name, sql in db.execute(SCHEMA)}


def written(file: Path) -> Iterator[str]:
    """A database as statements."""
    with closing(sqlite3.connect(file)) as db:
        (number,) = db.execute("PRAGMA user_version").fetchone()
        yield f"PRAGMA user_version = {number};"
        tables = []
        for kind, name, sql in db.execute(SCHEMA).fetchall():
            yield f"{sql};"
            if kind == "table" and "VIRTUAL" not in sql:
                tables.append(name)
        for name in (*tables, "sqlite_sequence"):
            yield from rows_of(db, name)


def rows_of(db: sqlite3.Connection, table: str) -> Iterator[str]:
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    if not columns:
        return
    quoted = " || ', ' || ".join(f'quote("{column}")' for column in columns)
    for (values,) in db.execute(f"SELECT {quoted} FROM {table}"):
        yield f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values});"


def lay(version: str, state: Path) -> None:
    """The databases of a version, in an empty folder."""
    for file in FILES:
        with closing(sqlite3.connect(state / file)) as db:
            db.executescript(
                f"BEGIN;\n{_without_sequence_clash(script_of(version, file).read_text())}\nCOMMIT;"
            )


def _without_sequence_clash(script: str) -> str:
    """Rows with numbers of their own have begun the sequences already."""
    place = script.find("INSERT INTO sqlite_sequence")
    return script if place < 0 else f"{script[:place]}DELETE FROM sqlite_sequence;\n{script[place:]}"
