"""Refusals of the way out: a row for each agent, reason and destination of an hour. In events.sqlite."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from brokerd.store.feed import FeedLog
from protocol.brokerd import EgressRefused
from protocol.egressd import Refusal
from protocol.limited import EgressRefusal
from runtime.store import Db

COLUMNS: Final = "id, agent, why, host, port, times, first_ms, at_ms"
OF_HOUR: Final = (
    f"SELECT {COLUMNS} FROM egress_refusals WHERE agent = ? AND first_ms > ? AND first_ms <= ? "
    "ORDER BY id DESC LIMIT ?"
)
INSERT: Final = (
    "INSERT INTO egress_refusals (agent, why, host, port, times, first_ms, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?) "
    f"RETURNING {COLUMNS}"
)
AGAIN: Final = f"UPDATE egress_refusals SET times = times + ?, at_ms = ? WHERE id = ? RETURNING {COLUMNS}"
NEWEST: Final = f"SELECT {COLUMNS} FROM egress_refusals WHERE id < ? ORDER BY id DESC LIMIT ?"
NEWEST_OF: Final = (
    f"SELECT {COLUMNS} FROM egress_refusals WHERE agent = ? AND id < ? ORDER BY id DESC LIMIT ?"
)
SINCE: Final = f"SELECT {COLUMNS} FROM egress_refusals WHERE at_ms >= ? ORDER BY at_ms DESC LIMIT ?"
FORGET_BEFORE: Final = (
    "DELETE FROM egress_refusals WHERE id IN (SELECT id FROM egress_refusals WHERE at_ms < ? LIMIT ?)"
)

HOUR_MS: Final = 60 * 60 * 1000
HOUR_ROWS_MAX: Final = 100
"""Different destinations of one agent that are kept of an hour; past that only how often, and why."""
NEWER_THAN_ALL: Final = 2**62


class Turned(Struct, frozen=True):
    """That an agent was turned away so many times, for one reason, on its way to one place."""

    agent: str
    why: Refusal
    host: str
    port: int
    times: int
    at_ms: int


def refusal_from(row: sqlite3.Row) -> EgressRefusal:
    return EgressRefusal(
        id=row["id"],
        agent=row["agent"],
        why=Refusal(row["why"]),
        host=row["host"],
        port=row["port"],
        times=row["times"],
        first_ms=row["first_ms"],
        at_ms=row["at_ms"],
    )


def refused(db: Db, log: FeedLog, turned: Turned) -> None:
    """Count refusals: in the row of the last hour that is the same, or in a new one."""
    log.append(turned.agent, EgressRefused(refusal_from(_counted(db, turned))))


def _counted(db: Db, turned: Turned) -> sqlite3.Row:
    """The row that counts it. By egressd's clock, which is set back now and then: rows of the future do not count."""
    at_ms = turned.at_ms
    rows = db.execute(
        OF_HOUR, (turned.agent, at_ms - HOUR_MS, at_ms, HOUR_ROWS_MAX + len(Refusal))
    ).fetchall()
    is_full = len(rows) >= HOUR_ROWS_MAX
    same = _same(rows, turned.why, turned.host, turned.port)
    host, port = (turned.host, turned.port) if same is not None or not is_full else ("", 0)
    same = same if same is not None else _same(rows, turned.why, host, port)
    if same is not None:
        row: sqlite3.Row = db.execute(AGAIN, (turned.times, at_ms, same["id"])).fetchone()
        return row
    new = (turned.agent, turned.why.value, host, port, turned.times, at_ms, at_ms)
    added: sqlite3.Row = db.execute(INSERT, new).fetchone()
    return added


def _same(rows: Sequence[sqlite3.Row], why: Refusal, host: str, port: int) -> sqlite3.Row | None:
    wanted = (why.value, host, port)
    return next((row for row in rows if (row["why"], row["host"], row["port"]) == wanted), None)


def newest(db: Db, agent: str | None, before: int | None, limit: int) -> tuple[EgressRefusal, ...]:
    """The newest rows, of everybody or of one agent, newest first."""
    start = NEWER_THAN_ALL if before is None else before
    of_agent = () if agent is None else (agent,)
    found = db.execute(NEWEST_OF if of_agent else NEWEST, (*of_agent, start, limit))
    return tuple(refusal_from(row) for row in found)


def since(db: Db, at_ms: int, limit: int) -> tuple[EgressRefusal, ...]:
    """Rows that counted anything since a time, the oldest first."""
    return tuple(refusal_from(row) for row in db.execute(SINCE, (at_ms, limit)).fetchall())[::-1]


def forget_before(db: Db, before_ms: int, limit: int) -> int:
    """Remove what is older, at most `limit`; how many there were."""
    return db.execute(FORGET_BEFORE, (before_ms, limit)).rowcount
