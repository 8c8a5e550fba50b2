"""Model accounts: what egressd sees of them, their limits, and whom these hold.

An agent that is held has the account in its own row (brokerd.store.agents): with the limit, and after it until it is
the agent's turn to go on. `members` are the agents of an account as they are deployed.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from brokerd.policy import accounts as policy
from brokerd.policy.accounts import Limit, Waiting
from brokerd.store import agents, news
from brokerd.store.feed import FeedLog
from protocol.brokerd import AccountChanged
from protocol.egressd import Account
from protocol.limited import ModelAccount
from protocol.messages import SystemEvent
from protocol.problem import Problem, Refused
from protocol.settings import AgentRole
from protocol.turns import Outcome
from runtime.store import Db, quick

COLUMNS: Final = "name, seen, since_ms, until_ms, said_by, detail"
READ: Final = f"SELECT {COLUMNS} FROM accounts WHERE name = ?"
READ_ALL: Final = f"SELECT {COLUMNS} FROM accounts ORDER BY name"
WRITE: Final = f"INSERT OR REPLACE INTO accounts ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
HELD: Final = f"SELECT name, role, {agents.LAST_TURN_MS} AS last_turn_ms FROM agents WHERE limited_by = ?"
HOLDING: Final = "SELECT DISTINCT limited_by FROM agents WHERE limited_by IS NOT NULL"
LIFTED: Final = "SELECT name FROM agents WHERE lifted = ?"

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Account)


class _Row(Struct, frozen=True):
    """What is stored of an account."""

    seen: Account
    limit: Limit | None


def _row(row: sqlite3.Row) -> _Row:
    try:
        seen = _decoder.decode(row["seen"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        seen = Account(row["name"])  # egressd tells it anew when it is followed again
    if row["until_ms"] is None:
        return _Row(seen, None)
    return _Row(seen, Limit(row["since_ms"], row["until_ms"], row["said_by"], row["detail"]))


def _read(db: Db, name: str) -> _Row:
    row = db.execute(READ, (name,)).fetchone()
    return _Row(Account(name), None) if row is None else _row(row)


def _shown(db: Db, name: str, known: _Row) -> ModelAccount:
    limit = known.limit
    return ModelAccount(
        name=name,
        seen_ms=known.seen.seen_ms,
        windows=known.seen.windows,
        limited_since_ms=limit.since_ms if limit else None,
        limited_until_ms=limit.until_ms if limit else None,
        said_by=limit.said_by if limit else "",
        detail=limit.detail if limit else "",
        held=held_by(db, name),
    )


def read_all(db: Db) -> tuple[ModelAccount, ...]:
    """Every account of which anything is known."""
    return tuple(_shown(db, row["name"], _row(row)) for row in db.execute(READ_ALL).fetchall())


def held_by(db: Db, name: str) -> tuple[str, ...]:
    """Whom an account's limit holds, in the order in which they go on."""
    rows = db.execute(HELD, (name,))
    return policy.in_order(Waiting(row["name"], AgentRole(row["role"]), row["last_turn_ms"]) for row in rows)


def read_limits(db: Db) -> dict[str, Limit | None]:
    """The accounts that are limited, and those whose limit is over but still holds somebody (None)."""
    limits = {row["name"]: _row(row).limit for row in db.execute(READ_ALL)}
    held = {row["limited_by"]: limits.get(row["limited_by"]) for row in db.execute(HOLDING)}
    return {**{name: limit for name, limit in limits.items() if limit is not None}, **held}


def told(db: Db, log: FeedLog, seen: Account, members: Sequence[str], manager: str | None) -> bool:
    """Take in what egressd says of an account; whether there is something to tell the manager."""

    def change(known: _Row) -> tuple[_Row, bool]:
        limit = policy.said_by_egressd(known.limit, seen, log.at_ms)
        is_news = limit is not None and _hold(db, log, seen.name, limit, members, manager)
        return _Row(seen, limit), is_news

    return _changed(db, log, seen.name, change)


@quick
def turn_ended(
    db: Db,
    log: FeedLog,
    agent: str,
    account: str,
    until_ms: int,
    detail: str,
    members: Sequence[str],
    manager: str | None,
) -> bool:
    """A turn of an agent met its account's limit, whose end is known; as `told`.

    One whom the operator let go on is held again: it has tried.
    """

    def change(known: _Row) -> tuple[_Row, bool]:
        limit = policy.said_by_turn(known.limit, agent, until_ms, detail, log.at_ms)
        agents.change_if_known(db, log, agent, lifted=None)
        is_news = limit is not None and _hold(db, log, account, limit, members, manager)
        return _Row(known.seen, limit), is_news

    return _changed(db, log, account, change)


