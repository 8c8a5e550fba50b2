"""How much each agent has sent and published lately. Nothing of it survives a restart, nor needs to."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import trio
from msgspec import Struct

from brokerd.policy.guards import (
    HOUR_S,
    NOTES_PER_MINUTE,
    Bucket,
    Guards,
    Rate,
    is_note,
    spent,
    too_fast,
    wait_s,
)
from protocol.names import OPERATOR
from protocol.problem import Problem, Refused
from protocol.turns import AnyTurnEvent

BUCKETS_MAX: Final = 20_000
"""Past this many, idle ones are forgotten; a hive with as many agents as there may be has 15 000."""

_encoder = msgspec.json.Encoder()

Key = tuple[str, str, str]
"""What is counted, of whom, and to whom if that matters."""


class Cost(Struct, frozen=True, gc=False):
    """So much of one bucket."""

    key: Key
    rate: Rate
    amount: int


class _Published(Struct):
    """What the newest turn of an agent has published."""

    turn: int
    events: int = 0
    size: int = 0


class Rates:
    """Everybody's buckets."""

    def __init__(self, guards: Guards) -> None:
        self._guards = guards
        self._messages = Rate("messages", guards.messages_per_minute)
        self._pair = Rate("messages", guards.pair_messages_per_minute)
        self._bytes = Rate("bytes of messages", guards.bytes_per_minute)
        self._operator = Rate("messages", guards.operator_messages_per_minute)
        self._reminders = Rate("reminders", guards.reminders_per_hour, HOUR_S)
        self._turns = Rate("turns", guards.turns_per_hour, HOUR_S)
        self._events = Rate("turn events", guards.hour_events_max, HOUR_S)
        self._event_bytes = Rate("bytes of turn events", guards.hour_event_bytes_max, HOUR_S)
        self._notes = Rate("notes on a turn", NOTES_PER_MINUTE)
        self._buckets: dict[Key, Bucket] = {}
        self._published: dict[str, _Published] = {}

    def send(self, sender: str, recipients: Iterable[str], size: int) -> list[Cost]:
        """Count one message of `size` bytes; what it cost, for `give_back`. Refused(limit): nothing was counted."""
        if sender == OPERATOR:
            costs = [Cost(("messages", sender, ""), self._operator, 1)]
        else:
            costs = [
                Cost(("messages", sender, ""), self._messages, 1),
                Cost(("bytes", sender, ""), self._bytes, size),
                *[Cost(("messages", sender, name), self._pair, 1) for name in recipients],
            ]
        self._spend(costs)
        return costs

    def remind(self, sender: str) -> list[Cost]:
        """Count one reminder that is set; the operator's are not counted. As `send`."""
        costs = [] if sender == OPERATOR else [Cost(("reminders", sender, ""), self._reminders, 1)]
        self._spend(costs)
        return costs

    def begin(self, agent: str) -> list[Cost]:
        """Count one turn that begins. As `send`."""
        costs = [Cost(("turns", agent, ""), self._turns, 1)]
        self._spend(costs)
        return costs

    def give_back(self, costs: Iterable[Cost]) -> None:
        """Nothing was done after all: the request was refused, or had been done before."""
        for cost in costs:
            bucket = self._buckets.get(cost.key)
            if bucket is not None:
                left = min(float(cost.rate.most), bucket.left + cost.amount)
                self._buckets[cost.key] = Bucket(left, bucket.at_s)

    def publish(self, agent: str, turn: int, events: Sequence[AnyTurnEvent]) -> None:
        """Count a batch of the running turn's events. Refused(limit): nothing was counted, keep nothing of it."""
        size = sum(len(_encoder.encode(event)) for event in events)
        if is_note(events, size):
            self._spend([Cost(("notes", agent, ""), self._notes, len(events))])
            return
        earlier = self._published.get(agent)
        published = earlier if earlier is not None and earlier.turn == turn else _Published(turn)
        guards = self._guards
        if published.events + len(events) > guards.turn_events_max:
            raise _turn_is_full(turn, guards.turn_events_max, "turn events")
        if published.size + size > guards.turn_event_bytes_max:
            raise _turn_is_full(turn, guards.turn_event_bytes_max, "bytes of turn events")
        self._spend(
            [
                Cost(("events", agent, ""), self._events, len(events)),
                Cost(("event bytes", agent, ""), self._event_bytes, size),
            ]
        )
        published.events += len(events)
        published.size += size
        self._published[agent] = published

    def _spend(self, costs: Sequence[Cost]) -> None:
        """All of it or nothing."""
        now_s = trio.current_time()
        after: list[tuple[Key, Bucket]] = []
        for cost in costs:
            before = self._buckets.get(cost.key)
            bucket = spent(before, cost.rate, cost.amount, now_s)
            if bucket is None:
                raise too_fast(_who(cost.key), cost.rate, wait_s(before, cost.rate, cost.amount, now_s))
            after.append((cost.key, bucket))
        self._buckets.update(after)
        if len(self._buckets) > BUCKETS_MAX:
            self._forget_idle(now_s)

    def _forget_idle(self, now_s: float) -> None:
        """Buckets that nobody touched for the longest window are full."""
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if now_s - bucket.at_s < HOUR_S}


def _who(key: Key) -> str:
    """`iris`, or `iris to atlas`."""
    _, name, other = key
    return f"{name} to {other}" if other else name


def _turn_is_full(turn: int, most: int, what: str) -> Refused:
    return Refused(
        Problem.LIMIT, f"turn {turn}: at most {most} {what} are kept of one turn; leave out what follows"
    )
