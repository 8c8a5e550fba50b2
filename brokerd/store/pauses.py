"""Agents whose turns the operator holds back. Apart from what privd says of agents, which come and go."""

from typing import Final

from brokerd.store import agents
from brokerd.store.feed import FeedLog
from protocol.brokerd import AgentChanged
from runtime.store import Db

READ: Final = "SELECT agent FROM pauses"
PAUSE: Final = "INSERT OR IGNORE INTO pauses (agent, since_ms) VALUES (?, ?)"
SINCE: Final = "SELECT since_ms FROM pauses WHERE agent = ?"
RESUME: Final = "DELETE FROM pauses WHERE agent = ?"


def read_all(db: Db) -> frozenset[str]:
    return frozenset(row["agent"] for row in db.execute(READ))


def since(db: Db, agent: str) -> int | None:
    """When the agent was paused; None when it is not."""
    row = db.execute(SINCE, (agent,)).fetchone()
    return None if row is None else row["since_ms"]


def pause(db: Db, log: FeedLog, agent: str) -> int:
    """Begin no more turns of the agent; the place in the feed after which that is known. A repeat changes nothing."""
    return _tell(db, log, agent, db.execute(PAUSE, (agent, log.at_ms)).rowcount)


def resume(db: Db, log: FeedLog, agent: str) -> int:
    """Let it go on; otherwise as `pause`."""
    return _tell(db, log, agent, db.execute(RESUME, (agent,)).rowcount)


def _tell(db: Db, log: FeedLog, agent: str, changed: int) -> int:
    if not changed:
        return log.last()
    return log.append(agent, AgentChanged(agents.agent_from(agents.read(db, agent))))
