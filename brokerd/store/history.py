"""Which messages an agent wrote or got, in their order: so that a page of one agent's looks at no more than it shows.

Filled behind (brokerd.store.behind). What it does not have yet is looked for among the newest messages themselves.
"""

from typing import Final

from brokerd.store import deliveries
from brokerd.store.messages import COLUMNS, NEWER_THAN_ALL, message_from
from protocol.messages import Message
from protocol.names import OPERATOR, SYSTEM
from runtime.store import Db

PARTIES: Final = (
    "SELECT sender AS agent, id AS message FROM messages WHERE id > ?1 AND id <= ?2 UNION "
    "SELECT recipient, id >> 7 FROM deliveries WHERE id >= (?1 + 1) << 7 AND id < (?2 + 1) << 7"
)
ADD: Final = (
    f"INSERT INTO history (agent, message) SELECT agent, message FROM ({PARTIES}) "
    f"WHERE agent NOT IN ('{OPERATOR}', '{SYSTEM}') ORDER BY agent, message"
)
FORGET: Final = (
    "WITH gone AS MATERIALIZED ("
    "SELECT m.sender AS agent, m.id AS message FROM json_each(?1) AS g CROSS JOIN messages AS m ON m.id = g.value "
    "UNION ALL SELECT d.recipient, d.id >> 7 FROM json_each(?1) AS g CROSS JOIN deliveries AS d "
    "ON d.id BETWEEN g.value << 7 AND (g.value << 7) + 127) "
    "DELETE FROM history WHERE (agent, message) IN (SELECT agent, message FROM gone)"
)
"""Of a union itself, without the step between, sqlite would make a scan."""
FORGET_ALL: Final = "DELETE FROM history"
HEAD: Final = "SELECT head FROM behind"
LAST_BEFORE: Final = "SELECT max(id) AS id FROM messages WHERE id < ?"
UNINDEXED: Final = (
    f"SELECT {COLUMNS} FROM messages AS m WHERE id > ?1 AND id < ?2 AND (sender = ?3 OR EXISTS ("
    "SELECT 1 FROM deliveries AS d WHERE d.id BETWEEN m.id << 7 AND (m.id << 7) + 127 AND d.recipient = ?3)) "
    "ORDER BY id DESC LIMIT ?4"
)
INDEXED: Final = (
    f"SELECT {COLUMNS} FROM history AS h CROSS JOIN messages AS m ON m.id = h.message "
    "WHERE h.agent = ? AND h.message < ? ORDER BY h.message DESC LIMIT ?"
)

UNINDEXED_ROWS_MAX: Final = 20_000
"""Messages looked at without the index for one page; it may come out short, its `before` leads on."""


def newest(db: Db, agent: str, before: int | None, limit: int) -> tuple[list[Message], int | None]:
    """One agent's messages with their deliveries, newest first, and where older ones begin (None at the end)."""
    start = NEWER_THAN_ALL if before is None else before
    head: int = db.execute(HEAD).fetchone()["head"]
    last = _last_before(db, start)
    oldest = max(head, last - UNINDEXED_ROWS_MAX)
    rows = db.execute(UNINDEXED, (oldest, start, agent, limit)).fetchall()
    is_short = oldest > head and len(rows) < limit
    if not is_short:
        rows += db.execute(INDEXED, (agent, min(start, head + 1), limit - len(rows))).fetchall()
    found = [message_from(row, deliveries.of_message(db, row["id"])) for row in rows]
    if is_short:
        return found, oldest + 1
    return found, found[-1].id if len(found) == limit else None


def _last_before(db: Db, start: int) -> int:
    return db.execute(LAST_BEFORE, (start,)).fetchone()["id"] or 0


def add(db: Db, after: int, upto: int) -> None:
    """Index messages by their numbers, each once."""
    db.execute(ADD, (after, upto))


def forget(db: Db, numbers: str) -> None:
    """Take messages, given as a JSON list of numbers, out while they are still there."""
    db.execute(FORGET, (numbers,))


def forget_all(db: Db) -> None:
    db.execute(FORGET_ALL)
