"""The turn journal: a row for each run of an agent CLI. At most one of an agent is open."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from brokerd.store import agents, deliveries, rows
from brokerd.store.deliveries import Bound
from brokerd.store.feed import FeedLog
from protocol.agent import TurnClosed
from protocol.brokerd import TurnChanged
from protocol.limits import INTEGER_MAX, TURN_DELIVERIES_TOLD_MAX
from protocol.messages import DeliveryState, Receipt
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
FIND_BEGINNING_HEAD: Final = "WITH asked (n, agent, delivery) AS (VALUES"
FIND_BEGINNING_TAIL: Final = (
    ") SELECT a.n, m.sender, d.recipient, d.state, d.attempts, "
    "EXISTS (SELECT 1 FROM pauses AS p WHERE p.agent = a.agent) AS is_paused, "
    "t.id, t.delivery, t.token FROM asked AS a "
    f"LEFT JOIN messages AS m ON m.id = a.delivery >> {deliveries.PLACE_BITS} "
    "LEFT JOIN deliveries AS d ON d.id = a.delivery "
    "LEFT JOIN turns AS t ON t.agent = a.agent AND t.ended_ms IS NULL"
)
LAST_ID: Final = "SELECT seq FROM broker.sqlite_sequence WHERE name = 'turns'"
INSERT: Final = "INSERT OR FAIL INTO turns (id, agent, delivery, token, woke_by, message, began_ms) VALUES"
FIND_ENDING_HEAD: Final = "WITH asked (n, turn, agent) AS (VALUES"
FIND_ENDING_TAIL: Final = (
    ") SELECT a.n, t.woke_by, t.message, t.began_ms, t.ended_ms, t.done, t.requeued, t.dead, "
    "d.id AS delivery, d.attempts, d.bytes FROM asked AS a "
    "CROSS JOIN turns AS t ON t.id = a.turn AND t.agent = a.agent "
    "LEFT JOIN deliveries AS d ON d.turn = t.id AND d.state = 'in_turn'"
)
ENDED: Final = (
    "ended_ms",
    "outcome",
    "detail",
    "conversation",
    "until_ms",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost_microusd",
    "tool_calls",
    "tools",
    "notes_bytes",
    "done",
    "requeued",
    "dead",
)
END: Final = f"UPDATE turns SET {', '.join(f'{column} = ?' for column in ENDED)} WHERE id = ?"
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


class Beginning(Struct, frozen=True, gc=False):
    """Who wants to begin a turn for which delivery, and the token of the lease on it."""

    agent: str
    delivery: int
    token: str


@quick
def begin(db: Db, log: FeedLog, beginnings: Sequence[Beginning]) -> list[int | Refused]:
    """Begin turns for leased deliveries, each answered for itself: by its number, or by a refusal.

    A repeat with the same token is the same turn. Refused: `not_found`; `conflict` while another turn runs, in a pause,
    and when the delivery does not wait (any more).
    """
    asked = [(n, each.agent, each.delivery) for n, each in enumerate(beginnings)]
    found = {row["n"]: row for row in rows.ask(db, FIND_BEGINNING_HEAD, asked, FIND_BEGINNING_TAIL)}
    next_id = _last_id(db) + 1
    begun: dict[str, OpenTurn] = {}
    answers: list[int | Refused] = []
    woken: list[tuple[OpenTurn, str, int]] = []
    for n, each in enumerate(beginnings):
        row = found[n]
        running = begun.get(each.agent) or _running(row, each.agent)
        refusal = _refusal(each, row, running)
        if running is not None and refusal is None:
            answers.append(running.id)
        elif refusal is not None:
            answers.append(refusal)
        else:
            turn = OpenTurn(next_id + len(woken), each.agent, each.delivery, each.token)
            begun[each.agent] = turn
            woken.append((turn, row["sender"], row["attempts"] + 1))
            answers.append(turn.id)
    _begin(db, log, woken)
    return answers


def _running(row: sqlite3.Row, agent: str) -> OpenTurn | None:
    return None if row["id"] is None else OpenTurn(row["id"], agent, row["delivery"], row["token"])


def _refusal(asked: Beginning, row: sqlite3.Row, running: OpenTurn | None) -> Refused | None:
    """Why a turn may not begin; None when it may, or when it is the one that runs."""
    agent, delivery = asked.agent, asked.delivery
    if running is not None:
        if (running.delivery, running.token) == (delivery, asked.token):
            return None
        return Refused(Problem.CONFLICT, f"turn {running.id} of {agent} is open: end it first")
    if row["sender"] is None:
        return Refused(Problem.NOT_FOUND, f"{agent} has no delivery {delivery}")
    if row["is_paused"]:
        return Refused(Problem.CONFLICT, f"{agent} is paused: nothing but `resume` lets a turn begin")
    if row["recipient"] != agent or row["state"] != DeliveryState.QUEUED:
        return Refused(Problem.CONFLICT, f"delivery {delivery} does not wait for {agent}")
    return None


def _begin(db: Db, log: FeedLog, woken: Sequence[tuple[OpenTurn, str, int]]) -> None:
    """Store turns, each with who woke it and the attempts at its delivery."""
    new: list[tuple[Any, ...]] = []
    for turn, sender, _ in woken:
        message = deliveries.message_of(turn.delivery)
        new.append((turn.id, turn.agent, turn.delivery, turn.token, sender, message, log.at_ms))
    rows.insert(db, INSERT, new)
    bound = [Bound(turn.delivery, turn.agent, turn.id, attempts) for turn, _, attempts in woken]
    for (turn, sender, _), receipt in zip(woken, deliveries.bind(db, bound, log.at_ms), strict=True):
        began = Turn(turn.id, turn.agent, sender, receipt.message, log.at_ms)
        log.append(turn.agent, TurnChanged(began, (receipt,)))


def _last_id(db: Db) -> int:
    row = db.execute(LAST_ID).fetchone()
    return row["seq"] if row else 0


class Ended(Struct, frozen=True, gc=False):
    """Whose turn ended, and how."""

    agent: str
    turn: int
    ending: Ending


@quick
def end(db: Db, log: FeedLog, agent: str, turn: int, ending: Ending) -> TurnClosed:
    """Record how a turn ended and settle its deliveries; a repeat returns the first answer. `not_found`: not theirs."""
    (answer,) = end_together(db, log, [Ended(agent, turn, ending)])
    if isinstance(answer, Refused):
        raise answer
    return answer


@quick
def end_together(db: Db, log: FeedLog, ended: Sequence[Ended]) -> list[TurnClosed | Refused]:
    """The same for several turns, each answered for itself."""
    found: dict[int, list[sqlite3.Row]] = {}
    asked = [(n, each.turn, each.agent) for n, each in enumerate(ended)]
    for row in rows.ask(db, FIND_ENDING_HEAD, asked, FIND_ENDING_TAIL):
        found.setdefault(row["n"], []).append(row)
    ending: dict[int, tuple[Ended, list[sqlite3.Row]]] = {}
    answers: dict[int, TurnClosed] = {}
    for n, of_turn in found.items():
        turn, row = ended[n].turn, of_turn[0]
        if row["ended_ms"] is None:
            ending.setdefault(turn, (ended[n], of_turn))
        else:
            answers[turn] = TurnClosed(done=row["done"], requeued=row["requeued"], dead=row["dead"])
    answers.update(_end(db, log, list(ending.values())))
    return [
        answers[each.turn]
        if n in found
        else Refused(Problem.NOT_FOUND, f"{each.agent} has no turn {each.turn}")
        for n, each in enumerate(ended)
    ]


def _end(
    db: Db, log: FeedLog, ending: Sequence[tuple[Ended, Sequence[sqlite3.Row]]]
) -> dict[int, TurnClosed]:
    """End turns that run, each with its row, once for each of its deliveries."""
    bound = [
        (Bound(row["delivery"], each.agent, each.turn, row["attempts"], row["bytes"]), each.ending.outcome)
        for each, of_turn in ending
        for row in of_turn
        if row["delivery"] is not None
    ]
    became: dict[int, list[tuple[Receipt, int]]] = {each.turn: [] for each, _ in ending}
    for (delivery, _), receipt in zip(bound, deliveries.settle(db, log, bound), strict=True):
        became[delivery.turn].append((receipt, delivery.size))
    closed = {turn: _closed(settled) for turn, settled in became.items()}
    db.executemany(END, [_ended_row(each, closed[each.turn], log.at_ms) for each, _ in ending])
    for each, of_turn in ending:
        _tell(log, _ended_turn(each, of_turn[0], log.at_ms), became[each.turn])
    return closed


def _tell(log: FeedLog, turn: Turn, settled: Sequence[tuple[Receipt, int]]) -> None:
    """Say that a turn ended, and what became of its deliveries, each with the bytes of its message."""
    for receipt, size in settled[TURN_DELIVERIES_TOLD_MAX:]:
        deliveries.tell(log, receipt, size)
    told = settled[:TURN_DELIVERIES_TOLD_MAX]
    over = [size for receipt, size in told if receipt.state not in deliveries.OPEN]
    log.append(turn.agent, TurnChanged(turn, tuple([each for each, _ in told])), -len(over), -sum(over))


def _closed(settled: Sequence[tuple[Receipt, int]]) -> TurnClosed:
    states = [receipt.state for receipt, _ in settled]
    return TurnClosed(
        done=states.count(DeliveryState.DONE),
        requeued=states.count(DeliveryState.QUEUED),
        dead=states.count(DeliveryState.DEAD),
    )


def _ended_row(ended: Ended, closed: TurnClosed, at_ms: int) -> tuple[Any, ...]:
    """As END takes it."""
    ending, usage = ended.ending, ended.ending.usage
    numbers: tuple[int | None, ...] = (None,) * 5
    if usage is not None:
        cached = (usage.cache_read_tokens, usage.cache_write_tokens)
        numbers = (usage.input_tokens, usage.output_tokens, *cached, usage.cost_microusd)
    how = (ending.outcome.value, ending.detail, ending.conversation, ending.until_ms)
    tools = _encoder.encode(ending.tools).decode() if ending.tools else None
    did = (*numbers, ending.tool_calls, tools, ending.notes_bytes)
    return (at_ms, *how, *did, closed.done, closed.requeued, closed.dead, ended.turn)


def _ended_turn(ended: Ended, row: sqlite3.Row, at_ms: int) -> Turn:
    ending = ended.ending
    return Turn(
        id=ended.turn,
        agent=ended.agent,
        woke_by=row["woke_by"],
        message=row["message"],
        began_ms=row["began_ms"],
        ended_ms=at_ms,
        outcome=ending.outcome,
        detail=ending.detail,
        usage=ending.usage,
        tool_calls=ending.tool_calls,
    )


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
