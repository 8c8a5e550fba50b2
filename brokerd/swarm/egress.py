"""Following egressd: how model accounts stand, and who is turned away. Nothing waits for it, and it may be away."""

from typing import Final, assert_never

import trio

from brokerd.host import Host
from brokerd.store import egress
from brokerd.store.egress import Turned
from protocol.egressd import AccountChanged, AnyEgressEvent, EgressNow, EgressRefused, WatchEgress
from protocol.problem import Refused
from runtime.backoff import delays
from runtime.client import Client, Disconnected

RETRY_FIRST_S: Final = 0.05
RETRY_MAX_S: Final = 2.0
HOST_CHARS_MAX: Final = 260
ROW_BYTES: Final = 1_024


async def follow_egressd(host: Host) -> None:
    """For ever: apply what egressd tells; when it is away, try again, and say so once."""
    waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
    async with Client(host.settings.egress) as egressd:
        while True:
            try:
                async with egressd.watch(WatchEgress()) as events:
                    async for event in events:
                        if host.egress.came():
                            host.log.info("following egressd")
                        waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
                        await apply(event, host)
            except (Disconnected, Refused) as fault:
                host.accounts.watched.clear()
                if host.egress.went():
                    host.log.warning("not following egressd just now", reason=str(fault))
            await trio.sleep(next(waits))


async def apply(event: AnyEgressEvent, host: Host) -> None:
    match event:
        case EgressNow(accounts):
            for account in accounts:
                await host.accounts.told(account)
        case AccountChanged(account):
            await host.accounts.told(account)
        case EgressRefused():
            await _refused(event, host)
        case _:
            assert_never(event)


async def _refused(event: EgressRefused, host: Host) -> None:
    """One that the disk has no room for is left out, and the log says so."""
    if host.roster.get(event.agent) is None:
        return  # it is gone since
    turned = Turned(event.agent, event.why, event.host[:HOST_CHARS_MAX], event.port, event.times, event.at_ms)
    try:
        host.room.admit(ROW_BYTES)
        await host.feed.write_events(egress.refused, turned)
    except Refused as refused:
        host.log.warning("a refusal of the way out is not kept", agent=event.agent, reason=str(refused))
