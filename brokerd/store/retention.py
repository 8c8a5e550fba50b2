"""Removing what is over for long enough, a few rows at a time.

Looking and removing are apart: what may go is looked for by a reader, page by page, and the writer, which everybody
else waits for, only removes what it is told, after it has made sure of it. Numbers grow with time, but for a clock that
was set back, so it is over with the first page whose rows are all too young.
"""

import json
from collections.abc import Sequence
from itertools import chain
from typing import Final, TypeAlias

from msgspec import Struct

from brokerd.store import history, rows, search
from protocol.names import OPERATOR
from runtime.store import Db

LOOKED_AT_ROWS: Final = 1_000
"""Rows in one look."""
CHARS_MAX: Final = 128 * 1024
"""Of bodies that are removed in one transaction, about: each word is taken out of the index."""

IS_OVER: Final = (
    "m.sent_ms < ?2 AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.id BETWEEN m.id << 7 AND (m.id << 7) + 127 "
    "AND (d.state NOT IN ('done', 'dead') OR d.changed_ms >= ?2))"
)
MESSAGES: Final = (
    f"SELECT m.id, m.sent_ms AS began_ms, {IS_OVER} AS is_over FROM messages AS m WHERE m.id > ?1 "
    "ORDER BY m.id LIMIT ?3"
)
STILL_OVER: Final = (
    "SELECT m.id, length(m.body) AS size FROM json_each(?1) AS asked "
    f"CROSS JOIN messages AS m ON m.id = asked.value WHERE {IS_OVER}"
)
REMOVE_DELIVERIES: Final = (
    "DELETE FROM deliveries WHERE id IN (SELECT d.id FROM json_each(?) AS gone "
    "CROSS JOIN deliveries AS d ON d.id BETWEEN gone.value << 7 AND (gone.value << 7) + 127)"
)
REMOVE_MESSAGES: Final = "DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?))"
COUNT_GONE: Final = "UPDATE retention SET messages_gone = messages_gone + ?"

TURNS: Final = (
    "SELECT t.id, t.began_ms, t.ended_ms < ?2 AND ("
    "EXISTS (SELECT 1 FROM turns AS later WHERE later.agent = t.agent AND later.id > t.id) "
    "OR NOT EXISTS (SELECT 1 FROM agents WHERE name = t.agent)) AS is_over "
    "FROM turns AS t WHERE t.id > ?1 ORDER BY t.id LIMIT ?3"
)
"""An agent's last turn stays as long as the agent: it says since when nothing happened."""
REMOVE_TURNS: Final = "DELETE FROM turns WHERE id IN (SELECT value FROM json_each(?)) AND ended_ms < ?"

QUESTIONS: Final = (
    "SELECT id, asked_ms AS began_ms, ended_ms < ?2 AS is_over FROM questions WHERE id > ?1 "
    "ORDER BY id LIMIT ?3"
)
REMOVE_QUESTIONS: Final = (
    "DELETE FROM questions WHERE id IN (SELECT value FROM json_each(?)) AND ended_ms < ?"
)

NEXT_WITH_EVENTS: Final = "SELECT min(turn) AS turn FROM turn_events WHERE turn > ?"
TURN: Final = "SELECT began_ms, ended_ms FROM turns WHERE id = ?"
REMOVE_EVENTS: Final = (
    "DELETE FROM turn_events WHERE (turn, n) IN (SELECT e.turn, e.n FROM json_each(?) AS over "
    "CROSS JOIN turn_events AS e ON e.turn = over.value LIMIT ?)"
)

KEYS: Final = "SELECT key, sender, at_ms FROM keys WHERE (key, sender) > (?, ?) ORDER BY key, sender LIMIT ?"
REMOVE_KEYS_HEAD: Final = "DELETE FROM keys WHERE (key, sender) IN (SELECT column1, column2 FROM (VALUES"
REMOVE_KEYS_TAIL: Final = ")) AND at_ms < ?"
OLDEST_OPEN: Final = (
    "SELECT o.recipient, m.sent_ms FROM ("
    "SELECT recipient, min(id) AS id FROM deliveries WHERE state = 'queued' GROUP BY recipient UNION ALL "
    "SELECT recipient, min(id) FROM deliveries WHERE state = 'in_turn' GROUP BY recipient UNION ALL "
    "SELECT recipient, min(id) FROM deliveries WHERE state = 'dead' GROUP BY recipient) AS o "
    f"CROSS JOIN messages AS m ON m.id = o.id >> 7 WHERE o.recipient != '{OPERATOR}'"
)

KeyPlace: TypeAlias = tuple[bytes, str]
"""A key, and whose it is."""
FIRST_KEY: Final[KeyPlace] = (b"", "")


