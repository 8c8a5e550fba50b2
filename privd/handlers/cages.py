"""Cages: list, watch, start, stop, restart, rebuild, destroy."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from privd.host import Host
from protocol.privd import (
    AnyCageEvent,
    Cage,
    CagesNow,
    DestroyCage,
    ListCages,
    RebuildCage,
    RestartCage,
    StartCage,
    StopCage,
    WatchCages,
)
from protocol.rpc import Caller


async def list_cages(request: ListCages, caller: Caller, host: Host) -> tuple[Cage, ...]:
    return host.rows()


@asynccontextmanager
async def watch(
    request: WatchCages, caller: Caller, host: Host
) -> AsyncIterator[AsyncIterator[AnyCageEvent]]:
    with host.changes.subscribed() as changes:
        now = CagesNow(host.rows())

        async def events() -> AsyncIterator[AnyCageEvent]:
            yield now
            async for change in changes:
                yield change

        yield events()


async def start(request: StartCage, caller: Caller, host: Host) -> Cage:
    return await host.keeper(request.agent).start()


async def stop(request: StopCage, caller: Caller, host: Host) -> Cage:
    grace_s = host.settings.stop_grace_s if request.graceful else 0
    return await host.keeper(request.agent).stop(grace_s, until_next_start=request.until_next_start)


async def restart(request: RestartCage, caller: Caller, host: Host) -> Cage:
    return await host.keeper(request.agent).restart(host.settings.stop_grace_s)


async def rebuild(request: RebuildCage, caller: Caller, host: Host) -> Cage:
    keeper = host.keeper(request.agent)
    await host.systems.build_again(request.agent, host.base(request.agent))
    return await keeper.rebuild(host.settings.stop_grace_s)


async def destroy(request: DestroyCage, caller: Caller, host: Host) -> Cage:
    return await host.destroy(request.agent)
