"""Finding messages by their words, newest first.

What is indexed is asked of the index. The messages after its head, a second's worth as a rule, go into an index of the
same kind in memory, made for this one search: so both mean the same by a word.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final

from msgspec import Struct

from brokerd.policy.search import Search, expression
from brokerd.store import deliveries
from brokerd.store.messages import COLUMNS, NEWER_THAN_ALL, message_from
from protocol.messages import Message
from runtime.store import Db

PARTIES: Final = (
    "m.sender || ' ' || coalesce((SELECT group_concat(d.recipient, ' ') FROM deliveries AS d "
    "WHERE d.id BETWEEN m.id << 7 AND (m.id << 7) + 127), '')"
)
ADD: Final = (
    f"INSERT INTO words (rowid, body, parties) SELECT m.id, m.body, {PARTIES} FROM messages AS m "
    "WHERE m.id > ? AND m.id <= ? ORDER BY m.id"
)
FORGET: Final = (
    f"INSERT INTO words (words, rowid, body, parties) SELECT 'delete', m.id, m.body, {PARTIES} "
    "FROM json_each(?) AS gone CROSS JOIN messages AS m ON m.id = gone.value "
    "CROSS JOIN words_docsize AS s ON s.id = m.id"
)
"""Only what the index has: to take out a message twice would break it."""
FORGET_ALL: Final = "INSERT INTO words (words) VALUES ('delete-all')"
SHAPES: Final = "SELECT sql FROM main.sqlite_schema WHERE name IN ('words', 'word_list') ORDER BY rowid"
HEAD: Final = "SELECT head FROM behind"
UNINDEXED: Final = (
    f"SELECT m.id, m.body, {PARTIES} AS parties FROM messages AS m WHERE m.id > ? AND m.id < ? "
    "ORDER BY m.id DESC LIMIT ?"
)
ADD_ONE: Final = "INSERT INTO words (rowid, body, parties) VALUES (?, ?, ?)"
MATCHING: Final = "SELECT rowid FROM words WHERE words MATCH ? AND rowid < ? ORDER BY rowid DESC LIMIT ?"
WORDS_IN_ORDER: Final = "SELECT term FROM word_list ORDER BY offset"
NEXT_WORD: Final = "SELECT term FROM word_list WHERE term >= ? LIMIT 1"
READ: Final = f"SELECT {COLUMNS} FROM messages WHERE id = ?"

UNINDEXED_ROWS_MAX: Final = 2_000
"""Messages that are looked at without the index for one page; it may come out short, its `before` leads on."""
UNINDEXED_CHARS_MAX: Final = 1024 * 1024
"""… and of their bodies."""
COMPLETIONS_MAX: Final = 64
"""Words that a beginning stands for, which are asked for one by one; past that, their lists are merged first."""
INDEXED_BEGINNING_CHARS: Final = 3
"""Beginnings of two and three characters have an index of their own (`prefix` in brokerd.store.schema)."""


class Hits(Struct, frozen=True):
    """Numbers of messages, newest first, and where older ones begin (None at the end)."""

    messages: tuple[int, ...]
    before: int | None


def newest(
    db: Db, search: Search, agent: str | None, before: int | None, limit: int
) -> tuple[list[Message], int | None]:
    """Messages with their deliveries, newest first, and where older ones begin (None at the end)."""
    hits = find(db, search, agent, NEWER_THAN_ALL if before is None else before, limit)
    rows = [db.execute(READ, (each,)).fetchone() for each in hits.messages]
    found = [message_from(row, deliveries.of_message(db, row["id"])) for row in rows if row is not None]
    return found, hits.before


def find(db: Db, search: Search, agent: str | None, start: int, limit: int) -> Hits:
    """The newest messages before `start`. The index may know some that are gone since."""
    head: int = db.execute(HEAD).fetchone()["head"]
    with _scratch(db) as scratch:
        stopped_at = _copy_unindexed(db, scratch, head, start)
        found = _matching(scratch, expression(search, agent), NEWER_THAN_ALL, limit)
        if len(found) == limit:
            return Hits(tuple(found), found[-1])
        if stopped_at is not None:
            return Hits(tuple(found), stopped_at)
        completions = _completions(db, scratch, search)
    if completions is None or completions:
        indexed = expression(search, agent, completions)
        found += _matching(db, indexed, min(start, head + 1), limit - len(found))
    return Hits(tuple(found), found[-1] if len(found) == limit else None)


@contextmanager
def _scratch(db: Db) -> Iterator[Db]:
    """An index in memory that is made like the one on disk."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        for row in db.execute(SHAPES):
            scratch.execute(row["sql"])
        yield scratch


def _copy_unindexed(db: Db, scratch: Db, head: int, start: int) -> int | None:
    """Index what is not indexed yet, the newest first; the last message when it was too much for all of it."""
    copied, chars = 0, 0
    scratch.execute("BEGIN")
    for row in db.execute(UNINDEXED, (head, start, UNINDEXED_ROWS_MAX)):
        scratch.execute(ADD_ONE, tuple(row))
        copied, chars = copied + 1, chars + len(row["body"])
        if copied == UNINDEXED_ROWS_MAX or chars >= UNINDEXED_CHARS_MAX:
            scratch.execute("COMMIT")
            last: int = row["id"]
            return last
    scratch.execute("COMMIT")
    return None


def _matching(db: Db, asked: str, start: int, limit: int) -> list[int]:
    return [number for (number,) in map(tuple, db.execute(MATCHING, (asked, start, limit)))]


def _completions(db: Db, scratch: Db, search: Search) -> Sequence[str] | None:
    """All words of the index that the last one begins. None when the index had better find them itself."""
    if not search.may_be_beginning:
        return None
    scratch.execute(FORGET_ALL)
    scratch.execute(ADD_ONE, (1, search.last, ""))
    words = [word for (word,) in scratch.execute(WORDS_IN_ORDER)]
    if len(words) != 1 or len(words[0]) <= INDEXED_BEGINNING_CHARS:
        return None
    (beginning,) = words
    found: list[str] = []
    place = beginning
    while len(found) < COMPLETIONS_MAX:
        row = db.execute(NEXT_WORD, (place,)).fetchone()
        if row is None or not row["term"].startswith(beginning):
            return found
        found.append(row["term"])
        place = row["term"] + "\x01"
    return None


def add(db: Db, after: int, upto: int) -> None:
    """Index messages by their numbers, each once."""
    db.execute(ADD, (after, upto))


def forget(db: Db, numbers: str) -> None:
    """Take messages, given as a JSON list of numbers, out of the index while their text is still there."""
    db.execute(FORGET, (numbers,))


def forget_all(db: Db) -> None:
    db.execute(FORGET_ALL)