def join(db: Db, log: FeedLog, accounts: Mapping[str, str], manager: str | None) -> bool:
    """Agents are deployed with these accounts: whom a limit finds there it holds, whom it held elsewhere goes on."""
    is_news = False
    for agent, account in accounts.items():
        row = agents.find(db, agent)
        if row is None:
            continue
        if row.limited_by not in (None, account):
            _free(db, log, agent)
        limit = _read(db, account).limit
        if limit is not None and account not in (row.limited_by, row.lifted):
            before = _shown(db, account, _read(db, account))
            is_news |= _hold(db, log, account, limit, [agent], manager)
            _tell(db, log, before)
    return is_news


def over(db: Db, log: FeedLog, name: str) -> int:
    """An account's limit is over: whom it holds goes on, one by one (`release_next`). The place in the feed."""
    _changed(db, log, name, lambda known: (_Row(known.seen, None), False))
    return log.last()


def end(db: Db, log: FeedLog, name: str) -> int:
    """The same at the operator's word. Refused: `conflict` when it is not limited."""
    if _read(db, name).limit is None:
        raise Refused(Problem.CONFLICT, f"account {name} is not limited")
    return over(db, log, name)


class Released(Struct, frozen=True):
    """An agent that goes on, whether its harness waits for the end by itself, and what to tell the manager."""

    agent: str
    is_parked: bool
    told: SystemEvent | None


def release_next(db: Db, log: FeedLog, name: str) -> Released | None:
    """Let the next agent go on that an account's limit held; None when none is left."""
    before = _shown(db, name, _read(db, name))
    if not before.held:
        return None
    released = _free(db, log, before.held[0])
    _tell(db, log, before)
    return released


def lift(db: Db, log: FeedLog, agent: str) -> Released | None:
    """Let one agent go on whatever its account's limit says; None when none holds it."""
    account = agents.read(db, agent).limited_by
    if account is None:
        return None
    before = _shown(db, account, _read(db, account))
    released = _free(db, log, agent, lifted=None if before.limited_until_ms is None else account)
    _tell(db, log, before)
    return released


def _free(db: Db, log: FeedLog, agent: str, lifted: str | None = None) -> Released:
    agents.change(db, log, agent, limited_by=None, limit_until_ms=None, lifted=lifted)
    row = agents.read(db, agent)
    is_parked = row.parked is Outcome.RATE_LIMITED
    return Released(agent, is_parked, None if is_parked else news.works_again(db, log, agent))


def _hold(
    db: Db, log: FeedLog, account: str, limit: Limit, members: Sequence[str], manager: str | None
) -> bool:
    """Hold the members but for those whom the operator let go on; whether the manager is to be told of any."""
    is_news = False
    for name in members:
        row = agents.find(db, name)
        if (
            row is None
            or row.lifted == account
            or (row.limited_by, row.limit_until_ms) == (account, limit.until_ms)
        ):
            continue
        agents.change(db, log, name, limited_by=account, limit_until_ms=limit.until_ms)
        if name != manager:
            is_news |= news.limited(db, log, name, limit.until_ms, account) is not None
    return is_news


def _changed(db: Db, log: FeedLog, name: str, change: Callable[[_Row], tuple[_Row, bool]]) -> bool:
    """Change what is stored of an account, and tell the feed when anybody could see a difference."""
    known = _read(db, name)
    before = _shown(db, name, known)
    after, is_news = change(known)
    limit = after.limit
    if limit is None:
        for row in db.execute(LIFTED, (name,)).fetchall():
            agents.change(db, log, row["name"], lifted=None)
    how = (None,) * 4 if limit is None else (limit.since_ms, limit.until_ms, limit.said_by, limit.detail)
    db.execute(WRITE, (name, _encoder.encode(after.seen), *how))
    _tell(db, log, before)
    return is_news


def _tell(db: Db, log: FeedLog, before: ModelAccount) -> None:
    after = _shown(db, before.name, _read(db, before.name))
    if after != before:
        log.append("", AccountChanged(after))
