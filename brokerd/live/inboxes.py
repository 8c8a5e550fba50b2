"""What memory knows of each recipient's queue: how much is open, whether something waits, and who waits for it.

The database is the queue. An inbox only spares looking there: `first` is the oldest waiting delivery when that is
known, `is_searched` says that nothing else waits. When in doubt, the database is asked.
"""

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Self

import msgspec
import trio

from brokerd.policy.bodies import bytes_of
from brokerd.policy.guards import Guards, check_inbox
from brokerd.store.feed import Entry
from brokerd.store.pulls import Waiting
from protocol.brokerd import Agent, AgentChanged, AgentGone, MessageSent
from protocol.messages import DeliveryState, Receipt
from runtime.later import Later
from runtime.reactor import Timer, this_reactor


class Inbox:
    """One recipient's."""

    __slots__ = (
        "_taker",
        "_waiting",
        "arrivals",
        "first",
        "is_limited",
        "is_paused",
        "is_searched",
        "open",
        "peak",
        "reserved",
        "reserved_size",
        "size",
    )

    def __init__(self, deliveries_open: int = 0, size: int = 0, *, is_paused: bool = False) -> None:
        self.open = deliveries_open
        self.peak = deliveries_open
        """The most that were open since that was noted (brokerd.live.behind)."""
        self.size = size
        """Bytes of the messages that are open."""
        self.reserved = 0
        self.reserved_size = 0
        self.is_paused = is_paused
        """The operator wants nothing to be taken."""
        self.is_limited = False
        """A limit of its model account holds the agent."""
        self.arrivals = 0
        self.first: Waiting | None = None
        self.is_searched = False
        """Whether nothing waits in the database, beside `first`."""
        self._waiting: tuple[Later[bool], ...] = ()
        self._taker: Place | None = None

    @property
    def is_shut(self) -> bool:
        """Whether nothing is taken for now."""
        return self.is_paused or self.is_limited

    @property
    def waiters(self) -> int:
        """How many wait for something."""
        return len(self._waiting)

    def arrive(self, waiting: Waiting | None) -> None:
        """Something waits; None when what it is, and its place in the queue, must be looked up."""
        if waiting is not None and self.is_searched and self.first is None:
            self.first = waiting
        else:
            self.is_searched = False
        if waiting is None:
            self.first = None
        self.look_again()

    def look_again(self) -> None:
        """Whoever waits for something has another look."""
        self.arrivals += 1
        waiting, self._waiting = self._waiting, ()
        for told in waiting:
            told.tell(True)

    def leave(self, delivery: int) -> None:
        """A delivery does not wait any more."""
        if self.first is not None and self.first.delivery == delivery:
            self.first = None

    async def wait(self) -> None:
        """Until something arrives."""
        told: Later[bool] = Later()
        self.tell(told)
        try:
            await told
        finally:
            self.tell_no_more(told)

    def tell(self, told: Later[bool]) -> None:
        """Tell it True when something arrives."""
        self._waiting += (told,)

    def tell_no_more(self, told: Later[bool]) -> None:
        """Nobody waits for it any longer."""
        self._waiting = tuple(each for each in self._waiting if each is not told)

    def taking(self, deadline: float) -> "Place":
        """The place of the one who takes the next delivery, until then (trio's time); who held it is sent away."""
        if self._taker is not None:
            self._taker.lose()
        self._taker = place = Place(self, deadline)
        return place

    def taken(self, place: "Place") -> None:
        """Its holder waits no longer."""
        if self._taker is place:
            self._taker = None


