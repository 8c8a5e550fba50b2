"""Examples of one property share a database: each is taken back, also when it failed."""

from collections.abc import Iterator
from contextlib import contextmanager

from runtime.store import Db


@contextmanager
def undone(db: Db) -> Iterator[None]:
    """Take back what is written inside."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")
