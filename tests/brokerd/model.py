"""The broker as a few dictionaries: what every request should do, without a database, a socket or a clock."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from brokerd.policy.accounts import RESUME_EVERY_S, left_ms
from brokerd.policy.settling import settle
from protocol.limits import LEASE_MS
from protocol.messages import DeliveryState
from protocol.names import OPERATOR
from protocol.turns import Outcome

LEASE_S = LEASE_MS / 1000
HOPS_MAX = 2
"""So few that chains reach it often."""


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
class Message:
    """`parties` may answer it in its thread. `hops` start again when it is released."""

    thread: int
    parties: frozenset[str]
    hops: int


@dataclass
class Turn:
    agent: str
    driven_by: int
    """The delivery that it began with."""
    closed: tuple[int, int, int] | None = None
    """Done, requeued, dead: the answer of its end."""


@dataclass
class Limit:
    """Until when an account is limited, by the wall clock, and by the clock that only ever runs."""

    until_ms: int
    ends: float


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
    messages: dict[int, Message] = field(default_factory=dict)
    parked: set[int] = field(default_factory=set)
    """Threads, the closed ones among them."""
    paused: set[str] = field(default_factory=set)
    hops: dict[str, int] = field(default_factory=dict)
    """The highest of each agent's last turn."""
    limit: "Limit | None" = None
    """Of the account that all agents share."""
    limited: set[str] = field(default_factory=set)
    """Whom it holds, also after its end until they go on."""
    lifted: set[str] = field(default_factory=set)
    """Whom the operator let go on in spite of it."""
    next_at: float = 0.0
    """When the next of them may go on."""

    def send(
        self, message: int, sender: str, recipients: tuple[str, ...], in_reply_to: int | None = None
    ) -> bool:
        """Whether it is held."""
        answered = None if in_reply_to is None else self.messages.get(in_reply_to)
        is_theirs = answered is not None and (sender == OPERATOR or sender in answered.parties)
        thread = answered.thread if answered is not None and is_theirs else message
        hops = 0 if sender == OPERATOR else self.hops.get(sender, 0) + 1
        self.messages[message] = Message(thread, frozenset({sender, *recipients}), hops)
        is_held = hops > HOPS_MAX or (thread in self.parked and sender != OPERATOR)
        held = [name for name in recipients if is_held and name != OPERATOR]
        for place, name in enumerate(recipients):
            state = DeliveryState.HELD if name in held else DeliveryState.QUEUED
            self.deliveries[message * 128 + place] = Delivery(name, state)
        if held:
            self.parked.add(thread)
        return bool(held)

    def held(self, thread: int) -> list[int]:
        return [
            number
            for number, delivery in self.deliveries.items()
            if delivery.state is DeliveryState.HELD and self.messages[number >> 7].thread == thread
        ]

    def holding(self) -> dict[int, int]:
        """How much each thread holds, of those that hold anything."""
        return {thread: len(held) for thread in self.parked if (held := self.held(thread))}

    def release(self, thread: int) -> None:
        for number in self.held(thread):
            self.deliveries[number].state = DeliveryState.QUEUED
            self.messages[number >> 7].hops = 0
        self.parked.remove(thread)

    def close(self, thread: int) -> None:
        for number in self.held(thread):
            self.deliveries[number].state = DeliveryState.DEAD

    def retry(self, number: int) -> None:
        self.deliveries[number] = Delivery(self.deliveries[number].recipient)

    def pause(self, agent: str) -> None:
        self.paused.add(agent)
        lease = self.leases.get(agent)
        if lease is not None and lease.turn is None:
            del self.leases[agent]

    def queued(self, recipient: str) -> list[int]:
        return sorted(
            number
            for number, delivery in self.deliveries.items()
            if delivery.recipient == recipient and delivery.state is DeliveryState.QUEUED
        )

    def open_count(self, recipient: str) -> int:
        """Deliveries that are neither done nor dead."""
        states = (DeliveryState.HELD, DeliveryState.QUEUED, DeliveryState.IN_TURN)
        return sum(each.recipient == recipient and each.state in states for each in self.deliveries.values())

    def open_turn(self, agent: str) -> int | None:
        return next(
            (number for number, turn in self.turns.items() if turn.agent == agent and not turn.closed), None
        )

    def to_take(self, agent: str) -> int | None:
        """What a take would get: the leased one again, or the oldest; nothing in a pause or while a limit holds it."""
        if agent in self.paused or agent in self.limited:
            return None
        lease = self.leases.get(agent)
        if lease is not None:
            return lease.delivery
        return next(iter(self.queued(agent)), None)

    def lease(self, agent: str, delivery: int, token: str) -> None:
        self.leases[agent] = Lease(delivery, token, self.now + LEASE_S)

    def begin(self, agent: str, turn: int) -> None:
        lease = self.leases[agent]
        lease.turn = turn
        self.turns[turn] = Turn(agent, lease.delivery)
        self.tokens[turn] = lease.token
        self.bind(lease.delivery, turn)
        self.hops[agent] = self.messages[lease.delivery >> 7].hops

    def bind(self, delivery: int, turn: int) -> None:
        bound = self.deliveries[delivery]
        bound.state, bound.turn, bound.attempts = DeliveryState.IN_TURN, turn, bound.attempts + 1

    def pull(self, delivery: int, turn: int) -> None:
        self.bind(delivery, turn)
        agent = self.turns[turn].agent
        self.hops[agent] = max(self.hops[agent], self.messages[delivery >> 7].hops)

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

    def met_limit(self, agent: str, until_ms: int, wall_ms: int, everybody: Iterable[str]) -> None:
        """A turn of an agent ended at the account's limit."""
        self.lifted.discard(agent)
        if until_ms > wall_ms and (self.limit is None or self.limit.until_ms != until_ms):
            self.limit = Limit(until_ms, self.now + left_ms(until_ms, wall_ms) / 1000)
        if self.limit is not None:
            self.limited |= set(everybody) - self.lifted
        for name in self.limited & self.leases.keys():
            if self.leases[name].turn is None:
                del self.leases[name]

    def end_limit(self) -> None:
        self.limit = None
        self.lifted.clear()
        self.next_at = 0.0

    def look_at_limit(self, wall_ms: int) -> bool:
        """Whether the next of those whom it holds goes on now."""
        if self.limit is not None and (
            left_ms(self.limit.until_ms, wall_ms) == 0 or self.limit.ends <= self.now
        ):
            self.end_limit()
        goes_on = self.limit is None and bool(self.limited) and self.next_at <= self.now
        if goes_on:
            self.next_at = self.now + RESUME_EVERY_S
        return goes_on

    def resume(self, agent: str) -> None:
        self.paused.discard(agent)
        if agent in self.limited and self.limit is not None:
            self.lifted.add(agent)
        self.limited.discard(agent)

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

    def restart(self, now: float, wall_ms: int) -> None:
        """Only what is on disk is left; turns that run get a fresh lease.

        Of a turn that ended, the message that drove it says how far from outside it was.
        """
        self.now = now
        self.leases.clear()
        self.next_at = 0.0
        if self.limit is not None:
            self.limit.ends = now + left_ms(self.limit.until_ms, wall_ms) / 1000
        for number, turn in sorted(self.turns.items()):
            self.hops[turn.agent] = self.messages[turn.driven_by >> 7].hops
            if turn.closed is None:
                self.leases[turn.agent] = Lease(turn.driven_by, self.tokens[number], now + LEASE_S, number)
                pulled = [each for each, delivery in self.deliveries.items() if delivery.turn == number]
                self.hops[turn.agent] = max(self.messages[each >> 7].hops for each in pulled)
