"""What egressd tells brokerd: its accounts, and whom it turned away. Memory alone: after a restart it begins anew."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from egressd.accounts import Accounts
from egressd.refusals import Refusals
from protocol.egressd import AnyEgressEvent, EgressNow, WatchEgress
from protocol.hello import WIRE_VERSION, Greeting, Hello
from protocol.rpc import Caller
from runtime import VERSION
from runtime.clock import now_ms
from runtime.fanout import Fanout
from runtime.service import Service

QUEUE_MAX: Final = 1024
"""Events that wait for a slow watcher before its watch is ended with `limit`."""


class News:
    """The source of every event."""

    def __init__(self, accounts: tuple[str, ...], service: Service) -> None:
        self.events: Fanout[AnyEgressEvent] = Fanout(QUEUE_MAX)
        self.accounts = Accounts(accounts, self.events.publish, now_ms)
        self.refusals = Refusals(self.events.publish, now_ms)
        service.start_background(self.accounts.serve, name="accounts")
        service.start_background(self.refusals.serve, name="refusals")


async def hello(request: Hello, caller: Caller, news: News) -> Greeting:
    """Who answers."""
    return Greeting(daemon="egressd", version=VERSION, wire=WIRE_VERSION)


@asynccontextmanager
async def watch(
    request: WatchEgress, caller: Caller, news: News
) -> AsyncIterator[AsyncIterator[AnyEgressEvent]]:
    with news.events.subscribed() as events:
        now = EgressNow(news.accounts.rows())

        async def from_now() -> AsyncIterator[AnyEgressEvent]:
            yield now
            async for event in events:
                yield event

        yield from_now()
