"""Agents as brokerd knows them: what privd said last, what the harness says, and what follows from both."""

import sqlite3
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from brokerd.policy.accounts import Standing, standing
from brokerd.policy.activity import activity_of
from brokerd.store.feed import FeedLog
from protocol.brokerd import Activity, Agent, AgentChanged, AgentGone
from protocol.problem import Problem, Refused
from protocol.settings import AgentRole, AgentSettings
from protocol.turns import Outcome
from runtime.store import Db

COLUMNS: Final = (
    "name, role, attached, instance, activity, since_ms, status, turn, parked, until_ms, detail, last_turn_ms, "
    "limited_by, limit_until_ms, lifted, EXISTS (SELECT 1 FROM pauses WHERE pauses.agent = agents.name) AS paused"
)
READ: Final = f"SELECT {COLUMNS} FROM agents WHERE name = ?"
READ_ALL: Final = f"SELECT {COLUMNS} FROM agents ORDER BY name"
READ_KNOWN: Final = "SELECT name, harness_uid, settings FROM agents ORDER BY name"
INSERT: Final = (
    "INSERT INTO agents (name, role, harness_uid, settings, activity, since_ms) VALUES (?, ?, ?, ?, ?, ?)"
)
UPDATE: Final = (
    "UPDATE agents SET role = ?, attached = ?, instance = ?, activity = ?, since_ms = ?, status = ?, turn = ?, "
    "parked = ?, until_ms = ?, detail = ?, last_turn_ms = ?, limited_by = ?, limit_until_ms = ?, lifted = ? "
    "WHERE name = ?"
)
UPDATE_KNOWN: Final = "UPDATE agents SET harness_uid = ?, settings = ? WHERE name = ?"
DELETE: Final = "DELETE FROM agents WHERE name = ?"
LIMITED: Final = "SELECT name FROM agents WHERE limited_by IS NOT NULL"
OPEN_TURNS: Final = "SELECT agent, id FROM turns WHERE ended_ms IS NULL"

_encoder = msgspec.json.Encoder()
_settings_decoder = msgspec.json.Decoder(AgentSettings)


class Known(Struct, frozen=True):
    """An agent that privd reported and whose cage is not just kept state."""

    name: str
    harness_uid: int
    settings: AgentSettings


class Row(Struct, frozen=True):
    """One agent's row, without what only its socket needs."""

    name: str
    role: AgentRole
    attached: bool
    instance: str | None
    activity: Activity
    since_ms: int
    status: str
    turn: int | None
    parked: Outcome | None
    until_ms: int | None
    detail: str
    last_turn_ms: int | None
    paused: bool
    limited_by: str | None
    """The account whose limit holds it (brokerd.store.accounts)."""
    limit_until_ms: int | None
    lifted: str | None
    """The account in spite of whose limit it goes on, because the operator said so."""

    def standing(self) -> Standing:
        """Why it takes no message, if so: its harness's reason, or the limit of its account."""
        own = Standing(self.parked, self.until_ms, self.detail)
        return standing(own, self.limited_by, self.limit_until_ms)


def _row(row: sqlite3.Row) -> Row:
    return Row(
        name=row["name"],
        role=AgentRole(row["role"]),
        attached=bool(row["attached"]),
        instance=row["instance"],
        activity=Activity(row["activity"]),
        since_ms=row["since_ms"],
        status=row["status"],
        turn=row["turn"],
        parked=None if row["parked"] is None else Outcome(row["parked"]),
        until_ms=row["until_ms"],
        detail=row["detail"],
        last_turn_ms=row["last_turn_ms"],
        paused=bool(row["paused"]),
        limited_by=row["limited_by"],
        limit_until_ms=row["limit_until_ms"],
        lifted=row["lifted"],
    )


def agent_from(row: Row) -> Agent:
    stands = row.standing()
    return Agent(
        name=row.name,
        role=row.role,
        activity=row.activity,
        since_ms=row.since_ms,
        status=row.status,
        turn=row.turn,
        parked=stands.parked,
        until_ms=stands.until_ms,
        detail=stands.detail,
        last_turn_ms=row.last_turn_ms,
        paused=row.paused,
        limited_by=row.limited_by,
    )


