"""What memory knows of each recipient's queue: how much is open, whether something waits, and who waits for it.

The database is the queue. An inbox only spares looking there: `first` is the oldest waiting delivery when that is
known, `is_searched` says that nothing else waits. When in doubt, the database is asked.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import msgspec
import trio

from brokerd.policy.recipients import check_inbox
from brokerd.store.feed import Entry
from brokerd.store.pulls import Waiting
from protocol.brokerd import DeliveryChanged, MessageSent
from protocol.messages import DeliveryState

SETTLED: Final = frozenset({DeliveryState.DONE, DeliveryState.DEAD})


class Inbox:
    """One recipient's."""

    def __init__(self, deliveries_open: int = 0) -> None:
        self.open = deliveries_open
        self.reserved = 0
        self.arrivals = 0
        self.waiters = 0
        self.first: Waiting | None = None
        self.is_searched = False
        """Whether nothing waits in the database, beside `first`."""
        self._arrived = trio.Event()
        self._taker: trio.CancelScope | None = None

    def arrive(self, waiting: Waiting | None) -> None:
        """Something waits; None when what it is, and its place in the queue, must be looked up."""
        if waiting is not None and self.is_searched and self.first is None:
            self.first = waiting
        else:
            self.is_searched = False
        if waiting is None:
            self.first = None
        self.arrivals += 1
        if self.waiters:
            self._arrived.set()
            self._arrived = trio.Event()

    def leave(self, delivery: int) -> None:
        """A delivery does not wait any more."""
        if self.first is not None and self.first.delivery == delivery:
            self.first = None

    def searched(self, arrivals: int) -> None:
        """A look into the database found nothing; worthless when something arrived since `arrivals` was read."""
        if arrivals == self.arrivals:
            self.is_searched = True

    async def wait(self) -> None:
        """Until something arrives."""
        self.waiters += 1
        try:
            await self._arrived.wait()
        finally:
            self.waiters -= 1

    @contextmanager
    def taking(self) -> Iterator[trio.CancelScope]:
        """The place of the one who takes the next delivery; whoever held it before is sent away."""
        if self._taker is not None:
            self._taker.cancel()
        with trio.CancelScope() as scope:
            self._taker = scope
            try:
                yield scope
            finally:
                if self._taker is scope:
                    self._taker = None


class Inboxes:
    """Everybody's, the operator's among them; kept up to date by the feed."""

    def __init__(self, open_counts: Mapping[str, int]) -> None:
        self._inboxes = {name: Inbox(count) for name, count in open_counts.items()}

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
            for receipt in body.message.deliveries:
                inbox = self.of(receipt.recipient)
                inbox.open += 1
                inbox.arrive(Waiting(receipt.id, 0, bare))
        elif isinstance(body, DeliveryChanged):
            self._follow_delivery(body)

    def _follow_delivery(self, changed: DeliveryChanged) -> None:
        receipt = changed.delivery
        inbox = self.of(receipt.recipient)
        if receipt.state is DeliveryState.QUEUED:
            inbox.arrive(None)
        else:
            inbox.leave(receipt.id)
        if receipt.state in SETTLED:
            inbox.open -= 1

    def reserve(self, recipients: Iterable[str]) -> list[Inbox]:
        """Room for one delivery each until it is stored, so that no two sends fill the last place (`limit`)."""
        inboxes = []
        for name in recipients:
            inbox = self.of(name)
            check_inbox(name, inbox.open + inbox.reserved)
            inboxes.append(inbox)
        for inbox in inboxes:
            inbox.reserved += 1
        return inboxes

    def release(self, reserved: Iterable[Inbox]) -> None:
        """What was stored is counted by now; what was not needs no room."""
        for inbox in reserved:
            inbox.reserved -= 1
