"""The turn journal: a row for each run of an agent CLI. At most one of an agent is open."""

import sqlite3
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from brokerd.store import agents, deliveries
from brokerd.store.feed import FeedLog
from protocol.agent import TurnClosed
from protocol.brokerd import TurnChanged
from protocol.limits import INTEGER_MAX
from protocol.problem import Problem, Refused
from protocol.turns import Outcome, Turn, Usage
from runtime.store import Db, quick

COLUMNS: Final = (
    "id, agent, woke_by, message, began_ms, ended_ms, outcome, detail, "
    "input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_microusd, tool_calls"
)
READ: Final = f"SELECT {COLUMNS}, delivery, token, done, requeued, dead FROM turns WHERE id = ? AND agent = ?"
READ_OPEN: Final = "SELECT id, agent, delivery, token FROM turns WHERE ended_ms IS NULL"
OPEN_OF_AGENT: Final = "SELECT id, agent, delivery, token FROM turns WHERE agent = ? AND ended_ms IS NULL"
WOKE_BY: Final = (
    "SELECT sender, EXISTS (SELECT 1 FROM pauses WHERE agent = ?) AS is_paused FROM messages WHERE id = ?"
)
INSERT: Final = (
    "INSERT INTO turns (agent, delivery, token, woke_by, message, began_ms) "
    "VALUES (?, ?, ?, ?, ?, ?) RETURNING id"
)
END: Final = (
    "UPDATE turns SET ended_ms = ?, outcome = ?, detail = ?, conversation = ?, until_ms = ?, "
    "input_tokens = ?, output_tokens = ?, cache_read_tokens = ?, cache_write_tokens = ?, cost_microusd = ?, "
    "tool_calls = ?, tools = ?, notes_bytes = ?, done = ?, requeued = ?, dead = ? WHERE id = ?"
)
BEFORE: Final = f"SELECT {COLUMNS} FROM turns WHERE agent = ? AND id < ? ORDER BY id DESC LIMIT ?"
BEGAN: Final = "SELECT began_ms FROM turns WHERE agent = ? ORDER BY id DESC LIMIT ?"

NEWER_THAN_ALL: Final = 2**62

_encoder = msgspec.json.Encoder()
_NO_TOOLS: Final[Mapping[str, int]] = {}


class Ending(Struct, frozen=True):
    """How a turn ended, as its harness or brokerd itself says."""

    outcome: Outcome
    detail: str = ""
    usage: Usage | None = None
    conversation: str | None = None
    until_ms: int | None = None
    tools: Mapping[str, int] = _NO_TOOLS
    """Calls by tool."""
    notes_bytes: int | None = None

    @property
    def tool_calls(self) -> int:
        return min(sum(self.tools.values()), INTEGER_MAX)


class OpenTurn(Struct, frozen=True):
    """A turn that runs: the delivery that drives it, and the token of the lease it began with."""

    id: int
    agent: str
    delivery: int
    token: str


def turn_from(row: sqlite3.Row) -> Turn:
    has_usage = row["input_tokens"] is not None
    return Turn(
        id=row["id"],
        agent=row["agent"],
        woke_by=row["woke_by"],
        message=row["message"],
        began_ms=row["began_ms"],
        ended_ms=row["ended_ms"],
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
        detail=row["detail"],
        usage=Usage(
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            cache_read_tokens=row["cache_read_tokens"],
            cache_write_tokens=row["cache_write_tokens"],
            cost_microusd=row["cost_microusd"],
        )
        if has_usage
        else None,
        tool_calls=row["tool_calls"],
    )


def _open_turn(row: sqlite3.Row) -> OpenTurn:
    return OpenTurn(row["id"], row["agent"], row["delivery"], row["token"])


def read_open(db: Db) -> list[OpenTurn]:
    """The turns that run, of all agents."""
    return [_open_turn(row) for row in db.execute(READ_OPEN)]


def open_of(db: Db, agent: str) -> OpenTurn | None:
    row = db.execute(OPEN_OF_AGENT, (agent,)).fetchone()
    return None if row is None else _open_turn(row)


def check_open(db: Db, turn: int, agent: str) -> None:
    """Refuse (`not_found`, `conflict`) unless this is the agent's turn and it runs."""
    row = db.execute(READ, (turn, agent)).fetchone()
    if row is None:
        raise Refused(Problem.NOT_FOUND, f"{agent} has no turn {turn}")
    if row["ended_ms"] is not None:
        raise Refused(Problem.CONFLICT, f"turn {turn} ended: {row['outcome']}")


