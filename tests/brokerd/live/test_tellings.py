"""What is told of leases: those that last, and nothing of those that were over in a moment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from brokerd.live.feed import Feed
from brokerd.live.tellings import TELL_S, Tellings
from brokerd.store import deliveries, messages, schema
from brokerd.store.deliveries import Telling
from brokerd.store.feed import Entry, open_feed
from protocol.brokerd import DeliveryChanged
from protocol.messages import DeliveryState
from runtime.log import logger
from runtime.store import StoreShape, open_store
from tests.brokerd.store.conftest import migrated, shape
from tests.brokerd.store.drafts import draft
from tests.support.quiet import settled
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
__all__ = ["migrated", "shape"]

LEASED, QUEUED = DeliveryState.LEASED, DeliveryState.QUEUED


class Desk:
    """Three deliveries that wait, and what is told of them."""

    def __init__(self) -> None:
        self.told: list[tuple[int, DeliveryState]] = []
        self.ids: list[int] = []
        self.tellings: Tellings

    def heard(self, entry: Entry) -> None:
        if isinstance(entry.body, DeliveryChanged):
            self.told.append((entry.body.delivery.id, entry.body.delivery.state))

    def tell(self, place: int, *, is_leased: bool) -> None:
        self.tellings.tell(Telling(self.ids[place], is_leased))


@asynccontextmanager
async def desk(shape: StoreShape) -> AsyncIterator[Desk]:
    made = Desk()
    async with open_store(shape, schema.migrate) as store, trio.open_nursery() as nursery:
        feed = Feed(store, await store.write(open_feed, "boot"), made.heard, logger("test"))
        sent = await feed.write(messages.store, [draft() for _ in range(3)])
        made.ids = [deliveries.id_of(message.id, 0) for message in sent]
        made.tellings = Tellings(feed, logger("test"))
        nursery.start_soon(made.tellings.tell_on)
        yield made
        nursery.cancel_scope.cancel()


async def test_a_lease_that_lasts_is_told(shape: StoreShape, clock: MockClock) -> None:
    async with desk(shape) as made:
        made.tell(0, is_leased=True)
        await settled()
        assert made.told == []
        clock.jump(TELL_S)
        await until(lambda: made.told == [(made.ids[0], LEASED)], what="the lease")
        made.tell(0, is_leased=False)
        await settled()
        clock.jump(TELL_S)
        await until(lambda: made.told[1:] == [(made.ids[0], QUEUED)], what="its end")


async def test_what_is_over_in_a_moment_is_never_told(shape: StoreShape, clock: MockClock) -> None:
    async with desk(shape) as made:
        made.tell(0, is_leased=True)
        made.tell(0, is_leased=False)
        made.tell(1, is_leased=True)
        made.tellings.forget(made.ids[1])
        made.tell(2, is_leased=True)
        made.tell(2, is_leased=True)
        await settled()
        clock.jump(TELL_S)
        await until(lambda: bool(made.told), what="the one that lasts")
        assert made.told == [(made.ids[2], LEASED)]
        made.tellings.tell(Telling(made.ids[2], is_leased=False))
        made.tell(2, is_leased=True)
        made.tell(0, is_leased=True)
        await settled()
        clock.jump(TELL_S)
        await until(lambda: made.told[1:] == [(made.ids[0], LEASED)], what="what is still so")
