"""Deliveries: one for each recipient of a message. `leased` is never written: it lives in memory.

A delivery's number says which message it is of, so that a message's deliveries stand side by side in the table.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from brokerd.policy import settling
from brokerd.policy.bodies import bytes_of
from brokerd.store import occurrences, rows
from brokerd.store.feed import FeedLog
from protocol.brokerd import DeliveryChanged
from protocol.messages import DeliveryState, Message, Receipt
from protocol.names import OPERATOR
from protocol.problem import Problem, Refused
from protocol.turns import Outcome
from runtime.store import Db, quick

PLACE_BITS: Final = 7
"""A message has at most 2 ** 7 deliveries (brokerd.policy.recipients.ALL_AT_ONCE_MAX is one less)."""
REMINDER_PLACE: Final = 2**PLACE_BITS - 1
"""The place of the one delivery of a reminder's message, which no other message's has: the number alone tells."""

COLUMNS: Final = "id, recipient, state, turn, attempts, changed_ms"
INSERT: Final = "INSERT OR FAIL INTO deliveries (id, recipient, state, changed_ms, bytes) VALUES"
READ: Final = f"SELECT {COLUMNS} FROM deliveries WHERE id = ?"
OF_MESSAGE: Final = f"SELECT {COLUMNS} FROM deliveries WHERE id BETWEEN ? AND ? ORDER BY id"
HAS_RECIPIENT: Final = "SELECT 1 FROM deliveries WHERE id BETWEEN ? AND ? AND recipient = ?"
OLDEST_QUEUED: Final = (
    f"SELECT {COLUMNS} FROM deliveries WHERE recipient = ? AND state = 'queued' ORDER BY id LIMIT ?"
)
STILL_QUEUED_HEAD: Final = "WITH told (id) AS (VALUES"
STILL_QUEUED_TAIL: Final = (
    f") SELECT {COLUMNS.replace('id,', 'd.id,')} FROM told CROSS JOIN deliveries AS d ON d.id = told.id "
    "WHERE d.state = 'queued'"
)
ANY_QUEUED: Final = (
    "SELECT r.value AS recipient FROM json_each(?) AS r WHERE EXISTS "
    "(SELECT 1 FROM deliveries WHERE recipient = r.value AND state = 'queued')"
)
BIND: Final = (
    "UPDATE deliveries SET state = 'in_turn', turn = ?2, attempts = ?3, changed_ms = ?4 WHERE id = ?1"
)
SETTLE: Final = "UPDATE deliveries SET state = ?2, turn = ?3, attempts = ?4, changed_ms = ?5 WHERE id = ?1"
CHANGE: Final = (
    "UPDATE deliveries SET state = ?, turn = ?, attempts = ?, changed_ms = ? WHERE id = ? "
    f"RETURNING {COLUMNS}, bytes"
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
COUNT_HELD: Final = (
    "SELECT recipient, count(*) AS open FROM deliveries WHERE state = 'held' GROUP BY recipient"
)
OLDEST_HELD: Final = "SELECT id FROM deliveries WHERE recipient = ? AND state = 'held' ORDER BY id LIMIT ?"
BYTES_OF: Final = (
    "SELECT recipient, sum(bytes) AS bytes FROM deliveries WHERE state = '{}' GROUP BY recipient"
)
WAITING_OF: Final = (
    "SELECT count(*) AS deliveries, coalesce(sum(d.bytes), 0) AS bytes FROM deliveries AS d "
    "CROSS JOIN messages AS m ON m.id = d.id >> 7 WHERE d.recipient = ? AND d.state = '{}' AND m.sender = ?"
)
OPEN: Final = (DeliveryState.HELD, DeliveryState.QUEUED, DeliveryState.IN_TURN)
"""States, as they are stored, of what is neither done nor dead."""


def id_of(message: int, place: int) -> int:
    return (message << PLACE_BITS) + place


def message_of(delivery: int) -> int:
    return delivery >> PLACE_BITS


def is_reminder(delivery: int) -> bool:
    return delivery & REMINDER_PLACE == REMINDER_PLACE


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


def new(
    message: int, recipients: Sequence[str], at_ms: int, *, held: bool = False, place: int = 0
) -> tuple[Receipt, ...]:
    """The deliveries of a message that is being sent, from `place` on; the operator's is never held."""
    first = id_of(message, place)
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
    """Those of *recipients* for whom something waits: in one statement, for a thousand are asked about at a time."""
    asked = msgspec.json.encode(list(recipients)).decode()
    return [row["recipient"] for row in db.execute(ANY_QUEUED, (asked,))]


