"""What a dashboard starts from: several tables as they were at one place of the feed. Runs inside one `Store.read`."""

from collections.abc import Iterator
from typing import Final

from brokerd.policy.pages import fitting
from brokerd.store import (
    accounts,
    agents,
    deliveries,
    egress,
    feed,
    limit_hits,
    messages,
    parked,
    question_rows,
    turn_events,
    turns,
)
from protocol.brokerd import AgentNow, Snapshot, TailPage, TurnWithEvents
from protocol.limits import PAGE_BYTES_MAX
from protocol.messages import Message
from protocol.names import OPERATOR
from runtime.store import Db

MESSAGES_MAX: Final = 100
WANTING_MAX: Final = 100
QUESTIONS_MAX: Final = 100
QUESTIONS_BYTES_MAX: Final = 128 * 1024
"""Of the questions to the operator, and again of those between agents: neither crowds out the other."""
DAY_MS: Final = 24 * 60 * 60 * 1000
REFUSALS_MAX: Final = 100
TURNS_BEGAN_MAX: Final = 500
HOUR_MS: Final = 60 * 60 * 1000


def take(db: Db, at_ms: int) -> Snapshot:
    """The state of the swarm. All of it is in broker.sqlite, whose record of the feed says where it belongs."""
    place = feed.durable_head(db)
    counts = deliveries.open_counts(db)
    newest, _ = messages.newest(db, None, MESSAGES_MAX, None, None)
    ours = question_rows.oldest_open(db, QUESTIONS_MAX, QUESTIONS_BYTES_MAX, to_operator=True)
    theirs = question_rows.oldest_open(db, QUESTIONS_MAX, QUESTIONS_BYTES_MAX, to_operator=False)
    return Snapshot(
        epoch=place.epoch,
        seq=place.head,
        at_ms=at_ms,
        agents=tuple(
            AgentNow(
                agent,
                counts.get(agent.name, 0),
                turns.began_since(db, agent.name, at_ms - HOUR_MS, TURNS_BEGAN_MAX),
            )
            for agent in agents.read_all(db)
        ),
        messages=tuple(fitting(newest, PAGE_BYTES_MAX))[::-1],
        messages_hour=messages.count_since(db, at_ms - HOUR_MS),
        operator_unread=counts.get(OPERATOR, 0),
        wanting=tuple(fitting(_wanting(db, at_ms), PAGE_BYTES_MAX)),
        questions=tuple(sorted([*ours.questions, *theirs.questions], key=lambda question: question.id)),
        broken_questions=(*ours.broken, *theirs.broken),
        parked=parked.read_holding(db),
        accounts=accounts.read_all(db),
        refusals=egress.since(db, at_ms - DAY_MS, REFUSALS_MAX),
        limit_hits=limit_hits.read_all(db),
    )


def _wanting(db: Db, at_ms: int) -> Iterator[Message]:
    """What waits for the operator, oldest first: unread, or given up within a day."""
    unread = [receipt.message for receipt in deliveries.queued(db, OPERATOR, WANTING_MAX)]
    dead = deliveries.dead_since(db, at_ms - DAY_MS, WANTING_MAX)
    return (messages.read_whole(db, each) for each in sorted({*unread, *dead})[:WANTING_MAX])


def tail(db: Db, agent: str, before: int | None, limit: int) -> tuple[TailPage, tuple[str, ...]]:
    """One agent's newest turns with their events, and what of them could not be read."""
    place = feed.durable_head(db)
    found: list[TurnWithEvents] = []
    faults: list[str] = []
    left = PAGE_BYTES_MAX
    older = turns.before(db, agent, before, limit)
    for turn in older:
        events = turn_events.newest(db, turn.id, left)
        if events.cut and found:
            break
        left -= events.size
        faults += [f"turn {turn.id}, {fault}" for fault in events.faults]
        found.append(TurnWithEvents(turn, events.events, events.cut))
    is_end = len(found) == len(older) and len(older) < limit
    return TailPage(tuple(reversed(found)), None if is_end else found[-1].turn.id, place.head), tuple(faults)
