"""Reminders: what is to be sent when, to whom, and how often it went well. Their firing is in brokerd.store.firing."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from brokerd.policy.reminders import check_active, check_edit, edited_schedule, not_found
from brokerd.policy.schedules import Wish, is_recurring, next_after, schedule_of
from brokerd.store import keys
from brokerd.store.feed import FeedLog
from brokerd.store.keys import Asked, First
from protocol.brokerd import EditReminder, ReminderChanged
from protocol.limits import REMINDERS_OPEN_MAX
from protocol.problem import Problem, Refused
from protocol.reminders import AnySchedule, Reminder, ReminderState
from runtime.store import Db
from runtime.zones import zone_of

COLUMNS: Final = (
    "id, agent, set_by, body, schedule, only_if, state, created_ms, next_ms, last_ms, "
    "attempted, delivered, failed, skipped, waiting, standing"
)
READ: Final = f"SELECT {COLUMNS} FROM reminders WHERE id = ?"
INSERT: Final = (
    "INSERT INTO reminders (agent, set_by, body, schedule, recurs, only_if, state, created_ms, changed_ms, next_ms, "
    f"standing) VALUES (?, ?, ?, ?, ?, ?, 'active', ?7, ?7, ?8, ?9) RETURNING {COLUMNS}"
)
EDIT: Final = (
    "UPDATE reminders SET body = ?, schedule = ?, recurs = ?, only_if = ?, next_ms = ? "
    f"WHERE id = ? RETURNING {COLUMNS}"
)
MOVE: Final = f"UPDATE reminders SET next_ms = ? WHERE id = ? RETURNING {COLUMNS}"
END: Final = (
    f"UPDATE reminders SET state = ?, next_ms = NULL, changed_ms = ? WHERE id = ? RETURNING {COLUMNS}"
)
IS_AGENT: Final = "SELECT 1 FROM agents WHERE name = ?"
COUNT_OPEN_OF: Final = "SELECT count(*) FROM reminders WHERE agent = ? AND state = 'active'"
COUNT_OPEN: Final = "SELECT count(*) FROM reminders WHERE state = 'active'"
ONLY_IF: Final = "SELECT only_if FROM reminders WHERE id = ?"
NEXT: Final = "SELECT min(next_ms) FROM reminders INDEXED BY reminders_due WHERE state = 'active'"
OPEN_OF: Final = "SELECT id FROM reminders WHERE agent = ? AND state = 'active' LIMIT ?"
AGENTS_WITH_OPEN: Final = "SELECT DISTINCT agent FROM reminders WHERE state = 'active'"
SET_CLOCK: Final = "UPDATE reminder_clock SET at_ms = ?"
READ_CLOCK: Final = "SELECT at_ms FROM reminder_clock"
RECURRING: Final = (
    "SELECT id, schedule, next_ms FROM reminders INDEXED BY reminders_recurring "
    "WHERE id > ? AND state = 'active' AND recurs ORDER BY id LIMIT ?"
)

ACTIVE: Final = (
    f"SELECT {COLUMNS} FROM reminders WHERE state = 'active' AND (next_ms, id) > (?, ?) "
    "ORDER BY next_ms, id LIMIT ?"
)
ACTIVE_OF: Final = (
    f"SELECT {COLUMNS} FROM reminders WHERE agent = ?4 AND state = 'active' AND (next_ms, id) > (?1, ?2) "
    "ORDER BY next_ms, id LIMIT ?3"
)
OVER: Final = f"SELECT {COLUMNS} FROM reminders WHERE state <> 'active' AND id < ? ORDER BY id DESC LIMIT ?"
OVER_OF: Final = (
    f"SELECT {COLUMNS} FROM reminders WHERE agent = ?3 AND state <> 'active' AND id < ?1 "
    "ORDER BY id DESC LIMIT ?2"
)

_encoder = msgspec.json.Encoder()
_schedule_decoder: msgspec.json.Decoder[AnySchedule] = msgspec.json.Decoder(AnySchedule)
_reminder_decoder = msgspec.json.Decoder(Reminder)


class NewReminder(Struct, frozen=True):
    """A reminder that policy has let pass. `asked` and `digest` make a repeat of the request harmless."""

    asked: Asked
    digest: bytes
    agent: str
    body: str
    wish: Wish
    only_if: str | None


class Wanted(Struct, frozen=True):
    """A reminder that is to be made. `standing` is its name where an agent's configuration sets it."""

    agent: str
    set_by: str
    body: str
    schedule: AnySchedule
    only_if: str | None
    standing: str | None = None


