"""The firing of reminders: an occurrence is recorded in the transaction that stores its message, or not at all."""

import sqlite3
from collections.abc import Container, Sequence
from enum import Enum, auto
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from brokerd.policy.reminders import check_active
from brokerd.policy.schedules import next_after
from brokerd.store import messages, occurrences, reminders, rows
from brokerd.store.feed import FeedLog
from brokerd.store.keys import Asked
from brokerd.store.messages import Draft
from brokerd.store.occurrences import Occurrence
from protocol.brokerd import ReminderChanged
from protocol.messages import SystemEvent
from protocol.problem import Problem, Refused
from protocol.reminders import Reminder, ReminderState
from runtime.store import Db
from runtime.zones import zone_of

AGAIN_MS: Final = 60_000
"""A reminder whose agent's inbox is full tries again so much later."""

DUE: Final = (
    "SELECT id, agent FROM reminders INDEXED BY reminders_due "
    "WHERE state = 'active' AND next_ms <= ? ORDER BY next_ms, id LIMIT ?"
)
STILL_DUE_HEAD: Final = "WITH due (number) AS (VALUES"
STILL_DUE_TAIL: Final = (
    f") SELECT {reminders.COLUMNS} FROM due CROSS JOIN reminders ON id = number "
    "WHERE state = 'active' AND next_ms <= ?"
)
WAITING: Final = "SELECT waiting FROM reminders WHERE id = ?"
UPDATE_HEAD: Final = "WITH after (id, state, next_ms, last_ms, attempted, skipped, waiting) AS (VALUES"
UPDATE_TAIL: Final = (
    ") UPDATE OR FAIL reminders SET state = after.state, next_ms = after.next_ms, last_ms = after.last_ms, "
    "attempted = after.attempted, skipped = after.skipped, waiting = after.waiting, "
    "changed_ms = iif(after.state = 'active', changed_ms, ?) FROM after WHERE reminders.id = after.id"
)
SPOIL: Final = "UPDATE reminders SET state = 'cancelled', next_ms = NULL, changed_ms = ? WHERE id = ?"


class Fired(Struct, frozen=True):
    """What one step did with reminders that were due. `faults` are of rows that cannot be read and fire no more."""

    due: int
    sent: int
    put_off: int
    """Because their agents' inboxes are full."""
    faults: tuple[str, ...] = ()


class _Act(Enum):
    SEND = auto()
    SKIP = auto()
    """The message of the occurrence before still waits."""
    PUT_OFF = auto()
    PASS = auto()
    """It has fired for this time: the clock was set back since."""


class _Step(Struct, frozen=True):
    """One reminder that is due: for which time, what is done, and the reminder afterwards."""

    due_ms: int
    act: _Act
    after: Reminder
    waiting: int | None


def find_due(db: Db, at_ms: int, limit: int) -> list[int]:
    """Reminders that are due by the wall clock `at_ms`: the earliest ones, those of an agent side by side.

    What belongs to an agent lies together in the database, so that few places of it change in each transaction.
    """
    due = db.execute(DUE, (at_ms, limit)).fetchall()
    return [row["id"] for row in sorted(due, key=itemgetter("agent"))]


def _still_due(db: Db, numbers: Sequence[int], at_ms: int) -> list[sqlite3.Row]:
    found: list[sqlite3.Row] = []
    for part in rows.parts(numbers) if numbers else ():
        statement = rows.values(STILL_DUE_HEAD, len(part), 1) + STILL_DUE_TAIL
        found += db.execute(statement, (*part, at_ms)).fetchall()
    return found


