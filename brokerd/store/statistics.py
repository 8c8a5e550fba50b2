"""Numbers of a span of time, from the turn journal and the traffic beside it. Runs inside one `Store.read`.

A turn belongs to the moment at which it ended. sqlite does the counting, outside of the interpreter lock.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct, field

from brokerd.policy.statistics import Span, cut, most_used
from brokerd.store import agents, messages, occurrences, parked, reminders, traffic
from brokerd.store.traffic import KINDS
from protocol.limits import INTEGER_MAX
from protocol.statistics import AgentStatistics, Bucket, Traffic
from protocol.turns import Outcome, Usage
from runtime.store import Db

TURNS_READ_MAX: Final = 50_000
"""Turns that are looked at for one reply, the newest; a span with more of them is cut."""
NOTES_TURNS_MAX: Final = 50
"""An agent's newest turns among which the size of its notes is looked for when none ended in the span."""
FAULTS_SHOWN_MAX: Final = 10

NEWEST_TURN: Final = "SELECT seq FROM broker.sqlite_sequence WHERE name = 'turns'"
NTH_OF_AGENT: Final = "SELECT id FROM turns WHERE agent = ? ORDER BY id DESC LIMIT 1 OFFSET ?"
BEGAN: Final = "SELECT began_ms FROM turns WHERE id >= ? ORDER BY id LIMIT 1"

COUNTED: Final = (
    "WITH counted AS (SELECT agent, id, outcome, ended_ms, max(0, ended_ms - began_ms) AS took_ms, tool_calls, "
    "tools, notes_bytes, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_microusd, "
    "(ended_ms - :since_ms) / :bucket_ms AS place FROM turns WHERE "
    "(id IN (SELECT t.id FROM json_each(:agents) AS a CROSS JOIN turns AS t ON t.agent = a.value "
    "WHERE t.id >= :first) OR id IN (SELECT (SELECT max(id) FROM turns WHERE agent = a.value AND id < :first) "
    "FROM json_each(:agents) AS a)) AND ended_ms >= :since_ms AND ended_ms <= :at_ms) "
)
"""Turns are numbered as they began: an agent's last one before the first may have ended later."""


def _sum(column: str) -> str:
    """Exact as long as any reader of JSON could keep it, and never an error."""
    return f"CAST(min(total({column}), {INTEGER_MAX}) AS INTEGER) AS {column}"


USAGE: Final = Usage.__struct_fields__
SUMS: Final = (
    COUNTED
    + f"SELECT agent, place, count(*) AS turns, sum(outcome NOT IN ('{Outcome.DONE}', '{Outcome.CANCELLED}')) AS "
    f"failed, {_sum('tool_calls')}, {', '.join(map(_sum, USAGE))} FROM counted GROUP BY agent, place"
)
PERCENTILES: Final = (
    COUNTED + "SELECT agent, place, max(took_ms) FILTER (WHERE rank <= (turns * 50 + 99) / 100) AS p50, "
    "max(took_ms) FILTER (WHERE rank <= (turns * 95 + 99) / 100) AS p95 FROM ("
    "SELECT agent, place, took_ms, row_number() OVER (PARTITION BY agent, place ORDER BY took_ms) AS rank, "
    "count(*) OVER (PARTITION BY agent, place) AS turns FROM counted) GROUP BY agent, place"
)
"""By rank: the least duration that as large a part of the turns did not exceed."""
OUTCOMES: Final = COUNTED + "SELECT agent, outcome, count(*) AS turns FROM counted GROUP BY agent, outcome"
NOTES: Final = (
    COUNTED + "SELECT agent, place, notes_bytes, max(id) FROM counted WHERE notes_bytes IS NOT NULL "
    "GROUP BY agent, place"
)
READABLE_TOOLS: Final = "json_valid(tools) AND json_type(tools) = 'object'"
TOOLS: Final = (
    COUNTED + "SELECT agent, t.key AS tool, CAST(min(total(t.value), ?) AS INTEGER) AS calls FROM counted, "
    f"json_each(iif({READABLE_TOOLS}, tools, '{{}}')) AS t WHERE tools IS NOT NULL AND t.type = 'integer' "
    "GROUP BY agent, t.key"
).replace("?", str(INTEGER_MAX))
BROKEN_TOOLS: Final = (
    COUNTED + f"SELECT id FROM counted WHERE tools IS NOT NULL AND NOT ({READABLE_TOOLS}) LIMIT :faults_max"
)
NOTES_BEFORE: Final = (
    "SELECT notes_bytes FROM (SELECT id, notes_bytes FROM turns WHERE agent = ? ORDER BY id DESC LIMIT ?) "
    "WHERE notes_bytes IS NOT NULL ORDER BY id DESC LIMIT 1"
)
LAST_TURN: Final = f"SELECT name, {agents.LAST_TURN_MS} AS last_turn_ms FROM agents"
MESSAGES_KEPT: Final = (
    "SELECT coalesce((SELECT seq FROM broker.sqlite_sequence WHERE name = 'messages'), 0) - messages_gone AS kept "
    "FROM retention"
)
"""Their numbers have no holes but those of removed ones: to count a million rows takes longer than a reply may."""
QUESTIONS_OPEN: Final = "SELECT count(*) AS open FROM questions WHERE ended_ms IS NULL"