def read(db: Db, name: str) -> Row:
    """One agent; `not_found` when privd has not reported it."""
    row = find(db, name)
    if row is None:
        raise Refused(Problem.NOT_FOUND, f"there is no agent {name}")
    return row


def find(db: Db, name: str) -> Row | None:
    """One agent, or None."""
    row = db.execute(READ, (name,)).fetchone()
    return None if row is None else _row(row)


def read_all(db: Db) -> list[Agent]:
    return [agent_from(_row(row)) for row in db.execute(READ_ALL)]


def change(db: Db, log: FeedLog, name: str, /, **changes: Any) -> None:
    """Change some columns; the agent's activity follows, and the feed is told when anybody could see a difference."""
    _write(db, log, read(db, name), changes)


def change_if_known(db: Db, log: FeedLog, name: str, /, **changes: Any) -> None:
    """The same for an agent that may have gone in the meantime."""
    row = find(db, name)
    if row is not None:
        _write(db, log, row, changes)


def _write(db: Db, log: FeedLog, before: Row, changes: dict[str, Any]) -> None:
    after = replace(before, **changes)
    activity = activity_of(attached=after.attached, turn=after.turn, parked=after.standing().parked)
    if activity is not before.activity:
        after = replace(after, activity=activity, since_ms=log.at_ms)
    if after == before:
        return
    db.execute(
        UPDATE,
        (
            after.role.value,
            int(after.attached),
            after.instance,
            after.activity.value,
            after.since_ms,
            after.status,
            after.turn,
            None if after.parked is None else after.parked.value,
            after.until_ms,
            after.detail,
            after.last_turn_ms,
            after.limited_by,
            after.limit_until_ms,
            after.lifted,
            after.name,
        ),
    )
    if agent_from(after) != agent_from(before):
        log.append(after.name, AgentChanged(agent_from(after)))


def know(db: Db, log: FeedLog, known: Iterable[Known]) -> None:
    """Take over what privd reports of agents, new ones among them."""
    for each in known:
        settings = _encoder.encode(each.settings)
        row = find(db, each.name)
        if row is not None:
            db.execute(UPDATE_KNOWN, (each.harness_uid, settings, each.name))
            _write(db, log, row, {"role": each.settings.role})
            continue
        absent = Activity.ABSENT.value
        db.execute(
            INSERT, (each.name, each.settings.role.value, each.harness_uid, settings, absent, log.at_ms)
        )
        log.append(each.name, AgentChanged(agent_from(read(db, each.name))))


def forget(db: Db, log: FeedLog, names: Iterable[str]) -> None:
    """Agents whose cage is gone or just kept state."""
    for name in names:
        if db.execute(DELETE, (name,)).rowcount:
            log.append(name, AgentGone(name))


class KnownOrFault(Struct, frozen=True):
    """An agent read back. `fault` says why its settings cannot be read; privd will report them anew."""

    name: str
    known: Known | None
    fault: str = ""


def read_known(db: Db) -> list[KnownOrFault]:
    """What privd reported last. One broken row hides no other."""
    found: list[KnownOrFault] = []
    for row in db.execute(READ_KNOWN):
        try:
            settings = _settings_decoder.decode(row["settings"])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            found.append(KnownOrFault(row["name"], None, str(error)))
        else:
            found.append(KnownOrFault(row["name"], Known(row["name"], row["harness_uid"], settings)))
    return found


def held_by_limits(db: Db) -> frozenset[str]:
    """Those whom a limit of their account holds."""
    return frozenset(row["name"] for row in db.execute(LIMITED))


def start_anew(db: Db, log: FeedLog) -> None:
    """At brokerd's start nobody is attached; open turns are the ones in the journal."""
    turns = {row["agent"]: row["id"] for row in db.execute(OPEN_TURNS)}
    for row in [_row(row) for row in db.execute(READ_ALL)]:
        _write(db, log, row, {"attached": False, "turn": turns.get(row.name)})