class Place:
    """Held by one take at a time, for as long as it is entered.

    Thousands wait in one. So a wait is a Later and no coroutine, and what would end it is taken away at the exit.
    """

    __slots__ = ("_deadline", "_inbox", "_timer", "_told", "is_lost")

    def __init__(self, inbox: Inbox, deadline: float) -> None:
        self.is_lost = False
        self._inbox = inbox
        self._deadline = deadline
        self._timer: Timer | None = None
        self._told: Later[bool] | None = None

    def lose(self) -> None:
        """Another take came."""
        self.is_lost = True
        self._end()

    def _end(self) -> None:
        if self._told is not None:
            self._told.tell(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._told is not None:
            self._inbox.tell_no_more(self._told)
        if self._timer is not None:
            self._timer.cancel()
        self._inbox.taken(self)

    def arrival(self) -> Awaitable[bool]:
        """Wait for something to arrive; False when the deadline came first, or another take."""
        told = self._told = Later()
        if self._deadline <= trio.current_time():
            self._end()
        else:
            self._inbox.tell(told)
            if self._timer is None:
                self._timer = this_reactor().at(self._deadline, self._end)
        return told


class Reserved(msgspec.Struct, frozen=True):
    """Room in inboxes, for one message of so many bytes."""

    inboxes: list[Inbox]
    size: int


class Inboxes:
    """Everybody's, the operator's among them; kept up to date by the feed."""

    def __init__(
        self,
        open_counts: Mapping[str, int],
        open_bytes: Mapping[str, int] | None = None,
        paused: Iterable[str] = (),
        limited: Iterable[str] = (),
        guards: Guards | None = None,
    ) -> None:
        sizes = open_bytes or {}
        self._guards = guards or Guards()
        self._inboxes = {name: Inbox(count, sizes.get(name, 0)) for name, count in open_counts.items()}
        for name in paused:
            self.of(name).is_paused = True
        for name in limited:
            self.of(name).is_limited = True

    def of(self, recipient: str) -> Inbox:
        inbox = self._inboxes.get(recipient)
        if inbox is None:
            inbox = self._inboxes[recipient] = Inbox()
        return inbox

    def waiting(self) -> list[str]:
        """Those for whom somebody waits."""
        return [name for name, inbox in self._inboxes.items() if inbox.waiters]

    def follow(self, entry: Entry) -> None:
        """Take note of what the feed says."""
        body = entry.body
        if isinstance(body, MessageSent):
            bare = msgspec.structs.replace(body.message, deliveries=())
            size = bytes_of(bare.body)
            for receipt in body.message.deliveries:
                inbox = self.of(receipt.recipient)
                inbox.open += 1
                inbox.peak = max(inbox.peak, inbox.open)
                inbox.size += size
                if receipt.state is not DeliveryState.HELD:
                    inbox.is_searched = inbox.is_searched or inbox.open == 1
                    inbox.arrive(Waiting(receipt.id, 0, bare))
        elif receipts := entry.deliveries:
            self._follow_deliveries(entry, receipts)
        elif isinstance(body, AgentChanged):
            self._follow_agent(body.agent)
        elif isinstance(body, AgentGone):
            self.of(body.name).is_limited = False

    def _follow_deliveries(self, entry: Entry, receipts: Iterable[Receipt]) -> None:
        inbox = self.of(entry.agent)
        for receipt in receipts:
            if receipt.state is DeliveryState.QUEUED:
                inbox.arrive(None)
            else:
                inbox.leave(receipt.id)
        if entry.opened:
            inbox.open += entry.opened
            inbox.peak = max(inbox.peak, inbox.open)
            inbox.size += entry.size

    def _follow_agent(self, agent: Agent) -> None:
        inbox = self.of(agent.name)
        was_shut = inbox.is_shut
        inbox.is_paused, inbox.is_limited = agent.paused, agent.limited_by is not None
        if inbox.is_shut != was_shut:
            inbox.look_again()

    def reserve(self, recipients: Sequence[str], size: int, sender: str) -> Reserved:
        """Room for one delivery each until it is stored, so that no two sends fill the last place (`limit`)."""
        reserved = Reserved([self.of(name) for name in recipients], size)
        for name, inbox in zip(recipients, reserved.inboxes, strict=True):
            waiting, waiting_size = inbox.open + inbox.reserved, inbox.size + inbox.reserved_size
            check_inbox(name, waiting, waiting_size, size, sender, self._guards)
        for inbox in reserved.inboxes:
            inbox.reserved += 1
            inbox.reserved_size += size
        return reserved

    def full(self) -> frozenset[str]:
        """Those for whom no message more is stored, except the hive's own."""
        guards = self._guards
        return frozenset(
            name
            for name, inbox in self._inboxes.items()
            if inbox.open + inbox.reserved >= guards.inbox_deliveries_max
            or inbox.size + inbox.reserved_size >= guards.inbox_bytes_max
        )

    def peaks(self) -> dict[str, int]:
        """The most that were open in each inbox since that was noted, where any were."""
        return {name: inbox.peak for name, inbox in self._inboxes.items() if inbox.peak}

    def noted(self, peaks: Mapping[str, int]) -> None:
        """These depths are noted; only what is deeper since then, or still there, counts for the next note."""
        for name, peak in peaks.items():
            inbox = self._inboxes[name]
            inbox.peak = inbox.open if inbox.peak <= peak else inbox.peak

    def release(self, reserved: Reserved) -> None:
        """What was stored is counted by now; what was not needs no room."""
        for inbox in reserved.inboxes:
            inbox.reserved -= 1
            inbox.reserved_size -= reserved.size
