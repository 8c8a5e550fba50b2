"""What privd looks at now and then, for ever: journals, limits that were met, disks that fill, proposals.

Nothing here may end privd: an agent can fill a disk, and make the counting of its files fail.
"""

from typing import Final

import trio

from privd.handlers.state import measured
from privd.host import Host
from privd.keeper import Keeper
from privd.renewal import Renewal
from protocol.privd import Power
from protocol.problem import Refused

JOURNALS_LOOK_S: Final = 20.0
LIMITS_LOOK_S: Final = 5.0
"""A few small files of the kernel for each cage."""
PROPOSALS_LOOK_S: Final = 60.0
BASES_LOOK_S: Final = 60.0
DISKS_LOOK_S: Final = 180.0
"""A box for each folder of each cage, one after the other."""


async def rotate_journals(host: Host) -> None:
    """Move large journals aside."""
    while True:
        for keeper in host.keepers():
            agent = keeper.record.agent
            try:
                await trio.to_thread.run_sync(host.journal(agent).rotate)
            except Refused:  # purged meanwhile
                continue
            except OSError as error:
                host.log.warning("a journal cannot be moved aside", agent=agent, error=str(error))
        await trio.sleep(JOURNALS_LOOK_S)


async def watch_limits(host: Host) -> None:
    """Tell what the kernel refused."""
    while True:
        for keeper in host.keepers():
            keeper.look_at_limits()
            await trio.lowlevel.checkpoint()
        await trio.sleep(LIMITS_LOOK_S)


async def watch_disks(host: Host) -> None:
    """Count what cages hold on the disk; tell of one that is full, stop one that nothing else would."""
    while True:
        await trio.sleep(DISKS_LOOK_S)
        for keeper in host.keepers():
            if keeper.power is Power.RUNNING and keeper.record.settings.limits.disk_mib_max is not None:
                await look_at_disk(host, keeper)


async def expire_proposals(host: Host) -> None:
    """End what nobody decided in time."""
    while True:
        try:
            await host.proposals.expire()
        except (Refused, OSError) as fault:
            host.log.warning("cannot end proposals that have expired", reason=str(fault))
        await trio.sleep(PROPOSALS_LOOK_S)


async def renew_stale(host: Host) -> None:
    """Notice that a new hyperhive or system is there, and bring running cages up to it."""
    settings = host.settings
    renewal = Renewal(
        host, host.deployments, settings.stop_grace_s, host.log, rebuilds=settings.rebuild_stale
    )
    while True:
        try:
            await renewal.look()
        except OSError as error:
            host.log.warning("cannot bring stale cages up to date", reason=str(error))
        await trio.sleep(BASES_LOOK_S)


async def look_at_disk(host: Host, keeper: Keeper) -> None:
    """One cage's disk, once. Folders that agents share belong to nobody and are not counted."""
    agent = keeper.record.agent
    try:
        sizes = [await measured(host, agent, place) for place in host.owned(agent)]
        if not all(size.complete for size in sizes):
            host.log.warning("not all that a cage holds could be counted", agent=agent)
        await keeper.look_at_disk(sum(size.bytes for size in sizes))
    except Refused as refused:
        host.log.warning("cannot count what a cage holds", agent=agent, reason=refused.detail)
