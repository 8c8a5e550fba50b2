"""The broker as a few dictionaries: what every request should do, without a database, a socket or a clock."""

from dataclasses import dataclass, field

from brokerd.policy.settling import settle
from protocol.limits import LEASE_MS
from protocol.messages import DeliveryState
from protocol.turns import Outcome

LEASE_S = LEASE_MS / 1000


@dataclass
class Delivery:
    recipient: str
    state: DeliveryState = DeliveryState.QUEUED
    attempts: int = 0
    turn: int | None = None


@dataclass
class Lease:
    delivery: int
    token: str
    ends: float
    turn: int | None = None


@dataclass
class Turn:
    agent: str
    closed: tuple[int, int, int] | None = None
    """Done, requeued, dead: the answer of its end."""


@dataclass
class Model:
    """Deliveries and turns are what is on disk; leases and the time go with the process."""

    now: float = 0.0
    deliveries: dict[int, Delivery] = field(default_factory=dict)
    turns: dict[int, Turn] = field(default_factory=dict)
    tokens: dict[int, str] = field(default_factory=dict)
    """The lease that each turn began with."""
    instances: dict[str, str] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)

    def send(self, message: int, recipients: tuple[str, ...]) -> None:
        for place, name in enumerate(recipients):
            self.deliveries[message * 128 + place] = Delivery(name)

    def queued(self, recipient: str) -> list[int]:
        return sorted(
            number
            for number, delivery in self.deliveries.items()
            if delivery.recipient == recipient and delivery.state is DeliveryState.QUEUED
        )

    def open_count(self, recipient: str) -> int:
        """Deliveries that are neither done nor dead."""
        states = (DeliveryState.QUEUED, DeliveryState.IN_TURN)
        return sum(each.recipient == recipient and each.state in states for each in self.deliveries.values())

    def open_turn(self, agent: str) -> int | None:
        return next(
            (number for number, turn in self.turns.items() if turn.agent == agent and not turn.closed), None
        )

    def to_take(self, agent: str) -> int | None:
        """What a take would get: the leased one again, or the oldest."""
        lease = self.leases.get(agent)
        if lease is not None:
            return lease.delivery
        return next(iter(self.queued(agent)), None)

    def lease(self, agent: str, delivery: int, token: str) -> None:
        self.leases[agent] = Lease(delivery, token, self.now + LEASE_S)

    def begin(self, agent: str, turn: int) -> None:
        lease = self.leases[agent]
        lease.turn = turn
        self.turns[turn] = Turn(agent)
        self.tokens[turn] = lease.token
        self.bind(lease.delivery, turn)

    def bind(self, delivery: int, turn: int) -> None:
        bound = self.deliveries[delivery]
        bound.state, bound.turn, bound.attempts = DeliveryState.IN_TURN, turn, bound.attempts + 1

    def end(self, turn: int, outcome: Outcome) -> tuple[int, int, int]:
        """The answer: the first one, if it ended before."""
        ended = self.turns[turn]
        if ended.closed is None:
            counts = dict.fromkeys((DeliveryState.DONE, DeliveryState.QUEUED, DeliveryState.DEAD), 0)
            for delivery in self.deliveries.values():
                if delivery.turn == turn and delivery.state is DeliveryState.IN_TURN:
                    settled = settle(outcome, delivery.attempts)
                    delivery.state, delivery.attempts = settled.state, settled.attempts
                    delivery.turn = None if settled.state is DeliveryState.QUEUED else turn
                    counts[settled.state] += 1
            ended.closed = (
                counts[DeliveryState.DONE],
                counts[DeliveryState.QUEUED],
                counts[DeliveryState.DEAD],
            )
        lease = self.leases.get(ended.agent)
        if lease is not None and lease.turn == turn:
            del self.leases[ended.agent]
        return ended.closed

    def end_open(self, agent: str, outcome: Outcome) -> int:
        """A harness is gone; how many deliveries come again."""
        self.leases.pop(agent, None)
        turn = self.open_turn(agent)
        return 0 if turn is None else self.end(turn, outcome)[1]

    def attach(self, agent: str, instance: str) -> int:
        if self.instances.get(agent) == instance:
            return 0
        self.instances[agent] = instance
        return self.end_open(agent, Outcome.CRASHED)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for agent, lease in list(self.leases.items()):
            if lease.ends <= self.now:
                del self.leases[agent]
                if lease.turn is not None:
                    self.end(lease.turn, Outcome.TIMEOUT)

    def restart(self, now: float) -> None:
        """Only what is on disk is left; turns that run get a fresh lease."""
        self.now = now
        self.leases.clear()
        for number, turn in self.turns.items():
            if turn.closed is None:
                driven = min(each for each, delivery in self.deliveries.items() if delivery.turn == number)
                self.leases[turn.agent] = Lease(driven, self.tokens[number], now + LEASE_S, number)