class Found(Struct, frozen=True):
    """Numbers of rows that may go, and where the next look begins; None when all are young from there on."""

    numbers: tuple[int, ...]
    place: int | None


def old_messages(db: Db, after: int, before_ms: int) -> Found:
    """Messages whose last delivery ended before a time."""
    return _look(db, MESSAGES, after, before_ms)


def old_turns(db: Db, after: int, before_ms: int) -> Found:
    """Turns that ended before a time."""
    return _look(db, TURNS, after, before_ms)


def old_questions(db: Db, after: int, before_ms: int) -> Found:
    """Questions that ended before a time."""
    return _look(db, QUESTIONS, after, before_ms)


def _look(db: Db, statement: str, after: int, before_ms: int) -> Found:
    looked_at = db.execute(statement, (after, before_ms, LOOKED_AT_ROWS)).fetchall()
    found = tuple(row["id"] for row in looked_at if row["is_over"])
    is_full = len(looked_at) == LOOKED_AT_ROWS
    has_old = any(row["began_ms"] < before_ms for row in looked_at)
    return Found(found, looked_at[-1]["id"] if is_full and has_old else None)


def remove_messages(db: Db, numbers: Sequence[int], before_ms: int) -> int:
    """Remove messages with all that belongs to them, as far as they are still over; fewer when they are long."""
    over: list[int] = []
    chars = 0
    for row in db.execute(STILL_OVER, (json.dumps(numbers), before_ms)).fetchall():
        over.append(row["id"])
        chars += row["size"]
        if chars >= CHARS_MAX:
            break
    gone = json.dumps(over)
    search.forget(db, gone)
    history.forget(db, gone)
    db.execute(REMOVE_DELIVERIES, (gone,))
    db.execute(REMOVE_MESSAGES, (gone,))
    db.execute(COUNT_GONE, (len(over),))
    return len(over)


def remove_turns(db: Db, numbers: Sequence[int], before_ms: int) -> int:
    return db.execute(REMOVE_TURNS, (json.dumps(numbers), before_ms)).rowcount


def remove_questions(db: Db, numbers: Sequence[int], before_ms: int) -> int:
    return db.execute(REMOVE_QUESTIONS, (json.dumps(numbers), before_ms)).rowcount


def turns_with_old_events(db: Db, after: int, before_ms: int) -> Found:
    """Turns that ended before a time, or are not in the journal any more, and whose events are still there."""
    found: list[int] = []
    place, has_old = after, False
    for _ in range(LOOKED_AT_ROWS):
        place = db.execute(NEXT_WITH_EVENTS, (place,)).fetchone()["turn"]
        if place is None:
            return Found(tuple(found), None)
        turn = db.execute(TURN, (place,)).fetchone()
        has_old |= turn is None or turn["began_ms"] < before_ms
        if turn is None or (turn["ended_ms"] is not None and turn["ended_ms"] < before_ms):
            found.append(place)
    return Found(tuple(found), place if has_old else None)


def remove_events(db: Db, turns: Sequence[int], limit: int) -> int:
    """Remove events of these turns, at most `limit`; how many there were."""
    return db.execute(REMOVE_EVENTS, (json.dumps(turns), limit)).rowcount


class FoundKeys(Struct, frozen=True):
    """Keys that may go, and where the next look begins; None at the end."""

    keys: tuple[KeyPlace, ...]
    place: KeyPlace | None


def oldest_open(db: Db) -> dict[str, int]:
    """Since when each agent has something that may drive a turn (again), which then uses the same keys."""
    found: dict[str, int] = {}
    for row in db.execute(OLDEST_OPEN):
        found[row["recipient"]] = min(row["sent_ms"], found.get(row["recipient"], row["sent_ms"]))
    return found


def old_keys(db: Db, after: KeyPlace, before_ms: int, needed: dict[str, int]) -> FoundKeys:
    """Keys older than a time, but for those that a turn may use again (`oldest_open`)."""
    looked_at = db.execute(KEYS, (*after, LOOKED_AT_ROWS)).fetchall()
    found = tuple(
        (row["key"], row["sender"])
        for row in looked_at
        if row["at_ms"] < min(before_ms, needed.get(row["sender"], before_ms))
    )
    last = looked_at[-1] if len(looked_at) == LOOKED_AT_ROWS else None
    return FoundKeys(found, None if last is None else (last["key"], last["sender"]))


def remove_keys(db: Db, keys: Sequence[KeyPlace], before_ms: int) -> int:
    gone = 0
    for part in rows.parts(keys):
        statement = rows.values(REMOVE_KEYS_HEAD, len(part), 2) + REMOVE_KEYS_TAIL
        gone += db.execute(statement, (*chain.from_iterable(part), before_ms)).rowcount
    return gone
