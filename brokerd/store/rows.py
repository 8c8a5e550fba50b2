"""Many rows by few statements.

A statement for each row would let go of the interpreter lock for each row, and beside a busy event loop every
return costs a wait. Sizes are few, so that all of them stay in the connection's cache of prepared statements.

They are written `OR FAIL`: a row that cannot be stored fails the statement, and the job that it belongs to is undone
as a whole. Without these words sqlite would get ready to undo the one statement alone: it copies every page before it
is changed, and past 64 KiB into a file of its own. That was 40 % of all that a send wrote.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final, TypeVar

from runtime.store import Db

T = TypeVar("T")

SMALL: Final = 16
"""Up to this many rows make one statement; more go by LARGE ones first."""
LARGE: Final = (64, 32, 16)


def insert(db: Db, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Run *statement*, an `INSERT OR FAIL` that ends in `VALUES`, for all *rows*."""
    for part in parts(rows):
        db.execute(values(statement, len(part), len(part[0])), tuple(chain.from_iterable(part)))


def ask(db: Db, head: str, rows: Sequence[tuple[Any, ...]], tail: str, *more: Any) -> Iterator[sqlite3.Row]:
    """What *head*, which ends in `VALUES`, all *rows* and *tail* find together."""
    for part in parts(rows):
        statement = values(head, len(part), len(part[0])) + tail
        yield from db.execute(statement, (*chain.from_iterable(part), *more)).fetchall()


def parts(rows: Sequence[T]) -> list[Sequence[T]]:
    """Cut *rows* into few runs, whose lengths are LARGE or at most SMALL."""
    if len(rows) <= SMALL:
        return [rows] if rows else []
    cut: list[Sequence[T]] = []
    start = 0
    for size in LARGE:
        while len(rows) - start >= size:
            cut.append(rows[start : start + size])
            start += size
    if start < len(rows):
        cut.append(rows[start:])
    return cut


@cache
def values(statement: str, rows: int, columns: int) -> str:
    """*statement* followed by *rows* groups of placeholders."""
    group = f"({','.join('?' * columns)})"
    return f"{statement} {','.join([group] * rows)}"