def reminder_from(row: sqlite3.Row) -> Reminder:
    """Raises DecodeError when the row's schedule cannot be read."""
    return Reminder(
        id=row["id"],
        agent=row["agent"],
        set_by=row["set_by"],
        body=row["body"],
        schedule=_schedule_decoder.decode(row["schedule"]),
        state=ReminderState(row["state"]),
        created_ms=row["created_ms"],
        only_if=row["only_if"],
        next_ms=row["next_ms"],
        last_ms=row["last_ms"],
        attempted=row["attempted"],
        delivered=row["delivered"],
        failed=row["failed"],
        skipped=row["skipped"],
        standing=row["standing"],
    )


def tell(log: FeedLog, row: sqlite3.Row) -> Reminder:
    """Say in the feed what a reminder is now."""
    reminder = reminder_from(row)
    log.append(reminder.agent, ReminderChanged(reminder))
    return reminder


def read(db: Db, reminder: int) -> Reminder:
    """One reminder; `not_found`."""
    row = db.execute(READ, (reminder,)).fetchone()
    if row is None:
        raise not_found(reminder)
    return reminder_from(row)


def find(db: Db, reminder: int) -> Reminder | None:
    """One reminder, or None."""
    row = db.execute(READ, (reminder,)).fetchone()
    return None if row is None else reminder_from(row)


def find_set(db: Db, asked: Asked, digest: bytes) -> Reminder | None:
    """The first answer to a key that was used. Refused(conflict) when it was for something else."""
    first = keys.find(db, [asked]).get(asked)
    return None if first is None else _reminder_decoder.decode(keys.check_same(first, digest))


def set_reminder(db: Db, log: FeedLog, new: NewReminder, at_ms: int) -> Reminder:
    """Store a reminder. A repeat gets the first answer; `not_found` and `limit` are of the agent."""
    first = find_set(db, new.asked, new.digest)
    if first is not None:
        return first
    if db.execute(IS_AGENT, (new.agent,)).fetchone() is None:
        raise Refused(Problem.NOT_FOUND, f"there is no agent {new.agent}")
    if count_open(db, new.agent) >= REMINDERS_OPEN_MAX:
        raise Refused(
            Problem.LIMIT,
            f"{new.agent} has {REMINDERS_OPEN_MAX} reminders that are still to fire; cancel some",
        )
    schedule = schedule_of(new.wish, at_ms, zone_of)
    wanted = Wanted(new.agent, new.asked.sender, new.body, schedule, new.only_if)
    reminder = insert(db, log, wanted, at_ms)
    keys.remember(db, [(new.asked, First(new.digest, _encoder.encode(reminder)))], log.at_ms)
    set_clock(db, at_ms)
    return reminder


def insert(db: Db, log: FeedLog, wanted: Wanted, at_ms: int) -> Reminder:
    """Make a reminder that nothing speaks against."""
    row = db.execute(
        INSERT,
        (
            wanted.agent,
            wanted.set_by,
            wanted.body,
            _encoder.encode(wanted.schedule),
            is_recurring(wanted.schedule),
            wanted.only_if,
            at_ms,
            next_of(wanted.schedule, at_ms),
            wanted.standing,
        ),
    ).fetchone()
    return tell(log, row)


def next_of(schedule: AnySchedule, at_ms: int) -> int | None:
    """When a schedule comes next; None when it never does."""
    return next_after(schedule, at_ms, zone_of)


def edit(db: Db, log: FeedLog, request: EditReminder, at_ms: int) -> Reminder:
    """Change a reminder that is still to fire. Refused: `not_found`, `conflict`, `malformed`."""
    check_edit(request)
    before = read(db, request.reminder)
    check_active(before)
    schedule = edited_schedule(request, before.schedule, at_ms, zone_of)
    only_if = None if request.always else request.only_if or before.only_if
    if schedule is not None:
        set_clock(db, at_ms)
    body = before.body if request.text is None else request.text
    next_ms = before.next_ms if schedule is None else next_of(schedule, at_ms)
    return rewrite(db, log, before, body, schedule or before.schedule, only_if, next_ms)


def rewrite(
    db: Db,
    log: FeedLog,
    before: Reminder,
    body: str,
    schedule: AnySchedule,
    only_if: str | None,
    next_ms: int | None,
) -> Reminder:
    """Change what a reminder says, and when it comes."""
    said = (body, _encoder.encode(schedule), is_recurring(schedule), only_if, next_ms, before.id)
    return tell(log, db.execute(EDIT, said).fetchone())