def dead_since(db: Db, at_ms: int, limit: int) -> list[int]:
    """The messages of deliveries that died since a time, oldest death first."""
    return [message_of(row["id"]) for row in db.execute(DEAD_SINCE, (at_ms, limit))]


def open_counts(db: Db) -> dict[str, int]:
    """How many deliveries of each recipient are neither done nor dead."""
    counts: dict[str, int] = {}
    for statement in (COUNT_QUEUED, COUNT_IN_TURN, COUNT_HELD):
        for row in db.execute(statement):
            counts[row["recipient"]] = counts.get(row["recipient"], 0) + row["open"]
    return counts


def open_bytes(db: Db) -> dict[str, int]:
    """The bytes of the bodies of the same; all of them are looked at."""
    sizes: dict[str, int] = {}
    for state in OPEN:
        for row in db.execute(BYTES_OF.format(state.value)):
            sizes[row["recipient"]] = sizes.get(row["recipient"], 0) + row["bytes"]
    return sizes


class Bound(Struct, frozen=True, gc=False):
    """A delivery in a turn, the attempt at it among `attempts`. `size` is that of its message's body."""

    id: int
    recipient: str
    turn: int
    attempts: int
    size: int = 0

    def now(self, state: DeliveryState, turn: int | None, attempts: int, at_ms: int) -> Receipt:
        """The delivery after a change."""
        return Receipt(self.id, message_of(self.id), self.recipient, state, turn, attempts, at_ms)


def bind(db: Db, bound: Sequence[Bound], at_ms: int) -> list[Receipt]:
    """Put deliveries, which must be waiting, into turns; whoever asks for it tells what became of them."""
    db.executemany(BIND, [(each.id, each.turn, each.attempts, at_ms) for each in bound])
    return [each.now(DeliveryState.IN_TURN, each.turn, each.attempts, at_ms) for each in bound]


def settle(db: Db, log: FeedLog, ended: Sequence[tuple[Bound, Outcome]]) -> list[Receipt]:
    """Decide deliveries whose turns end; what becomes of each, which the end of its turn tells."""
    receipts: list[Receipt] = []
    for bound, outcome in ended:
        settled = settling.settle(outcome, bound.attempts)
        turn = None if settled.state is DeliveryState.QUEUED else bound.turn
        receipts.append(bound.now(settled.state, turn, settled.attempts, log.at_ms))
    db.executemany(SETTLE, [(r.id, r.state.value, r.turn, r.attempts, log.at_ms) for r in receipts])
    for receipt in receipts:
        if is_reminder(receipt.id):
            occurrences.settle(db, log, receipt.message, receipt.state)
    return receipts


def mark_read(db: Db, log: FeedLog, messages: Iterable[int]) -> int:
    """The operator has read these messages; the place in the feed after which that is known.

    Ones that were not for the operator, or read before, stay as they are.
    """
    for message in messages:
        for mine in of_message(db, message):
            if mine.recipient == OPERATOR and mine.state is DeliveryState.QUEUED:
                _change(db, log, mine.id, DeliveryState.DONE, None, mine.attempts)
    return log.last()


def bury(db: Db, log: FeedLog, recipient: str, limit: int) -> int:
    """Give up the oldest deliveries of an agent that is gone for good; how many there were."""
    waiting = queued(db, recipient, limit)
    for each in waiting:
        _change(db, log, each.id, DeliveryState.DEAD, None, each.attempts)
    return len(waiting)


def waiting_of(db: Db, recipient: str, sender: str) -> tuple[int, int]:
    """How many deliveries for a recipient, from one sender, wait to be read, and their bytes."""
    rows = [
        db.execute(WAITING_OF.format(state.value), (recipient, sender)).fetchone()
        for state in (DeliveryState.QUEUED, DeliveryState.HELD)
    ]
    return sum(row["deliveries"] for row in rows), sum(row["bytes"] for row in rows)