@quick
def begin(db: Db, log: FeedLog, agent: str, delivery: int, token: str) -> int:
    """Begin a turn for a leased delivery; a repeat with the same token gives the same turn. `conflict` otherwise."""
    running = open_of(db, agent)
    if running is not None:
        if (running.delivery, running.token) == (delivery, token):
            return running.id
        raise Refused(Problem.CONFLICT, f"turn {running.id} of {agent} is open: end it first")
    message = deliveries.message_of(delivery)
    sender = db.execute(WOKE_BY, (agent, message)).fetchone()
    if sender is None:
        raise Refused(Problem.NOT_FOUND, f"{agent} has no delivery {delivery}")
    if sender["is_paused"]:
        raise Refused(Problem.CONFLICT, f"{agent} is paused: nothing but `resume` lets a turn begin")
    turn: int = db.execute(INSERT, (agent, delivery, token, sender["sender"], message, log.at_ms)).fetchone()[
        "id"
    ]
    if deliveries.bind(db, log, delivery, agent, turn) is None:
        raise Refused(Problem.CONFLICT, f"delivery {delivery} does not wait for {agent}")
    log.append(agent, TurnChanged(Turn(turn, agent, sender["sender"], message, log.at_ms)))
    agents.change(db, log, agent, turn=turn)
    return turn


@quick
def end(db: Db, log: FeedLog, agent: str, turn: int, ending: Ending) -> TurnClosed:
    """Record how a turn ended and settle its deliveries; a repeat returns the first answer. `not_found`: not theirs."""
    row = db.execute(READ, (turn, agent)).fetchone()
    if row is None:
        raise Refused(Problem.NOT_FOUND, f"{agent} has no turn {turn}")
    if row["ended_ms"] is not None:
        return TurnClosed(done=row["done"], requeued=row["requeued"], dead=row["dead"])
    closed = deliveries.settle_turn(db, log, turn, ending.outcome)
    usage = ending.usage
    numbers = (
        (None,) * 5
        if usage is None
        else (
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            usage.cost_microusd,
        )
    )
    how = (ending.outcome.value, ending.detail, ending.conversation, ending.until_ms)
    tools = _encoder.encode(ending.tools).decode() if ending.tools else None
    did = (*numbers, ending.tool_calls, tools, ending.notes_bytes)
    db.execute(END, (log.at_ms, *how, *did, closed.done, closed.requeued, closed.dead, turn))
    ended = Turn(
        id=turn,
        agent=agent,
        woke_by=row["woke_by"],
        message=row["message"],
        began_ms=row["began_ms"],
        ended_ms=log.at_ms,
        outcome=ending.outcome,
        detail=ending.detail,
        usage=usage,
        tool_calls=ending.tool_calls,
    )
    log.append(agent, TurnChanged(ended))
    agents.change_if_known(db, log, agent, turn=None, last_turn_ms=log.at_ms)
    return closed


def end_open(db: Db, log: FeedLog, agent: str, ending: Ending) -> TurnClosed:
    """End whatever turn of the agent runs; nothing to do when none does."""
    running = open_of(db, agent)
    return TurnClosed(0, 0, 0) if running is None else end(db, log, agent, running.id, ending)


class TookOver(Struct, frozen=True):
    """What a harness found when it attached: whether it is another than before, and how many deliveries come again."""

    is_new: bool
    requeued: int


def attach(db: Db, log: FeedLog, agent: str, instance: str) -> TookOver:
    """A harness says it serves the agent. A new one ends what an earlier one left open."""
    if agents.read(db, agent).instance == instance:
        agents.change(db, log, agent, attached=True)
        return TookOver(is_new=False, requeued=0)
    closed = end_open(db, log, agent, Ending(Outcome.CRASHED, "the harness started anew during this turn"))
    agents.change(db, log, agent, attached=True, instance=instance, parked=None, until_ms=None, detail="")
    return TookOver(is_new=True, requeued=closed.requeued)


def before(db: Db, agent: str, turn: int | None, limit: int) -> list[Turn]:
    """An agent's turns, newest first."""
    start = NEWER_THAN_ALL if turn is None else turn
    return [turn_from(row) for row in db.execute(BEFORE, (agent, start, limit))]


def began_since(db: Db, agent: str, since_ms: int, limit: int) -> tuple[int, ...]:
    """When the agent's newest turns began, oldest first."""
    began: list[int] = []
    for row in db.execute(BEGAN, (agent, limit)):
        if row["began_ms"] < since_ms:
            break
        began.append(row["began_ms"])
    return tuple(reversed(began))
