"""Parked threads: agents wrote to each other for too long, so what they write there is held until the operator decides.

A thread that was closed stays here with nothing held: what is written into it later is held again.
"""

import sqlite3
from typing import Final

from brokerd.store import deliveries
from brokerd.store.feed import FeedLog
from protocol.brokerd import ParkedThread, ThreadParked, ThreadReleased
from protocol.messages import DeliveryState, Message
from protocol.problem import Problem, Refused
from runtime.store import Db

COLUMNS: Final = "thread, agents, hops, held, first_held, since_ms"
READ: Final = f"SELECT {COLUMNS} FROM parked WHERE thread = ?"
READ_HOLDING: Final = f"SELECT {COLUMNS} FROM parked WHERE held > 0 ORDER BY since_ms, thread LIMIT ?"
WRITE: Final = f"INSERT OR REPLACE INTO parked ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
DELETE: Final = "DELETE FROM parked WHERE thread = ?"
HOLDING: Final = (
    "SELECT id FROM messages WHERE id = ?1 AND id >= ?2 "
    "UNION ALL SELECT id FROM messages WHERE thread = ?1 AND id >= ?2 ORDER BY id"
)
START_AGAIN: Final = "UPDATE messages SET hops = 0 WHERE id = ?"
THREAD_OF: Final = "SELECT coalesce(thread, id) AS thread FROM messages WHERE id = ?"

SHOWN_MAX: Final = 100
"""Of a snapshot; the oldest first."""


def parked_from(row: sqlite3.Row) -> ParkedThread:
    return ParkedThread(
        row["thread"], tuple(row["agents"].split()), row["hops"], row["held"], row["since_ms"]
    )


def read_holding(db: Db) -> tuple[ParkedThread, ...]:
    """Threads that hold something, the oldest first."""
    return tuple(parked_from(row) for row in db.execute(READ_HOLDING, (SHOWN_MAX,)))


def hold(db: Db, log: FeedLog, message: Message) -> None:
    """A message that is being stored is held; its thread is parked from now on, if it was not."""
    held = [each.recipient for each in message.deliveries if each.state is DeliveryState.HELD]
    row = db.execute(READ, (message.thread,)).fetchone()
    names = {message.sender, *held, *(row["agents"].split() if row else ())}
    is_holding = row is not None and row["held"] > 0
    parked = ParkedThread(
        thread=message.thread,
        agents=tuple(sorted(names)),
        hops=max(message.hops, row["hops"] if row else 0),
        held=len(held) + (row["held"] if row else 0),
        since_ms=row["since_ms"] if is_holding else log.at_ms,
    )
    _write(db, parked, row["first_held"] if is_holding else message.id)
    log.append(message.sender, ThreadParked(parked))


def bury(db: Db, log: FeedLog, recipient: str, limit: int) -> int:
    """Give up the oldest held deliveries for an agent that is gone for good; how many there were."""
    held = deliveries.held_for(db, recipient, limit)
    for delivery in held:
        deliveries.settle_held(db, log, delivery, DeliveryState.DEAD)
        thread = db.execute(THREAD_OF, (deliveries.message_of(delivery),)).fetchone()["thread"]
        row, parked = _read(db, thread)
        _shrink(db, log, parked, 1, row["first_held"])
    return len(held)


def release_some(db: Db, log: FeedLog, thread: int, limit: int) -> int | None:
    """Queue the next held deliveries; the place in the feed once none is left and the thread goes on, else None."""
    row, parked = _read(db, thread)
    freed, last = _free(db, log, row, limit, DeliveryState.QUEUED)
    if freed == limit:
        _shrink(db, log, parked, freed, last)
        return None
    db.execute(DELETE, (thread,))
    return log.append("", ThreadReleased(thread))


def close_some(db: Db, log: FeedLog, thread: int, limit: int) -> int | None:
    """Give up the next held deliveries; as `release_some`, but the thread stays parked."""
    row, parked = _read(db, thread)
    freed, last = _free(db, log, row, limit, DeliveryState.DEAD)
    if freed == limit:
        _shrink(db, log, parked, freed, last)
        return None
    _write(db, ParkedThread(thread, parked.agents, parked.hops, 0, parked.since_ms), last)
    return log.append("", ThreadReleased(thread))


def _read(db: Db, thread: int) -> tuple[sqlite3.Row, ParkedThread]:
    row = db.execute(READ, (thread,)).fetchone()
    if row is None:
        raise Refused(Problem.NOT_FOUND, f"thread {thread} is not parked")
    return row, parked_from(row)


def _free(db: Db, log: FeedLog, row: sqlite3.Row, limit: int, state: DeliveryState) -> tuple[int, int]:
    """Change at most `limit` held deliveries, the oldest first; how many, and the message of the last one."""
    freed, last = 0, row["first_held"]
    for found in db.execute(HOLDING, (row["thread"], row["first_held"])).fetchall():
        receipts = deliveries.of_message(db, found["id"])
        held = [each.id for each in receipts if each.state is DeliveryState.HELD]
        if held and state is DeliveryState.QUEUED:
            db.execute(START_AGAIN, (found["id"],))
        for each in held[: limit - freed]:
            deliveries.settle_held(db, log, each, state)
            freed, last = freed + 1, found["id"]
        if freed == limit:
            break
    return freed, last


def _shrink(db: Db, log: FeedLog, parked: ParkedThread, freed: int, first_held: int) -> None:
    left = ParkedThread(parked.thread, parked.agents, parked.hops, parked.held - freed, parked.since_ms)
    _write(db, left, first_held)
    log.append("", ThreadParked(left) if left.held else ThreadReleased(parked.thread))


def _write(db: Db, parked: ParkedThread, first_held: int) -> None:
    names = " ".join(parked.agents)
    db.execute(WRITE, (parked.thread, names, parked.hops, parked.held, first_held, parked.since_ms))