def held_for(db: Db, recipient: str, limit: int) -> list[int]:
    """The oldest held deliveries for a recipient."""
    return [row["id"] for row in db.execute(OLDEST_HELD, (recipient, limit))]


def settle_held(db: Db, log: FeedLog, delivery: int, state: DeliveryState) -> None:
    """A held delivery goes on (`queued`), or is given up (`dead`)."""
    _change(db, log, delivery, state, None, 0)


def revive(db: Db, log: FeedLog, delivery: int, known: frozenset[str]) -> int:
    """Queue a dead delivery as if it had never been tried; the place in the feed after which that is known.

    Refused: `not_found`, `conflict` when it is not dead, or when its recipient is none of the `known` agents.
    """
    row = db.execute(READ, (delivery,)).fetchone()
    if row is None:
        raise Refused(Problem.NOT_FOUND, f"there is no delivery {delivery}")
    if row["state"] != DeliveryState.DEAD:
        raise Refused(Problem.CONFLICT, f"delivery {delivery} is {row['state']}, not dead")
    if row["recipient"] not in known:
        raise Refused(Problem.CONFLICT, f"there is no agent {row['recipient']} any more")
    return _change(db, log, delivery, DeliveryState.QUEUED, None, 0, opened=1)


def skip(db: Db, log: FeedLog, delivery: int, recipient: str, *, is_leased: bool) -> None:
    """End a reminder's delivery without a turn; one that was ended so stays as it is.

    Refused: `not_found`, `conflict` for one that waits without a lease or is in a turn.
    """
    row = db.execute(READ, (delivery,)).fetchone()
    if row is None or row["recipient"] != recipient or not is_reminder(delivery):
        raise Refused(Problem.NOT_FOUND, f"{recipient} has no delivery {delivery} of a reminder")
    if row["state"] == DeliveryState.DONE and row["turn"] is None:
        return
    if row["state"] != DeliveryState.QUEUED or not is_leased:
        raise Refused(Problem.CONFLICT, f"the lease of delivery {delivery} was lost: it is {row['state']}")
    _change(db, log, delivery, DeliveryState.DONE, None, row["attempts"], skipped=True)


class Telling(Struct, frozen=True):
    """A delivery that was leased, or whose lease ended without a turn."""

    delivery: int
    is_leased: bool


@quick
def tell_leases(db: Db, log: FeedLog, changes: Iterable[Telling]) -> None:
    """Say in the feed that deliveries were leased or given back, as far as they still wait; the last word counts."""
    is_leased = {telling.delivery: telling.is_leased for telling in changes}
    for row in rows.ask(db, STILL_QUEUED_HEAD, [(each,) for each in is_leased], STILL_QUEUED_TAIL):
        state = DeliveryState.LEASED if is_leased[row["id"]] else DeliveryState.QUEUED
        changed = msgspec.structs.replace(receipt(row), state=state, changed_ms=log.at_ms)
        log.append(changed.recipient, DeliveryChanged(changed))


def _change(
    db: Db,
    log: FeedLog,
    delivery: int,
    state: DeliveryState,
    turn: int | None,
    attempts: int,
    opened: int | None = None,
    *,
    skipped: bool = False,
) -> int:
    """The place in the feed; `opened` as in feed.Entry. A reminder's occurrence follows its delivery.

    `skipped` is for a reminder's delivery that ends without a turn.
    """
    row = db.execute(CHANGE, (state.value, turn, attempts, log.at_ms, delivery)).fetchone()
    changed = receipt(row)
    place = tell(log, changed, row["bytes"], opened)
    if is_reminder(changed.id):
        occurrences.settle(db, log, changed.message, changed.state, skipped=skipped)
    return place


def tell(log: FeedLog, changed: Receipt, size: int, opened: int | None = None) -> int:
    """Say by itself what became of a delivery; the place in the feed. `opened` by default what the new state says."""
    if opened is None:
        opened = 0 if changed.state in OPEN else -1
    return log.append(changed.recipient, DeliveryChanged(changed), opened, opened * size)
