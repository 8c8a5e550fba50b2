"""Deliveries: one for each recipient of a message. `leased` is never written: it lives in memory.

A delivery's number says which message it is of, so that a message's deliveries stand side by side in the table.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from brokerd.policy.bodies import bytes_of
from brokerd.policy.settling import settle
from brokerd.store import rows
from brokerd.store.feed import FeedLog, last_seq
from protocol.agent import TurnClosed
from protocol.brokerd import DeliveryChanged
from protocol.messages import DeliveryState, Message, Receipt
from protocol.names import OPERATOR
from protocol.turns import Outcome
from runtime.store import Db

PLACE_BITS: Final = 7
"""A message has at most 2 ** 7 deliveries (brokerd.policy.recipients.ALL_AT_ONCE_MAX)."""

COLUMNS: Final = "id, recipient, state, turn, attempts, changed_ms"
INSERT: Final = "INSERT INTO deliveries (id, recipient, state, changed_ms, bytes) VALUES"
READ: Final = f"SELECT {COLUMNS} FROM deliveries WHERE id = ?"
OF_MESSAGE: Final = f"SELECT {COLUMNS} FROM deliveries WHERE id BETWEEN ? AND ? ORDER BY id"
HAS_RECIPIENT: Final = "SELECT 1 FROM deliveries WHERE id BETWEEN ? AND ? AND recipient = ?"
OLDEST_QUEUED: Final = (
    f"SELECT {COLUMNS} FROM deliveries WHERE recipient = ? AND state = 'queued' ORDER BY id LIMIT ?"
)
IS_ANY_QUEUED: Final = "SELECT 1 FROM deliveries WHERE recipient = ? AND state = 'queued' LIMIT 1"
IN_TURN: Final = f"SELECT {COLUMNS} FROM deliveries WHERE turn = ? AND state = 'in_turn' ORDER BY id"
BIND: Final = (
    "UPDATE deliveries SET state = 'in_turn', turn = ?, attempts = attempts + 1, changed_ms = ? "
    f"WHERE id = ? AND recipient = ? AND state = 'queued' RETURNING {COLUMNS}"
)
SETTLE: Final = (
    "UPDATE deliveries SET state = ?, turn = ?, attempts = ?, changed_ms = ? WHERE id = ? "
    f"RETURNING {COLUMNS}"
)
DEAD_SINCE: Final = (
    "SELECT id FROM deliveries WHERE state = 'dead' AND changed_ms >= ? ORDER BY changed_ms LIMIT ?"
)
COUNT_QUEUED: Final = (
    "SELECT recipient, count(*) AS open FROM deliveries WHERE state = 'queued' GROUP BY recipient"
)
COUNT_IN_TURN: Final = (
    "SELECT recipient, count(*) AS open FROM deliveries WHERE state = 'in_turn' GROUP BY recipient"
)


def id_of(message: int, place: int) -> int:
    return (message << PLACE_BITS) + place


def message_of(delivery: int) -> int:
    return delivery >> PLACE_BITS


def _span(message: int) -> tuple[int, int]:
    return id_of(message, 0), id_of(message + 1, 0) - 1


def receipt(row: sqlite3.Row) -> Receipt:
    return Receipt(
        id=row["id"],
        message=message_of(row["id"]),
        recipient=row["recipient"],
        state=DeliveryState(row["state"]),
        turn=row["turn"],
        attempts=row["attempts"],
        changed_ms=row["changed_ms"],
    )


def new(message: int, recipients: Sequence[str], at_ms: int, *, held: bool = False) -> tuple[Receipt, ...]:
    """The deliveries of a message that is being sent; the operator's is never held."""
    first = id_of(message, 0)
    state = DeliveryState.HELD if held else DeliveryState.QUEUED
    return tuple(
        [
            Receipt(
                first + place,
                message,
                name,
                DeliveryState.QUEUED if name == OPERATOR else state,
                None,
                0,
                at_ms,
            )
            for place, name in enumerate(recipients)
        ]
    )


def insert(db: Db, stored: Iterable[Message]) -> None:
    """The deliveries of messages that are being stored."""
    new_rows: list[tuple[Any, ...]] = []
    for message in stored:
        size = bytes_of(message.body)
        new_rows += [
            (each.id, each.recipient, each.state.value, each.changed_ms, size) for each in message.deliveries
        ]
    rows.insert(db, INSERT, new_rows)


def read(db: Db, delivery: int) -> Receipt:
    return receipt(db.execute(READ, (delivery,)).fetchone())


