"""What the hive itself tells: each crash and rebuild once, and to the manager what happened to several agents at once.

Kept in the database until it is told, so that nothing is lost between what happened and the message of it.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from brokerd.policy import notices
from brokerd.policy.notices import News
from brokerd.store import agents, messages
from brokerd.store.feed import FeedLog
from brokerd.store.keys import Asked
from brokerd.store.messages import Draft
from protocol.brokerd import Agent
from protocol.messages import SystemEvent
from protocol.names import SYSTEM
from protocol.problem import Refused
from protocol.turns import Outcome
from runtime.clock import new_request_key
from runtime.store import Db

TOLD: Final = "SELECT agent, crashed_ms, rebuilt_ms FROM cages_told"
CRASH_OF: Final = "SELECT crashed_ms FROM cages_told WHERE agent = ?"
CRASH_TOLD: Final = (
    "INSERT INTO cages_told (agent, crashed_ms) VALUES (?, ?) "
    "ON CONFLICT (agent) DO UPDATE SET crashed_ms = excluded.crashed_ms"
)
REBUILD_TOLD: Final = (
    "INSERT INTO cages_told (agent, rebuilt_ms) VALUES (?, ?) "
    "ON CONFLICT (agent) DO UPDATE SET rebuilt_ms = excluded.rebuilt_ms"
)
ADD: Final = (
    "INSERT OR REPLACE INTO news (agent, event, at_ms, until_ms, text, told) VALUES (?, ?, ?, ?, ?, 0)"
)
IS_TOLD: Final = "SELECT told FROM news WHERE agent = ? AND event = ?"
MARK_TOLD: Final = "UPDATE news SET told = 1 WHERE agent = ? AND event = ?"
DROP: Final = "DELETE FROM news WHERE agent = ? AND event = ?"
UNTOLD: Final = (
    "SELECT agent, at_ms, until_ms, text FROM news WHERE event = ? AND NOT told ORDER BY at_ms, agent"
)
LIMITED_ACCOUNTS: Final = "SELECT name FROM accounts WHERE until_ms IS NOT NULL"
UNTOLD_EVENTS: Final = "SELECT DISTINCT event FROM news WHERE NOT told"
FORGET_NEWS: Final = "DELETE FROM news WHERE agent = ?"
FORGET_TOLD: Final = "DELETE FROM cages_told WHERE agent = ?"

DIGESTS: Final[dict[SystemEvent, Callable[[Sequence[News]], str]]] = {
    SystemEvent.REBUILT: notices.rebuilt_digest,
    SystemEvent.RATE_LIMITED: notices.limited_digest,
    SystemEvent.RESUMED: notices.resumed_digest,
    SystemEvent.LIMIT_HIT: notices.limit_hit_digest,
}


def notice(to: str, event: SystemEvent, body: str) -> Draft:
    """A message of the hive itself."""
    return Draft(
        asked=Asked(SYSTEM, bytes.fromhex(new_request_key())),
        digest=b"",
        to=to,
        recipients=(to,),
        broadcast=False,
        body=body,
        in_reply_to=None,
        event=event,
    )


class Told(Struct, frozen=True):
    """The last crash and the last rebuild of an agent's cage that somebody was told of."""

    crashed_ms: int | None = None
    rebuilt_ms: int | None = None


def read_told(db: Db) -> dict[str, Told]:
    return {row["agent"]: Told(row["crashed_ms"], row["rebuilt_ms"]) for row in db.execute(TOLD)}


def crashed(db: Db, log: FeedLog, agent: str, crashed_ms: int, told: Draft | None) -> None:
    """Tell of a crash, and never again of the same. None when nobody can be told."""
    known = db.execute(CRASH_OF, (agent,)).fetchone()
    if known is not None and known["crashed_ms"] == crashed_ms:
        return
    if told is not None:
        send(db, log, told)
    db.execute(CRASH_TOLD, (agent, crashed_ms))


def rebuilt(
    db: Db, log: FeedLog, agent: str, rebuilt_ms: int, manager: str | None, told: Draft | None
) -> None:
    """Tell an agent that its cage was made anew, and have it told to the manager together with others."""
    if told is not None:
        send(db, log, told)
    db.execute(REBUILD_TOLD, (agent, rebuilt_ms))
    if manager not in (None, agent):
        _add(db, log, agent, SystemEvent.REBUILT)


def limited(db: Db, log: FeedLog, agent: str, until_ms: int | None, account: str = "") -> SystemEvent | None:
    """An agent takes no messages because of a limit, of its whole account where that is named.

    What is to be told, None when that is known already.
    """
    db.execute(DROP, (agent, SystemEvent.RESUMED.value))
    known = db.execute(IS_TOLD, (agent, SystemEvent.RATE_LIMITED.value)).fetchone()
    if known is not None and known["told"]:
        return None
    _add(db, log, agent, SystemEvent.RATE_LIMITED, until_ms=until_ms, text=account)
    return SystemEvent.RATE_LIMITED


