"""Occurrences: one for each time that a reminder fired, and what became of its message.

A reminder's delivery has a place of its own among the deliveries of a message (brokerd.store.deliveries), so that
whoever settles a delivery knows without asking whether there is an occurrence to settle with it.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, assert_never

from msgspec import Struct

from brokerd.store import reminders, rows
from brokerd.store.feed import FeedLog
from protocol.messages import DeliveryState
from protocol.reminders import ReminderRollup
from runtime.store import Db

INSERT: Final = (
    "INSERT OR FAIL INTO occurrences "
    "(reminder, due_ms, by_hand, agent, message, state, at_ms, changed_ms) VALUES"
)
FIRED_HEAD: Final = "WITH due (reminder, due_ms) AS (VALUES"
FIRED_TAIL: Final = (
    ") SELECT o.reminder FROM due CROSS JOIN occurrences AS o "
    "ON o.reminder = due.reminder AND o.due_ms = due.due_ms AND o.by_hand = 0"
)
LAST_BY_HAND: Final = "SELECT max(due_ms) FROM occurrences WHERE reminder = ? AND due_ms >= ? AND by_hand = 1"
OF_MESSAGE: Final = "SELECT reminder, due_ms, by_hand, state FROM occurrences WHERE message = ?"
SETTLE: Final = (
    "UPDATE occurrences SET state = ?, changed_ms = ? WHERE reminder = ? AND due_ms = ? AND by_hand = ?"
)
COUNT: Final = (
    "UPDATE reminders SET delivered = delivered + ?, failed = failed + ?, skipped = skipped + ?, "
    "waiting = CASE WHEN ?4 THEN coalesce(waiting, ?5) WHEN waiting = ?5 THEN NULL ELSE waiting END "
    f"WHERE id = ?6 RETURNING {reminders.COLUMNS}"
)
ROLL_UP: Final = (
    "SELECT agent, count(message) AS attempted, sum(state = 'delivered') AS delivered, "
    "sum(state = 'failed') AS failed, sum(state = 'skipped') AS skipped "
    "FROM occurrences INDEXED BY occurrences_at WHERE at_ms >= ? GROUP BY agent"
)
FORGET: Final = (
    "DELETE FROM occurrences WHERE (reminder, due_ms, by_hand) IN (SELECT reminder, due_ms, by_hand "
    "FROM occurrences INDEXED BY occurrences_settled WHERE state <> 'waiting' AND changed_ms < ? "
    "ORDER BY changed_ms LIMIT ?)"
)
FORGET_REMINDERS: Final = (
    "DELETE FROM reminders WHERE id IN (SELECT id FROM reminders INDEXED BY reminders_over_since "
    "WHERE state <> 'active' AND changed_ms < ? ORDER BY changed_ms LIMIT ?)"
)


class State(StrEnum):
    """What became of an occurrence."""

    WAITING = "waiting"
    """Its message is sent and not settled."""
    DELIVERED = "delivered"
    FAILED = "failed"
    SKIPPED = "skipped"


class Occurrence(Struct, frozen=True):
    """One firing. `message` is None when none was sent, because the one before still waited."""

    reminder: int
    due_ms: int
    agent: str
    message: int | None
    by_hand: bool = False


def insert(db: Db, fired: Iterable[Occurrence], at_ms: int) -> None:
    """Each is new: that a reminder fires once for each time is the table's own rule."""
    rows.insert(db, INSERT, [_values(each, at_ms) for each in fired])


def _values(each: Occurrence, at_ms: int) -> tuple[Any, ...]:
    state = State.SKIPPED if each.message is None else State.WAITING
    return (
        each.reminder,
        each.due_ms,
        int(each.by_hand),
        each.agent,
        each.message,
        state.value,
        at_ms,
        at_ms,
    )


def fired(db: Db, due: list[tuple[int, int]]) -> set[int]:
    """Those reminders of (reminder, due time) that have fired for that time: the clock was set back since."""
    found: set[int] = set()
    for part in rows.parts(due) if due else ():
        statement = rows.values(FIRED_HEAD, len(part), 2) + FIRED_TAIL
        found.update(
            row["reminder"] for row in db.execute(statement, [each for pair in part for each in pair])
        )
    return found


def free_by_hand(db: Db, reminder: int, at_ms: int) -> int:
    """The first due time from `at_ms` on that no firing by hand has."""
    last: int | None = db.execute(LAST_BY_HAND, (reminder, at_ms)).fetchone()[0]
    return at_ms if last is None else last + 1


def settle(db: Db, log: FeedLog, message: int, state: DeliveryState, *, skipped: bool = False) -> None:
    """The delivery of a reminder's message changed: so does its occurrence, and the reminder counts it."""
    row = db.execute(OF_MESSAGE, (message,)).fetchone()
    if row is None:
        return
    before, after = State(row["state"]), State.SKIPPED if skipped else _state_for(state)
    if before is after:
        return
    db.execute(SETTLE, (after.value, log.at_ms, row["reminder"], row["due_ms"], row["by_hand"]))
    steps = [(after is each) - (before is each) for each in (State.DELIVERED, State.FAILED, State.SKIPPED)]
    counted = db.execute(COUNT, (*steps, int(after is State.WAITING), message, row["reminder"])).fetchone()
    if counted is not None:
        reminders.tell(log, counted)


def _state_for(state: DeliveryState) -> State:
    match state:
        case DeliveryState.DONE:
            return State.DELIVERED
        case DeliveryState.DEAD:
            return State.FAILED
        case DeliveryState.HELD | DeliveryState.QUEUED | DeliveryState.LEASED | DeliveryState.IN_TURN:
            return State.WAITING
        case _:
            assert_never(state)


class Tally(Struct, frozen=True):
    """What became of occurrences, by their number."""

    attempted: int = 0
    delivered: int = 0
    failed: int = 0
    skipped: int = 0


def tallies(db: Db, since_ms: int) -> dict[str, Tally]:
    """What became of the occurrences since a time, by agent; one who had none is missing."""
    return {
        row["agent"]: Tally(row["attempted"], row["delivered"], row["failed"], row["skipped"])
        for row in db.execute(ROLL_UP, (since_ms,))
    }


def roll_up(
    db: Db, agent: str | None, since_ms: int, counted: Mapping[str, Tally] | None = None
) -> ReminderRollup:
    """The same of one agent, or of all together, and how many reminders are still to fire.

    `counted` are the tallies since then, for whoever asks for many agents.
    """
    counted = tallies(db, since_ms) if counted is None else counted
    found = list(counted.values()) if agent is None else [counted.get(agent, Tally())]
    return ReminderRollup(
        since_ms=since_ms,
        attempted=sum(each.attempted for each in found),
        delivered=sum(each.delivered for each in found),
        failed=sum(each.failed for each in found),
        skipped=sum(each.skipped for each in found),
        waiting=reminders.count_open(db, agent),
    )


def forget_before(db: Db, at_ms: int, limit: int) -> int:
    """Remove occurrences that were settled before a time, and reminders that ended before it; at most `limit`."""
    removed = db.execute(FORGET, (at_ms, limit)).rowcount
    return removed + db.execute(FORGET_REMINDERS, (at_ms, limit - removed)).rowcount