def of_message(db: Db, message: int) -> tuple[Receipt, ...]:
    return tuple(receipt(row) for row in db.execute(OF_MESSAGE, _span(message)))


def is_recipient(db: Db, message: int, name: str) -> bool:
    return db.execute(HAS_RECIPIENT, (*_span(message), name)).fetchone() is not None


def queued(db: Db, recipient: str, limit: int) -> tuple[Receipt, ...]:
    """The oldest deliveries that wait for a recipient, a leased one among them."""
    return tuple(receipt(row) for row in db.execute(OLDEST_QUEUED, (recipient, limit)))


def any_queued(db: Db, recipients: Iterable[str]) -> list[str]:
    """Those of *recipients* for whom something waits."""
    return [name for name in recipients if db.execute(IS_ANY_QUEUED, (name,)).fetchone()]


def dead_since(db: Db, at_ms: int, limit: int) -> list[int]:
    """The messages of deliveries that died since a time, oldest death first."""
    return [message_of(row["id"]) for row in db.execute(DEAD_SINCE, (at_ms, limit))]


def open_counts(db: Db) -> dict[str, int]:
    """How many deliveries of each recipient are neither done nor dead."""
    counts: dict[str, int] = {}
    for statement in (COUNT_QUEUED, COUNT_IN_TURN):
        for row in db.execute(statement):
            counts[row["recipient"]] = counts.get(row["recipient"], 0) + row["open"]
    return counts


def bind(db: Db, log: FeedLog, delivery: int, recipient: str, turn: int) -> Receipt | None:
    """Put a waiting delivery into a turn, which counts as an attempt; None when it does not wait (any more)."""
    row = db.execute(BIND, (turn, log.at_ms, delivery, recipient)).fetchone()
    if row is None:
        return None
    bound = receipt(row)
    log.append(recipient, DeliveryChanged(bound))
    return bound


def settle_turn(db: Db, log: FeedLog, turn: int, outcome: Outcome) -> TurnClosed:
    """Decide every delivery of a turn that ends."""
    counts = dict.fromkeys((DeliveryState.DONE, DeliveryState.QUEUED, DeliveryState.DEAD), 0)
    for bound in [receipt(row) for row in db.execute(IN_TURN, (turn,))]:
        settled = settle(outcome, bound.attempts)
        kept_turn = None if settled.state is DeliveryState.QUEUED else turn
        _change(db, log, bound.id, settled.state, kept_turn, settled.attempts)
        counts[settled.state] += 1
    return TurnClosed(
        done=counts[DeliveryState.DONE],
        requeued=counts[DeliveryState.QUEUED],
        dead=counts[DeliveryState.DEAD],
    )


def mark_read(db: Db, log: FeedLog, messages: Iterable[int]) -> int:
    """The operator has read these messages; the place in the feed after which that is known.

    Ones that were not for the operator, or read before, stay as they are.
    """
    for message in messages:
        for mine in of_message(db, message):
            if mine.recipient == OPERATOR and mine.state is DeliveryState.QUEUED:
                _change(db, log, mine.id, DeliveryState.DONE, None, mine.attempts)
    return log.entries[-1].seq if log.entries else last_seq(db)


def bury(db: Db, log: FeedLog, recipient: str, limit: int) -> int:
    """Give up the oldest deliveries of an agent that is gone for good; how many there were."""
    waiting = queued(db, recipient, limit)
    for each in waiting:
        _change(db, log, each.id, DeliveryState.DEAD, None, each.attempts)
    return len(waiting)


class Telling(Struct, frozen=True):
    """A delivery that was leased, or whose lease ended without a turn."""

    delivery: int
    is_leased: bool


def tell_leases(db: Db, log: FeedLog, changes: Iterable[Telling]) -> None:
    """Say in the feed that deliveries were leased or given back, as far as they still wait."""
    for telling in changes:
        row = db.execute(READ, (telling.delivery,)).fetchone()
        if row is not None and row["state"] == DeliveryState.QUEUED:
            state = DeliveryState.LEASED if telling.is_leased else DeliveryState.QUEUED
            changed = msgspec.structs.replace(receipt(row), state=state, changed_ms=log.at_ms)
            log.append(changed.recipient, DeliveryChanged(changed))


def _change(
    db: Db, log: FeedLog, delivery: int, state: DeliveryState, turn: int | None, attempts: int
) -> None:
    row = db.execute(SETTLE, (state.value, turn, attempts, log.at_ms, delivery)).fetchone()
    changed = receipt(row)
    log.append(changed.recipient, DeliveryChanged(changed))
