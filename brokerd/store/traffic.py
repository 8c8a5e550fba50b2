"""How many messages went in and out of each agent, and how deep its inbox was, step by step.

A message counts once for each recipient: as sent by the kind of the recipient, as received by the kind of the sender,
both when it was sent. Counted behind (brokerd.store.behind), and in steps of several lengths, so that whoever asks for
a long time reads long ones.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from brokerd.policy.statistics import STEPS_MS, Span
from protocol.names import OPERATOR, SYSTEM
from protocol.settings import AgentRole
from runtime.store import Db

KINDS: Final = ("peer", "operator", "manager", "system")
COUNTS: Final = tuple(f"{way}_{kind}" for way in ("sent", "received") for kind in KINDS)


def _kind(name: str) -> str:
    return (
        f"CASE {name} WHEN '{OPERATOR}' THEN 'operator' WHEN '{SYSTEM}' THEN 'system' ELSE "
        f"iif({name} IN (SELECT name FROM agents WHERE role = '{AgentRole.MANAGER}'), 'manager', 'peer') END"
    )


MOVES: Final = (
    f"SELECT m.sender AS agent, m.sent_ms AS at_ms, 'sent_' || {_kind('d.recipient')} AS way "
    "FROM messages AS m CROSS JOIN deliveries AS d ON d.id BETWEEN m.id << 7 AND (m.id << 7) + 127 "
    "WHERE m.id > ?1 AND m.id <= ?2 UNION ALL "
    f"SELECT d.recipient, m.sent_ms, 'received_' || {_kind('m.sender')} "
    "FROM messages AS m CROSS JOIN deliveries AS d ON d.id BETWEEN m.id << 7 AND (m.id << 7) + 127 "
    "WHERE m.id > ?1 AND m.id <= ?2"
)
COUNTED: Final = ", ".join(f"sum(way = '{count}') AS {count}" for count in COUNTS)
ADD: Final = (
    f"INSERT INTO traffic (step_ms, agent, at_ms, {', '.join(COUNTS)}) "
    f"SELECT ?3, agent, at_ms / ?3 * ?3 AS step, {COUNTED} FROM ({MOVES}) "
    f"WHERE agent NOT IN ('{OPERATOR}', '{SYSTEM}') GROUP BY agent, step "
    "ON CONFLICT DO UPDATE SET " + ", ".join(f"{count} = {count} + excluded.{count}" for count in COUNTS)
)
NOTE_INBOX: Final = (
    "INSERT INTO traffic (step_ms, agent, at_ms, inbox_max) VALUES (?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET inbox_max = max(inbox_max, excluded.inbox_max)"
)
FORGET_ALL: Final = "DELETE FROM traffic"
FORGET_BEFORE: Final = (
    "DELETE FROM traffic WHERE step_ms = ?1 AND agent = ?2 AND at_ms IN ("
    "SELECT at_ms FROM traffic WHERE step_ms = ?1 AND agent = ?2 AND at_ms < ?3 ORDER BY at_ms LIMIT ?4)"
)
NEXT_AGENT: Final = "SELECT min(agent) AS agent FROM traffic WHERE step_ms = ? AND agent > ?"

PLACE: Final = "(at_ms - :since_ms) / :bucket_ms AS place"
KEPT: Final = (
    f"SELECT agent, {PLACE}, max(inbox_max) AS inbox_max, {', '.join(f'sum({count}) AS {count}' for count in COUNTS)} "
    "FROM json_each(:agents) AS a CROSS JOIN traffic AS t ON t.step_ms = :step_ms AND t.agent = a.value "
    "AND t.at_ms >= :since_ms AND t.at_ms <= :at_ms GROUP BY agent, place"
)
NOT_COUNTED: Final = (
    f"SELECT agent, {PLACE}, 0 AS inbox_max, {COUNTED} FROM "
    f"({MOVES.replace('?1', ':head').replace('?2', ':head + :rows_max')}) "
    "WHERE agent IN (SELECT value FROM json_each(:agents)) AND at_ms >= :since_ms AND at_ms <= :at_ms "
    "GROUP BY agent, place"
)
HEAD: Final = "SELECT head FROM behind"

UNCOUNTED_ROWS_MAX: Final = 20_000
"""Messages that are counted for a reply because nobody did yet. More are only behind after the counts were lost."""

_encoder = msgspec.json.Encoder()


class Traffic(Struct):
    """What went on in one bucket of a span: deliveries by kind of the other side, and the deepest inbox."""

    inbox_max: int = 0
    sent: Counter[str] = msgspec.field(default_factory=Counter[str])
    received: Counter[str] = msgspec.field(default_factory=Counter[str])


def read(db: Db, span: Span, agents: Sequence[str]) -> dict[tuple[str, int], Traffic]:
    """By agent and bucket, counted from the first; only buckets in which something went on."""
    head: int = db.execute(HEAD).fetchone()["head"]
    asked = {
        "agents": _encoder.encode(agents).decode(),
        "since_ms": span.since_ms,
        "at_ms": span.at_ms,
        "bucket_ms": span.bucket_ms,
        "step_ms": span.step_ms,
        "head": head,
        "rows_max": UNCOUNTED_ROWS_MAX,
    }
    found: defaultdict[tuple[str, int], Traffic] = defaultdict(Traffic)
    for statement in (KEPT, NOT_COUNTED):
        for row in db.execute(statement, asked):
            bucket = found[row["agent"], row["place"]]
            bucket.inbox_max = max(bucket.inbox_max, row["inbox_max"])
            bucket.sent.update({kind: row[f"sent_{kind}"] for kind in KINDS})
            bucket.received.update({kind: row[f"received_{kind}"] for kind in KINDS})
    return found


def add(db: Db, after: int, upto: int) -> None:
    """Count messages by their numbers, each once."""
    for step_ms in STEPS_MS:
        db.execute(ADD, (after, upto, step_ms))


def note_inboxes(db: Db, depths: Mapping[str, int], at_ms: int) -> None:
    """Keep how deep inboxes were in the step that now is in."""
    for step_ms in STEPS_MS:
        rows = [(step_ms, agent, at_ms // step_ms * step_ms, depth) for agent, depth in depths.items()]
        db.executemany(NOTE_INBOX, rows)


def forget_before(db: Db, at_ms: int, agent: str, limit: int) -> int:
    """Remove an agent's oldest steps; how many there were."""
    return sum(db.execute(FORGET_BEFORE, (step, agent, at_ms, limit)).rowcount for step in STEPS_MS)


def next_agent(db: Db, after: str) -> str | None:
    """The next agent, by name, of whom anything is kept."""
    found: str | None = db.execute(NEXT_AGENT, (STEPS_MS[0], after)).fetchone()["agent"]
    return found


def forget_all(db: Db) -> None:
    db.execute(FORGET_ALL)