def works_again(db: Db, log: FeedLog, agent: str) -> SystemEvent | None:
    """An agent's limit is over; what is to be told, None when nobody was told of it, or when its account's goes on."""
    row = agents.find(db, agent)
    if row is not None and row.limited_by is not None:
        return None
    known = db.execute(IS_TOLD, (agent, SystemEvent.RATE_LIMITED.value)).fetchone()
    if known is None:
        return None
    if not known["told"]:
        db.execute(DROP, (agent, SystemEvent.RATE_LIMITED.value))
        return None
    _add(db, log, agent, SystemEvent.RESUMED)
    return SystemEvent.RESUMED


def goes_on(db: Db, log: FeedLog, agent: str, since_ms: int) -> None:
    """The operator lets an agent go on that was paused since then."""
    _add(db, log, agent, SystemEvent.RESUMED, text=notices.paused_since(since_ms))


def met_limit(db: Db, log: FeedLog, agent: str, text: str) -> None:
    """An agent's cage met limits, as the words say."""
    _add(db, log, agent, SystemEvent.LIMIT_HIT, text=text)


def untold_events(db: Db) -> list[SystemEvent]:
    """Kinds of which something is still to be told."""
    untold = {row["event"] for row in db.execute(UNTOLD_EVENTS)}
    return [event for event in DIGESTS if event.value in untold]


def tell(db: Db, log: FeedLog, event: SystemEvent, manager: str | None) -> bool:
    """Tell the manager, in one message, what of this kind is still so; whether something is left for later.

    Left is what a manager that takes no messages now would only read when it is old, and who is said to work again
    but is held up otherwise.
    """
    news = [_news(row) for row in db.execute(UNTOLD, (event.value,))]
    known = {agent.name: agent for agent in agents.read_all(db)}
    reader = known.get(manager or "")
    if news and reader is not None and _is_held_up(reader):
        return True
    limited = frozenset(row["name"] for row in db.execute(LIMITED_ACCOUNTS))
    is_so = [each for each in news if reader and _is_so(event, known.get(each.agent), limited)]
    _drop(db, event, [each for each in news if each not in is_so])
    ready = [each for each in is_so if event is not SystemEvent.RESUMED or not _is_held_up(known[each.agent])]
    if ready and reader is not None:
        send(db, log, notice(reader.name, event, DIGESTS[event](ready)))
        _settle(db, event, ready)
    return len(ready) < len(is_so)


def forget(db: Db, log: FeedLog, agent: str) -> None:
    """The agent is gone for good."""
    db.execute(FORGET_NEWS, (agent,))
    db.execute(FORGET_TOLD, (agent,))


def _is_held_up(agent: Agent) -> bool:
    return agent.parked is not None or agent.paused


def _is_so(event: SystemEvent, agent: Agent | None, limited: frozenset[str]) -> bool:
    """Whether it still is as it was; not of an agent that is not there any more, or about to go on."""
    if agent is None or event is not SystemEvent.RATE_LIMITED:
        return agent is not None
    goes_on = agent.limited_by is not None and agent.limited_by not in limited
    return agent.parked is Outcome.RATE_LIMITED and not goes_on


def _settle(db: Db, event: SystemEvent, told: Sequence[News]) -> None:
    """A limit stays known until it is over; the rest was told and that is it."""
    for each in told:
        if event is SystemEvent.RATE_LIMITED:
            db.execute(MARK_TOLD, (each.agent, event.value))
        elif event is SystemEvent.RESUMED:
            db.execute(DROP, (each.agent, SystemEvent.RATE_LIMITED.value))
    if event is not SystemEvent.RATE_LIMITED:
        _drop(db, event, told)


def _drop(db: Db, event: SystemEvent, news: Sequence[News]) -> None:
    for each in news:
        db.execute(DROP, (each.agent, event.value))


def _add(
    db: Db, log: FeedLog, agent: str, event: SystemEvent, *, until_ms: int | None = None, text: str = ""
) -> None:
    db.execute(ADD, (agent, event.value, log.at_ms, until_ms, text))


def _news(row: sqlite3.Row) -> News:
    return News(row["agent"], row["at_ms"], row["text"], row["until_ms"])


def send(db: Db, log: FeedLog, draft: Draft) -> None:
    """Store a message of the hive itself."""
    (sent,) = messages.send(db, log, [draft])
    if isinstance(sent, Refused):
        raise sent
