"""What brokerd does without being asked."""

from pathlib import Path
from typing import Final

import trio

from brokerd.host import Host
from brokerd.live.leases import Lease
from brokerd.store import deliveries, folder, soundness, turns
from brokerd.store.turns import Ending
from protocol.problem import Refused
from protocol.turns import Outcome
from runtime.store import is_damage

NET_S: Final = 5.0
"""How often the database is asked for what nobody was woken for. It never should find anything."""


async def end_on_broken_store(host: Host) -> None:
    """A disk that did not take a commit is not trusted with the next one: the process ends, loudly."""
    await host.store.failed.wait()
    if is_damage(host.store.fault):
        folder.doubt(Path(host.settings.state))
        raise RuntimeError(
            f"a database is damaged; the next start looks through all of it: {host.store.fault}"
        )
    raise RuntimeError("a commit failed; nothing more can be stored")


async def look_through(host: Host) -> None:
    """Once: the databases that were too large to be looked through before they were served."""
    for file in (host.settings.database, host.settings.events_database):
        if file.stat().st_size <= soundness.CHECKED_FIRST_BYTES_MAX:
            continue
        found = await trio.to_thread.run_sync(soundness.file_faults, file, abandon_on_cancel=True)
        if found:
            folder.doubt(Path(host.settings.state))
            raise soundness.unusable(file, found)


async def end_leases(host: Host) -> None:
    """For ever: leases that run out give their delivery back, and end the turn that it drives."""
    while True:
        for agent, lease in await host.leases.expired():
            await _lease_ended(agent, lease, host)


async def _lease_ended(agent: str, lease: Lease, host: Host) -> None:
    host.log.warning("lease ran out", agent=agent, delivery=lease.delivery, turn=lease.turn)
    if lease.turn is not None:
        ending = Ending(Outcome.TIMEOUT, "the harness did not keep its lease")
        await host.feed.write_surely(turns.end, agent, lease.turn, ending)


async def look_after(host: Host) -> None:
    """For ever: the net below the wake-ups, and the feed's oldest entries."""
    while True:
        await trio.sleep(NET_S)
        await look_for_missed(host)
        try:
            await host.feed.trim()
        except Refused as refused:
            host.log.warning("the feed cannot be trimmed", reason=str(refused))


async def look_for_missed(host: Host) -> None:
    """Wake those who wait although something is there for them."""
    waiting = [name for name in host.inboxes.waiting() if _may_get_more(name, host)]
    if not waiting:
        return
    arrivals = {name: host.inboxes.of(name).arrivals for name in waiting}
    for name in await host.store.read(deliveries.any_queued, waiting):
        inbox = host.inboxes.of(name)
        if inbox.waiters and inbox.arrivals == arrivals[name] and _may_get_more(name, host):
            host.log.error("a delivery waited and its taker was not woken", agent=name)
            inbox.arrive(None)


def _may_get_more(agent: str, host: Host) -> bool:
    """Whether one who waits would get what is queued: a take without a lease, or a pull into a turn."""
    lease = host.leases.of(agent)
    return not host.inboxes.of(agent).is_shut if lease is None else lease.turn is not None
