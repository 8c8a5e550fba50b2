"""The shape of webd's database, and how an older one becomes it."""

from pathlib import Path
from typing import Final

from runtime.store import StoreShape, connect

FILE: Final = "web.sqlite"

_STEPS: Final = (
    """
    CREATE TABLE links (
        code_hash BLOB PRIMARY KEY,
        operator TEXT NOT NULL,
        expires_ms INTEGER NOT NULL,
        used_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        token_hash BLOB NOT NULL UNIQUE,
        operator TEXT NOT NULL,
        address TEXT NOT NULL,
        browser TEXT NOT NULL,
        began_ms INTEGER NOT NULL,
        seen_ms INTEGER NOT NULL
    ) STRICT;
    """,
)
"""One step for each version; a step is never changed once released."""


def shape(folder: Path) -> StoreShape:
    return StoreShape(folder / FILE)


def migrate(path: Path, shape: StoreShape) -> None:
    """Bring the database at *path* up to date, each step in a transaction of its own."""
    db = connect(shape)
    try:
        path.chmod(0o600)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        for number, step in enumerate(_STEPS[version:], start=version + 1):
            db.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {number}; COMMIT;")
    finally:
        db.close()