def cancel(db: Db, log: FeedLog, reminder: int) -> Reminder:
    """End a reminder before its time. A repeat is harmless; `conflict` when it has fired for the last time."""
    before = read(db, reminder)
    if before.state is ReminderState.CANCELLED:
        return before
    check_active(before)
    return _end(db, log, reminder, ReminderState.CANCELLED)


def cancel_if_active(db: Db, log: FeedLog, reminder: int) -> None:
    """End one that may have ended, or be forgotten."""
    there = find(db, reminder)
    if there is not None and there.state is ReminderState.ACTIVE:
        _end(db, log, reminder, ReminderState.CANCELLED)


def _end(db: Db, log: FeedLog, reminder: int, state: ReminderState) -> Reminder:
    return tell(log, db.execute(END, (state.value, log.at_ms, reminder)).fetchone())


def cancel_of(db: Db, log: FeedLog, agent: str, limit: int) -> int:
    """Cancel reminders of an agent that is gone for good, at most `limit`; how many there were."""
    found = db.execute(OPEN_OF, (agent, limit)).fetchall()
    for row in found:
        _end(db, log, row["id"], ReminderState.CANCELLED)
    return len(found)


def agents_with_open(db: Db) -> list[str]:
    """Whose reminders are still to fire."""
    return [row["agent"] for row in db.execute(AGENTS_WITH_OPEN)]


def next_due(db: Db) -> int | None:
    """When the next reminder is to fire; None when none is."""
    due_ms: int | None = db.execute(NEXT).fetchone()[0]
    return due_ms


def only_if_of(db: Db, reminder: int | None) -> str | None:
    """The command that says whether a turn is worth it."""
    row = db.execute(ONLY_IF, (reminder,)).fetchone()
    return None if row is None else row["only_if"]


def count_open(db: Db, agent: str | None = None) -> int:
    """Reminders that are still to fire, of one agent or of everybody."""
    found = db.execute(COUNT_OPEN) if agent is None else db.execute(COUNT_OPEN_OF, (agent,))
    count: int = found.fetchone()[0]
    return count


class Found(Struct, frozen=True):
    """Reminders in order, and why some rows among them cannot be read."""

    reminders: list[Reminder]
    faults: list[str]


def active(db: Db, agent: str | None, after: int | None, limit: int) -> Found:
    """Reminders that are still to fire, by their time, those behind the reminder `after` only."""
    place: tuple[int, int] = (-1, 0)
    if after is not None:
        row = db.execute(READ, (after,)).fetchone()
        if row is None or row["next_ms"] is None:
            raise Refused(Problem.NOT_FOUND, f"reminder {after} is not to fire any more: list from the start")
        place = (row["next_ms"], after)
    if agent is None:
        return _found(db, ACTIVE, (*place, limit))
    return _found(db, ACTIVE_OF, (*place, limit, agent))


def over(db: Db, agent: str | None, before: int, limit: int) -> Found:
    """Reminders that have ended, newest first, those before a number only."""
    return _found(db, OVER, (before, limit)) if agent is None else _found(db, OVER_OF, (before, limit, agent))


def _found(db: Db, statement: str, values: Sequence[Any]) -> Found:
    found = Found([], [])
    for row in db.execute(statement, values):
        try:
            found.reminders.append(reminder_from(row))
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as fault:
            found.faults.append(f"reminder {row['id']}: {fault}")
    return found


def set_clock(db: Db, at_ms: int) -> None:
    """Remember the wall clock by which a next time was worked out."""
    db.execute(SET_CLOCK, (at_ms,))


def clock(db: Db) -> int:
    """The wall clock by which a next time was worked out last."""
    at_ms: int = db.execute(READ_CLOCK).fetchone()[0]
    return at_ms


def work_out_anew(db: Db, log: FeedLog, after: int, at_ms: int, limit: int) -> int | None:
    """The clock went back: those whose schedule has an earlier time than the one they wait for get that one.

    One step, behind the reminder `after`; the last one that was looked at, None at the end.
    """
    rows = db.execute(RECURRING, (after, limit)).fetchall()
    for row in rows:
        try:
            following = next_after(_schedule_decoder.decode(row["schedule"]), at_ms, zone_of)
        except (msgspec.DecodeError, Refused):
            continue  # its firing will tell
        if following is not None and following < row["next_ms"]:
            tell(log, db.execute(MOVE, (following, row["id"])).fetchone())
    set_clock(db, at_ms)
    return rows[-1]["id"] if len(rows) == limit else None
