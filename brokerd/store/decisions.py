"""Ends of proposals and deployments that somebody was told: each once, in the transaction of the message."""

from collections.abc import Sequence
from typing import Final

from brokerd.policy.decisions import End
from brokerd.store import news
from brokerd.store.feed import FeedLog
from brokerd.store.messages import Draft
from runtime.store import Db

IS_TOLD: Final = "SELECT 1 FROM decisions_told WHERE agent = ? AND number = ? AND state = ? AND made_ms = ?"
TOLD: Final = "INSERT OR IGNORE INTO decisions_told (agent, number, state, made_ms) VALUES (?, ?, ?, ?)"
ALL: Final = "SELECT agent, number, state, made_ms FROM decisions_told WHERE agent <> ''"
HAS_ANY: Final = "SELECT 1 FROM decisions_told LIMIT 1"
FORGET_OLD: Final = (
    "DELETE FROM decisions_told WHERE agent <> '' AND id <= (SELECT max(id) FROM decisions_told) - ?"
)
KEPT: Final = 2_000
"""Far more than privd tells anew when brokerd comes back."""
BEGUN: Final = End("", 0, "", 0)
"""Stands for: what ended before brokerd first followed privd's decisions is nobody's news."""


def read_all(db: Db) -> frozenset[End]:
    return frozenset(
        End(row["agent"], row["number"], row["state"], row["made_ms"]) for row in db.execute(ALL)
    )


def tell(db: Db, log: FeedLog, end: End, drafts: Sequence[Draft]) -> None:
    """Store the messages of one end, and never again of the same."""
    if db.execute(IS_TOLD, _row(end)).fetchone() is not None:
        return
    for draft in drafts:
        news.send(db, log, draft)
    db.execute(TOLD, _row(end))
    db.execute(FORGET_OLD, (KEPT,))


def begin(db: Db, log: FeedLog, ended: Sequence[End]) -> Sequence[End]:
    """Take what ended before brokerd ever followed privd's decisions for told: these. None of it later."""
    if db.execute(HAS_ANY).fetchone() is not None:
        return ()
    for end in (BEGUN, *ended):
        db.execute(TOLD, _row(end))
    return ended


def _row(end: End) -> tuple[str, int, str, int]:
    return end.agent, end.number, end.state, end.made_ms