def fire_due(db: Db, log: FeedLog, numbers: Sequence[int], at_ms: int, full: Container[str]) -> Fired:
    """Fire those of the reminders that are (still) due by the wall clock `at_ms`, each once however late it is.

    One whose message before still waits is counted as skipped. Those of agents in `full` are put off.
    """
    due = _still_due(db, numbers, at_ms)
    known = occurrences.fired(db, [(row["id"], row["next_ms"]) for row in due])
    steps: list[_Step] = []
    faults: list[str] = []
    for row in due:
        try:
            reminder = reminders.reminder_from(row)
            following = next_after(reminder.schedule, at_ms, zone_of)
        except (msgspec.DecodeError, UnicodeDecodeError, Refused) as fault:
            faults.append(f"reminder {row['id']}: {fault}")
            db.execute(SPOIL, (log.at_ms, row["id"]))
            continue
        act = _act(row["waiting"], is_known=row["id"] in known, is_full=reminder.agent in full)
        after = _after(reminder, act, at_ms + AGAIN_MS if act is _Act.PUT_OFF else following, at_ms)
        steps.append(_Step(row["next_ms"], act, after, row["waiting"]))
    sent = _fire(db, log, steps, at_ms)
    if due:
        reminders.set_clock(db, at_ms)
    put_off = sum(step.act is _Act.PUT_OFF for step in steps)
    return Fired(len(due), sent, put_off, tuple(faults))


def _act(waiting: int | None, *, is_known: bool, is_full: bool) -> _Act:
    if is_known:
        return _Act.PASS
    if waiting is not None:
        return _Act.SKIP
    return _Act.PUT_OFF if is_full else _Act.SEND


def _after(reminder: Reminder, act: _Act, following: int | None, at_ms: int) -> Reminder:
    return replace(
        reminder,
        state=ReminderState.ENDED if following is None else ReminderState.ACTIVE,
        next_ms=following,
        last_ms=at_ms if act is _Act.SEND else reminder.last_ms,
        attempted=reminder.attempted + (act is _Act.SEND),
        skipped=reminder.skipped + (act is _Act.SKIP),
    )


def _fire(db: Db, log: FeedLog, steps: Sequence[_Step], at_ms: int) -> int:
    """Store all that follows; how many messages that were."""
    sending = [step for step in steps if step.act is _Act.SEND]
    fired = [step.after for step in sending]
    sent = messages.store(db, log, [_draft(each) for each in fired], fired)
    message_of = {step.after.id: message.id for step, message in zip(sending, sent, strict=True)}
    occurred = [
        Occurrence(step.after.id, step.due_ms, step.after.agent, message_of.get(step.after.id))
        for step in steps
        if step.act in (_Act.SEND, _Act.SKIP)
    ]
    occurrences.insert(db, occurred, at_ms)
    _update(db, [(step.after, message_of.get(step.after.id, step.waiting)) for step in steps], log.at_ms)
    for step in steps:
        if step.act is not _Act.SEND:
            log.append(step.after.agent, ReminderChanged(step.after))
    return len(sent)


def _update(db: Db, changed: Sequence[tuple[Reminder, int | None]], at_ms: int) -> None:
    values: list[tuple[Any, ...]] = [
        (r.id, r.state.value, r.next_ms, r.last_ms, r.attempted, r.skipped, waiting) for r, waiting in changed
    ]
    for part in rows.parts(values) if values else ():
        statement = rows.values(UPDATE_HEAD, len(part), len(part[0])) + UPDATE_TAIL
        db.execute(statement, (*chain.from_iterable(part), at_ms))


def _draft(reminder: Reminder) -> Draft:
    return Draft(
        asked=Asked(reminder.set_by, b""),
        digest=b"",
        to=reminder.agent,
        recipients=(reminder.agent,),
        broadcast=False,
        body=reminder.body,
        in_reply_to=None,
        event=SystemEvent.REMINDER,
        about=reminder.id,
    )


def fire_now(db: Db, log: FeedLog, number: int, at_ms: int) -> Reminder:
    """Fire a reminder beside its schedule. Refused: `not_found`, `conflict` when it is over or its last one waits."""
    reminder = reminders.read(db, number)
    check_active(reminder)
    waiting = db.execute(WAITING, (number,)).fetchone()["waiting"]
    if waiting is not None:
        raise Refused(
            Problem.CONFLICT, f"message {waiting} of reminder {number} still waits for {reminder.agent}"
        )
    after = replace(reminder, last_ms=at_ms, attempted=reminder.attempted + 1)
    (message,) = messages.store(db, log, [_draft(after)], [after])
    due_ms = occurrences.free_by_hand(db, number, at_ms)
    occurrences.insert(db, [Occurrence(number, due_ms, reminder.agent, message.id, by_hand=True)], at_ms)
    _update(db, [(after, message.id)], log.at_ms)
    return after