class Inbox(Struct, frozen=True):
    """What memory knows of an inbox: how deep it is, and was since that was last kept."""

    open: int
    peak: int


class Counted(Struct, frozen=True):
    """The numbers of some agents, what of them could not be read, and the span that they are of."""

    agents: tuple[AgentStatistics, ...]
    swarm: "Swarm"
    faults: tuple[str, ...]
    span: Span


class Swarm(Struct, frozen=True):
    """What is counted for all of them together."""

    messages: int
    messages_kept: int
    questions_open: int
    reminders_open: int
    threads_parked: int


def read(db: Db, span: Span, agents: Sequence[str], inboxes: dict[str, Inbox], *, series: bool) -> Counted:
    """Count; the span comes back shorter when too many turns ended in it."""
    first = _first_turn(db, span, agents)
    if first.is_cut:
        span = cut(span, first.began_ms)
    asked = {
        "agents": json.dumps(list(agents)),
        "first": first.id,
        "since_ms": span.since_ms,
        "at_ms": span.at_ms,
        "faults_max": FAULTS_SHOWN_MAX,
    }
    return _Reading(db, span, agents, inboxes, asked).done(series=series)


class _First(Struct, frozen=True):
    """The first turn that is looked at."""

    id: int
    began_ms: int
    is_cut: bool


def _first_turn(db: Db, span: Span, agents: Sequence[str]) -> _First:
    row = db.execute(NEWEST_TURN).fetchone()
    last = row["seq"] if row else 0
    if len(agents) == 1:
        nth = db.execute(NTH_OF_AGENT, (agents[0], TURNS_READ_MAX)).fetchone()
        oldest = nth["id"] + 1 if nth else 1
    else:
        oldest = max(1, last - TURNS_READ_MAX + 1)
    first = _first_begun(db, span.since_ms, last)
    if first >= oldest:
        return _First(first, span.since_ms, is_cut=False)
    began = db.execute(BEGAN, (oldest,)).fetchone()
    return _First(oldest, began["began_ms"] if began else span.since_ms, is_cut=True)


def _first_begun(db: Db, since_ms: int, last: int) -> int:
    """The first turn that began at a time or later: numbers grow with time, so its place is found by halving."""
    low, high = 1, last + 1
    while low < high:
        middle = (low + high) // 2
        row = db.execute(BEGAN, (middle,)).fetchone()
        if row is not None and row["began_ms"] < since_ms:
            low = middle + 1
        else:
            high = middle
    return low


class _Bucket(Struct):
    """What is counted in one bucket of one agent."""

    turns: int = 0
    failed: int = 0
    tool_calls: int = 0
    p50: int | None = None
    p95: int | None = None
    notes: int | None = None
    usage: dict[str, int] = field(default_factory=dict[str, int])
    moved: traffic.Traffic = field(default_factory=traffic.Traffic)


