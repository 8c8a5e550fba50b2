"""Limits that cages met: one row for each agent and resource, and what of it the agent and the manager were told.

They are told at once, and then of everything together that comes within TOLD_EVERY_MS.
"""

import sqlite3
from typing import Final

from msgspec import Struct

from brokerd.policy import notices
from brokerd.store import news
from brokerd.store.feed import FeedLog
from protocol.brokerd import LimitReached
from protocol.limited import LimitHit
from protocol.messages import SystemEvent
from protocol.privd import CageLimitHit, Resource
from runtime.store import Db

COLUMNS: Final = "agent, resource, times, untold, told_ms, first_ms, at_ms, detail"
COUNT: Final = (
    "INSERT INTO limit_hits (agent, resource, times, untold, first_ms, at_ms, detail) "
    "VALUES (?1, ?2, ?3, ?3, ?4, ?4, ?5) ON CONFLICT (agent, resource) DO UPDATE SET times = times + ?3, "
    f"untold = untold + ?3, at_ms = ?4, detail = ?5 RETURNING {COLUMNS}"
)
TOLD: Final = "UPDATE limit_hits SET untold = 0, told_ms = ? WHERE agent = ? AND resource = ?"
UNTOLD: Final = "SELECT agent, resource, told_ms FROM limit_hits WHERE untold > 0 ORDER BY agent, resource"
OF_AGENT: Final = f"SELECT {COLUMNS} FROM limit_hits WHERE agent = ? AND at_ms >= ? ORDER BY resource"
OF_KNOWN: Final = (
    f"SELECT {COLUMNS} FROM limit_hits WHERE agent IN (SELECT name FROM agents) ORDER BY agent, resource"
)
FORGET: Final = "DELETE FROM limit_hits WHERE agent = ?"
FORGET_BEFORE: Final = "DELETE FROM limit_hits WHERE at_ms < ?"

TOLD_EVERY_MS: Final = 10 * 60 * 1000
"""An agent is not told more often that it met the same limit again."""
RECENT_MS: Final = 60 * 60 * 1000
"""How far back the manager is told of an agent's limits together."""


def hit_from(row: sqlite3.Row) -> LimitHit:
    return LimitHit(
        agent=row["agent"],
        resource=Resource(row["resource"]),
        times=row["times"],
        first_ms=row["first_ms"],
        at_ms=row["at_ms"],
        detail=row["detail"],
    )


def read_all(db: Db) -> tuple[LimitHit, ...]:
    """Of every agent that there is."""
    return tuple(hit_from(row) for row in db.execute(OF_KNOWN))


def count(db: Db, log: FeedLog, hit: CageLimitHit) -> None:
    """A cage met a limit."""
    row = db.execute(
        COUNT, (hit.agent, hit.resource.value, hit.times, hit.at_ms, notices.quoted(hit.detail))
    ).fetchone()
    log.append(hit.agent, LimitReached(hit_from(row)))


class Untold(Struct, frozen=True):
    """Something that an agent is to be told, and when it was told the same last."""

    agent: str
    resource: str
    told_ms: int | None

    def due_ms(self, at_ms: int) -> int:
        """When it may be told: at once, if the clock was put back since the last time."""
        if self.told_ms is None or self.told_ms > at_ms:
            return at_ms
        return self.told_ms + TOLD_EVERY_MS


def untold(db: Db) -> list[Untold]:
    """What is still to be told."""
    return [Untold(row["agent"], row["resource"], row["told_ms"]) for row in db.execute(UNTOLD)]


def tell(db: Db, log: FeedLog, agent: str, resource: str, manager: str | None) -> bool:
    """Tell an agent how often it met a limit since it was told last; whether the manager is to be told, too."""
    rows = db.execute(OF_AGENT, (agent, log.at_ms - RECENT_MS)).fetchall()
    row = next((each for each in rows if each["resource"] == resource and each["untold"]), None)
    if row is None:
        return False
    body = notices.limit_hit_notice(Resource(resource), row["detail"], row["untold"])
    news.send(db, log, news.notice(agent, SystemEvent.LIMIT_HIT, body))
    db.execute(TOLD, (log.at_ms, agent, resource))
    if manager in (None, agent):
        return False
    words = "; ".join(notices.limit_words(each["detail"], each["times"]) for each in rows)
    news.met_limit(db, log, agent, words)
    return True


def forget(db: Db, log: FeedLog, agent: str) -> None:
    """The agent is gone for good."""
    db.execute(FORGET, (agent,))


def forget_before(db: Db, before_ms: int) -> int:
    """Remove what happened last before a time; how many there were."""
    return db.execute(FORGET_BEFORE, (before_ms,)).rowcount
