"""Reminders that an agent's configuration sets: made, changed and ended as that says, and never twice.

Each is known by its name in the configuration, with what the configuration said when it was set. As long as it says
the same, nothing happens to the reminder here: what the operator changed about it, or ended, stays so.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from brokerd.policy.schedules import Wish, schedule_of
from brokerd.store import reminders
from brokerd.store.feed import FeedLog
from protocol.names import OPERATOR, SYSTEM
from protocol.problem import Refused
from protocol.reminders import AnySchedule, Reminder, ReminderState
from protocol.settings import StandingReminder
from runtime.store import Db
from runtime.zones import zone_of

ZONE_DEFAULT: Final = "UTC"
SAID: Final = "SELECT name, reminder, said FROM standing_reminders WHERE agent = ?"
KEEP: Final = "INSERT OR REPLACE INTO standing_reminders (agent, name, reminder, said) VALUES (?, ?, ?, ?)"
FORGET: Final = "DELETE FROM standing_reminders WHERE agent = ? AND name = ?"
CHECKED_BY_AGENTS: Final = (
    "SELECT id FROM reminders WHERE agent = ? AND state = 'active' AND only_if IS NOT NULL "
    "AND set_by NOT IN (?, ?)"
)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(StandingReminder)


class Set(Struct, frozen=True):
    """Reminders that were made or changed, and why some of them cannot be, by agent."""

    reminders: tuple[Reminder, ...]
    faults: Mapping[str, tuple[str, ...]]


class _Stood(Struct, frozen=True):
    reminder: int
    said: StandingReminder | None
    """None: it cannot be read, and so differs from whatever is said now."""


def follow(db: Db, log: FeedLog, wanted: Mapping[str, Sequence[StandingReminder]], at_ms: int) -> Set:
    """Have the reminders that the agents' configurations want, by agent, and no others that they wanted before."""
    made: list[Reminder] = []
    faults: dict[str, tuple[str, ...]] = {}
    for agent, reminders_wanted in wanted.items():
        found: list[str] = []
        stood = _stood(db, agent)
        for gone in stood.keys() - {each.name for each in reminders_wanted}:
            _end(db, log, agent, gone, stood[gone])
        for each in reminders_wanted:
            before = stood.get(each.name)
            if before is not None and before.said == each:
                continue
            try:
                made.append(_stand(db, log, agent, each, before, at_ms))
            except Refused as refused:
                found.append(f"reminder {each.name}: {refused.detail}")
                if before is not None:
                    _end(db, log, agent, each.name, before)
        if found:
            faults[agent] = tuple(found)
    if made:
        reminders.set_clock(db, at_ms)
    return Set(tuple(made), faults)


def forget_checks(db: Db, log: FeedLog, agent: str) -> None:
    """Take away the checks that agents gave to an agent's reminders: its own commands are limited now."""
    for row in db.execute(CHECKED_BY_AGENTS, (agent, OPERATOR, SYSTEM)).fetchall():
        before = reminders.read(db, row["id"])
        reminders.rewrite(db, log, before, before.body, before.schedule, None, before.next_ms)


def _stood(db: Db, agent: str) -> dict[str, _Stood]:
    found = {}
    for row in db.execute(SAID, (agent,)):
        try:
            said = _decoder.decode(row["said"])
        except msgspec.DecodeError:
            said = None
        found[row["name"]] = _Stood(row["reminder"], said)
    return found


def _stand(
    db: Db, log: FeedLog, agent: str, wanted: StandingReminder, before: _Stood | None, at_ms: int
) -> Reminder:
    """Make a reminder, or change the one that there is; Refused(malformed, limit) for a time that cannot be."""
    wish = _wish(wanted)
    schedule = schedule_of(wish, at_ms, zone_of)
    there = None if before is None else reminders.find(db, before.reminder)
    if there is None or there.state is not ReminderState.ACTIVE:
        new = reminders.Wanted(agent, SYSTEM, wanted.body, schedule, wanted.only_if, wanted.name)
        reminder = reminders.insert(db, log, new, at_ms)
    else:
        is_moved = before is None or before.said is None or _wish(before.said) != wish
        reminder = _changed(db, log, there, wanted, schedule if is_moved else None, at_ms)
    db.execute(KEEP, (agent, wanted.name, reminder.id, _encoder.encode(wanted)))
    return reminder


def _changed(
    db: Db,
    log: FeedLog,
    there: Reminder,
    wanted: StandingReminder,
    schedule: AnySchedule | None,
    at_ms: int,
) -> Reminder:
    """One whose time is as it was keeps its next time, however often its words change."""
    next_ms = there.next_ms if schedule is None else reminders.next_of(schedule, at_ms)
    return reminders.rewrite(db, log, there, wanted.body, schedule or there.schedule, wanted.only_if, next_ms)


def _end(db: Db, log: FeedLog, agent: str, name: str, stood: _Stood) -> None:
    reminders.cancel_if_active(db, log, stood.reminder)
    db.execute(FORGET, (agent, name))


def _wish(said: StandingReminder) -> Wish:
    return Wish(every_s=said.every_s, cron=said.cron, zone=said.zone or ZONE_DEFAULT)