class _Reading:
    """The questions of one reply, all about the same turns."""

    def __init__(
        self,
        db: Db,
        span: Span,
        agents: Sequence[str],
        inboxes: dict[str, Inbox],
        asked: dict[str, Any],
    ) -> None:
        self._db = db
        self._span = span
        self._agents = agents
        self._inboxes = inboxes
        self._asked = asked
        self._faults: list[str] = []

    def done(self, *, series: bool) -> Counted:
        outcomes, tools = self._outcomes(), self._tools()
        total = self._buckets(self._span.whole())
        steps = self._buckets(self._span) if series else total
        fired = occurrences.tallies(self._db, self._span.since_ms)
        last_turns = {row["name"]: row["last_turn_ms"] for row in self._db.execute(LAST_TURN)}
        found = []
        for agent in self._agents:
            whole = total[agent, 0]
            inbox = self._inboxes.get(agent, Inbox(0, 0))
            found.append(
                AgentStatistics(
                    agent=agent,
                    turns=whole.turns,
                    turns_per_minute=whole.turns / self._span.minutes,
                    tool_calls_per_turn=whole.tool_calls / whole.turns if whole.turns else 0.0,
                    duration_p50_ms=whole.p50,
                    duration_p95_ms=whole.p95,
                    outcomes=outcomes[agent],
                    inbox=inbox.open,
                    inbox_max=max(inbox.open, inbox.peak, whole.moved.inbox_max),
                    sent=Traffic(**{kind: whole.moved.sent[kind] for kind in KINDS}),
                    received=Traffic(**{kind: whole.moved.received[kind] for kind in KINDS}),
                    tools=most_used(tools[agent]),
                    last_turn_ms=last_turns.get(agent),
                    notes_bytes=self._notes_before(agent) if whole.notes is None else whole.notes,
                    usage=Usage(**whole.usage),
                    reminders=occurrences.roll_up(self._db, agent, self._span.since_ms, fired),
                    series=self._series(agent, steps, inbox) if series else (),
                )
            )
        return Counted(tuple(found), self._swarm(), tuple(self._faults), self._span)

    def _swarm(self) -> Swarm:
        db = self._db
        return Swarm(
            messages=messages.count_since(db, self._span.since_ms),
            messages_kept=db.execute(MESSAGES_KEPT).fetchone()["kept"],
            questions_open=db.execute(QUESTIONS_OPEN).fetchone()["open"],
            reminders_open=reminders.count_open(db),
            threads_parked=len(parked.read_holding(db)),
        )

    def _rows(self, statement: str, span: Span) -> list[Any]:
        return self._db.execute(statement, {**self._asked, "bucket_ms": span.bucket_ms}).fetchall()

    def _buckets(self, span: Span) -> defaultdict[tuple[str, int], _Bucket]:
        found: defaultdict[tuple[str, int], _Bucket] = defaultdict(_Bucket)
        for key, counts in traffic.read(self._db, span, self._agents).items():
            found[key].moved = counts
        for row in self._rows(SUMS, span):
            bucket = found[row["agent"], row["place"]]
            bucket.turns, bucket.failed, bucket.tool_calls = row["turns"], row["failed"], row["tool_calls"]
            bucket.usage = {name: row[name] for name in USAGE}
        for row in self._rows(PERCENTILES, span):
            bucket = found[row["agent"], row["place"]]
            bucket.p50, bucket.p95 = row["p50"], row["p95"]
        for row in self._rows(NOTES, span):
            found[row["agent"], row["place"]].notes = row["notes_bytes"]
        return found

    def _series(
        self, agent: str, steps: defaultdict[tuple[str, int], _Bucket], inbox: Inbox
    ) -> tuple[Bucket, ...]:
        span = self._span
        series = []
        for place in range(span.buckets):
            step = steps[agent, place]
            now = max(inbox.open, inbox.peak) if place == span.buckets - 1 else 0
            series.append(
                Bucket(
                    at_ms=span.since_ms + place * span.bucket_ms,
                    turns=step.turns,
                    failed=step.failed,
                    tool_calls=step.tool_calls,
                    duration_p50_ms=step.p50,
                    duration_p95_ms=step.p95,
                    inbox_max=max(now, step.moved.inbox_max),
                    sent=step.moved.sent.total(),
                    received=step.moved.received.total(),
                    output_tokens=step.usage.get("output_tokens", 0),
                    cost_microusd=step.usage.get("cost_microusd", 0),
                    notes_bytes=step.notes,
                )
            )
        return tuple(series)

    def _outcomes(self) -> defaultdict[str, dict[Outcome, int]]:
        found: defaultdict[str, dict[Outcome, int]] = defaultdict(dict)
        for row in self._rows(OUTCOMES, self._span.whole()):
            try:
                outcome = Outcome(row["outcome"])
            except ValueError:
                self._faults.append(f"{row['turns']} turns of {row['agent']}: outcome {row['outcome']!a}")
            else:
                found[row["agent"]][outcome] = row["turns"]
        return found

    def _tools(self) -> defaultdict[str, dict[str, int]]:
        found: defaultdict[str, dict[str, int]] = defaultdict(dict)
        whole = self._span.whole()
        for row in self._rows(TOOLS, whole):
            found[row["agent"]][row["tool"]] = row["calls"]
        self._faults += [f"turn {row['id']}: its tools" for row in self._rows(BROKEN_TOOLS, whole)]
        return found

    def _notes_before(self, agent: str) -> int | None:
        row = self._db.execute(NOTES_BEFORE, (agent, NOTES_TURNS_MAX)).fetchone()
        return None if row is None else row["notes_bytes"]
