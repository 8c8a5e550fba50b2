"""Agents as brokerd knows them: what privd said last, what the harness says, and what follows from both.

What a turn changes about its agent is in the journal of turns and nowhere else; TurnChanged says it to watchers.
"""

import sqlite3
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from brokerd.policy.accounts import Standing, standing
from brokerd.store.feed import FeedLog
from protocol.brokerd import Activity, Agent, AgentChanged, AgentGone, activity_of
from protocol.problem import Problem, Refused
from protocol.settings import AgentRole, AgentSettings
from protocol.turns import Outcome
from runtime.store import Db

LAST_TURN_MS: Final = (
    "coalesce((SELECT e.ended_ms FROM turns AS e WHERE e.agent = agents.name AND e.ended_ms IS NOT NULL "
    "ORDER BY e.id DESC LIMIT 1), agents.last_turn_ms)"
)
"""When an agent's last turn ended: the journal says so. (The column is what an earlier version noted.)"""
COLUMNS: Final = (
    "name, role, attached, instance, since_ms, status, t.id AS turn, t.began_ms AS turn_ms, "
    f"parked, agents.until_ms, agents.detail, {LAST_TURN_MS} AS last_turn_ms, "
    "limited_by, limit_until_ms, lifted, model, model_over, "
    "EXISTS (SELECT 1 FROM pauses WHERE pauses.agent = agents.name) AS paused"
)
FROM: Final = "FROM agents LEFT JOIN turns AS t ON t.agent = agents.name AND t.ended_ms IS NULL"
READ: Final = f"SELECT {COLUMNS} {FROM} WHERE name = ?"
READ_ALL: Final = f"SELECT {COLUMNS} {FROM} ORDER BY name"
READ_KNOWN: Final = "SELECT name, harness_uid, settings FROM agents ORDER BY name"
INSERT: Final = "INSERT INTO agents (name, role, harness_uid, settings, since_ms) VALUES (?, ?, ?, ?, ?)"
UPDATE: Final = (
    "UPDATE agents SET role = ?, attached = ?, instance = ?, since_ms = ?, status = ?, "
    "parked = ?, until_ms = ?, detail = ?, limited_by = ?, limit_until_ms = ?, lifted = ?, "
    "model = ?, model_over = ? WHERE name = ?"
)
UPDATE_KNOWN: Final = "UPDATE agents SET harness_uid = ?, settings = ? WHERE name = ?"
DELETE: Final = "DELETE FROM agents WHERE name = ?"
CHOSEN: Final = "SELECT name, model FROM agents WHERE model IS NOT NULL"
LIMITED: Final = "SELECT name FROM agents WHERE limited_by IS NOT NULL"

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
    rest_ms: int
    """Since when it is what it is between turns."""
    status: str
    turn: int | None
    turn_ms: int | None
    """When that turn began."""
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
    model: str | None
    """What the operator chose for its turns, over what its settings said then."""
    model_over: str | None

    @property
    def activity(self) -> Activity:
        return activity_of(attached=self.attached, turn=self.turn, parked=self.standing().parked)

    @property
    def since_ms(self) -> int:
        """Of the activity."""
        return max(self.rest_ms, self.last_turn_ms or 0) if self.turn_ms is None else self.turn_ms

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
        rest_ms=row["since_ms"],
        status=row["status"],
        turn=row["turn"],
        turn_ms=row["turn_ms"],
        parked=None if row["parked"] is None else Outcome(row["parked"]),
        until_ms=row["until_ms"],
        detail=row["detail"],
        last_turn_ms=row["last_turn_ms"],
        paused=bool(row["paused"]),
        limited_by=row["limited_by"],
        limit_until_ms=row["limit_until_ms"],
        lifted=row["lifted"],
        model=row["model"],
        model_over=row["model_over"],
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
        attached=row.attached,
        model=row.model,
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
    if _at_rest(after) is not _at_rest(before):
        after = replace(after, rest_ms=log.at_ms)
    if after == before:
        return
    db.execute(
        UPDATE,
        (
            after.role.value,
            int(after.attached),
            after.instance,
            after.rest_ms,
            after.status,
            None if after.parked is None else after.parked.value,
            after.until_ms,
            after.detail,
            after.limited_by,
            after.limit_until_ms,
            after.lifted,
            after.model,
            after.model_over,
            after.name,
        ),
    )
    if agent_from(after) != agent_from(before):
        log.append(after.name, AgentChanged(agent_from(after)))


def _at_rest(row: Row) -> Activity:
    """What it is between turns."""
    return activity_of(attached=row.attached, turn=None, parked=row.standing().parked)


def know(db: Db, log: FeedLog, known: Iterable[Known]) -> None:
    """Take over what privd reports of agents, new ones among them."""
    for each in known:
        settings = _encoder.encode(each.settings)
        row = find(db, each.name)
        if row is not None:
            db.execute(UPDATE_KNOWN, (each.harness_uid, settings, each.name))
            _write(db, log, row, {"role": each.settings.role, **_choice(row, each.settings.model)})
            continue
        db.execute(INSERT, (each.name, each.settings.role.value, each.harness_uid, settings, log.at_ms))
        log.append(each.name, AgentChanged(agent_from(read(db, each.name))))


def _choice(row: Row, model: str) -> dict[str, None]:
    """What becomes of a chosen model when the settings say this one."""
    return {} if row.model_over in (None, model) else {"model": None, "model_over": None}


def choose_model(db: Db, log: FeedLog, name: str, model: str | None, over: str) -> int:
    """Note the operator's choice, over what the settings say; the place in the feed after which it is known."""
    is_choice = model not in (None, over)
    change(db, log, name, model=model if is_choice else None, model_over=over if is_choice else None)
    return log.last()


def chosen_models(db: Db) -> dict[str, str]:
    """The operator's choices that hold, by agent."""
    return {row["name"]: row["model"] for row in db.execute(CHOSEN)}


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
    """At brokerd's start nobody is attached."""
    for row in [_row(row) for row in db.execute(READ_ALL)]:
        _write(db, log, row, {"attached": False})
