"""What an agent may look up of its own messages: threads that are open, and what became of what it sent."""

from typing import Final

from brokerd.policy.threads import LINE_CHARS_MAX, LastWord, open_thread
from brokerd.store import deliveries, messages
from protocol.messages import Message
from protocol.names import MANAGER_ALIAS, SYSTEM
from protocol.problem import Problem, Refused
from protocol.tools import OpenThread
from runtime.store import Db

OPEN_MAX: Final = 50
LOOKED_BACK_MS: Final = 7 * 24 * 60 * 60 * 1000
"""Older threads are not open any more: nobody waits for them."""
SCANNED_ROWS_MAX: Final = 20_000
"""The newest messages of everybody, among which an agent's own are looked for: no index costs every send for this."""

# A broadcast asks nobody in particular, and nobody answers the hive, or what it wrote down for somebody.
GOT: Final = (
    "NOT broadcast AND sender <> ?4 AND (addressed_to = ?3 OR (addressed_to = ?6 AND EXISTS "
    "(SELECT 1 FROM deliveries AS d WHERE d.recipient = ?3 AND d.id BETWEEN "
    f"messages.id << {deliveries.PLACE_BITS} AND ((messages.id + 1) << {deliveries.PLACE_BITS}) - 1)))"
)
MINE: Final = (
    "SELECT id, coalesce(thread, id) AS thread, sender, addressed_to, sent_ms, substr(body, 1, ?5) AS body "
    "FROM messages WHERE id > (SELECT max(id) FROM messages) - ?1 AND sent_ms >= ?2 AND event IS NULL "
    f"AND (sender = ?3 OR ({GOT})) ORDER BY id DESC"
)
BEGAN_BY: Final = "SELECT sender FROM messages WHERE id = ?"


def open_threads(db: Db, agent: str, manager: str | None, at_ms: int) -> tuple[OpenThread, ...]:
    """Threads of the last LOOKED_BACK_MS that are not settled for the agent, newest first, at most OPEN_MAX."""
    oldest_ms, chars = at_ms - LOOKED_BACK_MS, 2 * LINE_CHARS_MAX
    found: list[OpenThread] = []
    seen: set[int] = set()
    for row in db.execute(MINE, (SCANNED_ROWS_MAX, oldest_ms, agent, SYSTEM, chars, MANAGER_ALIAS)):
        if row["thread"] in seen:
            continue
        seen.add(row["thread"])
        began = db.execute(BEGAN_BY, (row["thread"],)).fetchone()
        last = LastWord(
            thread=row["thread"],
            message=row["id"],
            began_by=None if began is None else began["sender"],
            sender=row["sender"],
            to=row["addressed_to"],
            sent_ms=row["sent_ms"],
            body=row["body"],
        )
        thread = open_thread(last, agent, manager)
        if thread is not None:
            found.append(thread)
            if len(found) == OPEN_MAX:
                break
    return tuple(found)


def sent_by(db: Db, message: int, sender: str) -> Message:
    """A message that this sender sent, with its deliveries; `not_found` for any other."""
    row = db.execute(messages.READ, (message,)).fetchone()
    if row is None or row["sender"] != sender:
        raise Refused(Problem.NOT_FOUND, f"{sender} sent no message {message}")
    return messages.message_from(row, deliveries.of_message(db, message))
