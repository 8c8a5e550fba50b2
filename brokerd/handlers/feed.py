"""The feed and the state that it starts from."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import cast

from msgspec.structs import replace

from brokerd.handlers.questions import tell_broken
from brokerd.host import Host
from brokerd.store import snapshot
from protocol.brokerd import FeedEvent, Snapshot, TakeSnapshot, WatchFeed
from protocol.messages import DeliveryState, Message, Receipt
from protocol.rpc import Caller
from runtime.clock import now_ms


async def take_snapshot(request: TakeSnapshot, caller: Caller, host: Host) -> Snapshot:
    """What the database says, and which of the waiting deliveries are leased just now."""
    taken = await host.store.read(snapshot.take, now_ms())
    tell_broken(taken.broken_questions, host)
    leased = host.leases.deliveries()
    return replace(taken, messages=tuple(with_leases(message, leased) for message in taken.messages))


def with_leases(message: Message, leased: frozenset[int]) -> Message:
    """The message, with the state that its leased deliveries have in memory."""
    if not any(_is_leased(receipt, leased) for receipt in message.deliveries):
        return message
    receipts = (
        replace(receipt, state=DeliveryState.LEASED) if _is_leased(receipt, leased) else receipt
        for receipt in message.deliveries
    )
    return replace(message, deliveries=tuple(receipts))


def _is_leased(receipt: Receipt, leased: frozenset[int]) -> bool:
    return receipt.state is DeliveryState.QUEUED and receipt.id in leased


def watch_feed(
    request: WatchFeed, caller: Caller, host: Host
) -> AbstractAsyncContextManager[AsyncIterator[FeedEvent]]:
    """Entries are passed on as they were encoded once, for everybody."""
    opened = host.feed.watch(request.epoch, request.since)
    return cast("AbstractAsyncContextManager[AsyncIterator[FeedEvent]]", opened)
