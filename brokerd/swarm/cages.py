"""Following privd: agents come, change and go; what a cage's end means for a running turn; crashes and rebuilds told.

While privd is away, everything goes on with what it said last.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, assert_never

import trio

from brokerd.host import Host
from brokerd.policy.activity import end_by_power
from brokerd.policy.bodies import bytes_of
from brokerd.policy.notices import crash_notice, missed_crash_notice, rebuilt_notice, who_acts_on_crash
from brokerd.policy.recipients import manager_of
from brokerd.store import agents, deliveries, limit_hits, news, parked, questions, reminders, turns
from brokerd.store.agents import Known
from brokerd.store.feed import FeedLog
from brokerd.store.messages import Draft
from brokerd.store.turns import Ending
from brokerd.swarm.doors import Doors
from protocol.messages import SystemEvent
from protocol.names import OPERATOR, SYSTEM
from protocol.privd import (
    AnyCageEvent,
    Cage,
    CageChanged,
    CageCrashed,
    CageGone,
    CageLimitHit,
    CageRebuilt,
    CagesNow,
    Power,
    WatchCages,
)
from protocol.problem import Refused
from protocol.turns import Outcome
from runtime.backoff import delays
from runtime.client import Client, Disconnected
from runtime.store import Db

RETRY_FIRST_S: Final = 0.05
RETRY_MAX_S: Final = 2.0
BURIED_PER_JOB_MAX: Final = 200
NO_AGENT: Final = frozenset({Power.KEPT, Power.DRAFT})
"""Powers of what has folders and no cage."""


async def follow_privd(host: Host, doors: Doors) -> None:
    """For ever: apply what privd tells; when it is away, try again, and say so once."""
    waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
    is_away = False
    async with Client(host.settings.swarm) as privd:
        while True:
            try:
                async with privd.watch(WatchCages()) as events:
                    async for event in events:
                        if is_away:
                            host.log.info("following privd again")
                        is_away, waits = False, delays(RETRY_FIRST_S, RETRY_MAX_S)
                        await apply(event, host, doors)
                        del event  # it may have been every cage's, and the next one may come tomorrow
            except (Disconnected, Refused) as fault:
                if not is_away:
                    host.log.warning(
                        "not following privd just now; going on with what it said last", reason=str(fault)
                    )
                is_away = True
            await trio.sleep(next(waits))


async def apply(event: AnyCageEvent, host: Host, doors: Doors) -> None:
    match event:
        case CagesNow(cages):
            told = {cage.agent for cage in cages}
            known = {each.name for each in host.roster.all()}
            for name in sorted(known.union(await host.store.read(_left_behind)) - told):
                await _gone(name, host, doors)
            await _changed(cages, host, doors)
            await _tell_missed([cage for cage in cages if cage.power not in NO_AGENT], host)
        case CageChanged(cage):
            await _changed([cage], host, doors)
        case CageGone(agent):
            await _gone(agent, host, doors)
        case CageCrashed():
            await _crashed(event, host)
        case CageRebuilt(agent, rebuilt_ms):
            await _rebuilt(agent, rebuilt_ms, host)
        case CageLimitHit(agent):
            if host.roster.get(agent) is not None:
                await host.limit_hits.hit(event)
        case _:
            assert_never(event)


def _left_behind(db: Db) -> set[str]:
    """Agents for whom something is open; a purge that brokerd's end cut short left some of it."""
    waiting = deliveries.open_counts(db).keys() - {OPERATOR}
    return {*waiting, *questions.agents_with_open(db), *reminders.agents_with_open(db)}


async def _changed(cages: Iterable[Cage], host: Host, doors: Doors) -> None:
    """Agents whose cages exist get a socket; those of which only state is kept lose theirs, and drafts have none."""
    told = [
        Known(cage.agent, cage.harness_uid, cage.settings) for cage in cages if cage.power not in NO_AGENT
    ]
    await host.feed.write(agents.know, told)
    here = [host.roster.know(known) for known in told]
    for known in here:
        doors.open(known)
    await host.standing.deployed(here)
    await host.accounts.deployed(here)
    for cage in cages:
        outcome = end_by_power(cage.power)
        if outcome is not None:
            since_ms = None if cage.power in NO_AGENT else cage.since_ms
            await harness_ended(cage.agent, Ending(outcome, f"the cage is {cage.power}"), since_ms, host)
        host.health.runs(cage.agent, cage.started_ms if cage.power is Power.RUNNING else None)
        (host.roster.drafts.add if cage.power is Power.DRAFT else host.roster.drafts.discard)(cage.agent)
        if cage.power in NO_AGENT:
            await _forget(cage.agent, host, doors)


async def _forget(agent: str, host: Host, doors: Doors) -> None:
    host.roster.forget(agent)
    host.health.runs(agent, None)
    host.harnesses.forget(agent)
    doors.close(agent)
    await host.standing.gone(agent)
    await host.feed.write(agents.forget, [agent])


async def _gone(agent: str, host: Host, doors: Doors) -> None:
    """An agent was purged: nobody will ever read what waits for it."""
    host.roster.drafts.discard(agent)
    await harness_ended(agent, Ending(Outcome.INTERRUPTED, "the agent was removed"), None, host)
    await _forget(agent, host, doors)
    while await host.feed.write(questions.close, agent, BURIED_PER_JOB_MAX):
        continue
    while await host.feed.write(reminders.cancel_of, agent, BURIED_PER_JOB_MAX):
        continue
    while await host.feed.write(deliveries.bury, agent, BURIED_PER_JOB_MAX):
        continue
    await host.feed.write(news.forget, agent)
    await host.feed.write(limit_hits.forget, agent)
    while await host.feed.write(parked.bury, agent, BURIED_PER_JOB_MAX):
        continue


async def _crashed(event: CageCrashed, host: Host) -> None:
    await harness_ended(event.agent, Ending(Outcome.CRASHED, f"the cage {event.how}"), event.at_ms, host)
    await _tell_crash(event.agent, event.at_ms, crash_notice(event.agent, event.how, event.journal), host)


async def _tell_crash(agent: str, crashed_ms: int, body: str, host: Host) -> None:
    told = news.notice(who_acts_on_crash(agent, host.roster.roles), SystemEvent.CONTAINER_CRASH, body)
    with _room_for(told, host) as draft:
        await host.feed.write(news.crashed, agent, crashed_ms, draft)


async def _rebuilt(agent: str, rebuilt_ms: int, host: Host) -> None:
    host.health.rebuilt(agent)
    told = news.notice(agent, SystemEvent.REBUILT, rebuilt_notice())
    with _room_for(told, host) as draft:
        await host.feed.write(news.rebuilt, agent, rebuilt_ms, manager_of(host.roster.roles), draft)
    host.digests.add(SystemEvent.REBUILT)


async def _tell_missed(cages: Iterable[Cage], host: Host) -> None:
    """What happened while nobody followed privd."""
    told = await host.store.read(news.read_told)
    for cage in cages:
        known = told.get(cage.agent, news.Told())
        if cage.rebuilt_ms is not None:  # told before, perhaps, and not answered before we went
            host.health.rebuilt(cage.agent)
        if cage.crashed_ms not in (None, known.crashed_ms):
            await _tell_crash(
                cage.agent, cage.crashed_ms, missed_crash_notice(cage.agent, cage.crashed_ms), host
            )
        if cage.rebuilt_ms not in (None, known.rebuilt_ms):
            await _rebuilt(cage.agent, cage.rebuilt_ms, host)


@contextmanager
def _room_for(told: Draft, host: Host) -> Iterator[Draft | None]:
    """Room in the inbox of whoever is told; None, and a line in the log, when there is none."""
    try:
        reserved = host.inboxes.reserve(told.recipients, bytes_of(told.body), SYSTEM)
    except Refused as refused:
        host.log.warning("nobody can be told", told=told.event, to=told.to, reason=str(refused))
        yield None
        return
    try:
        yield told
    finally:
        host.inboxes.release(reserved)


async def harness_ended(agent: str, ending: Ending, since_ms: int | None, host: Host) -> None:
    """An agent's harness runs no more, since then or for good: its turn ends, and what it held waits again.

    privd's word of an end may arrive when the next cage's harness is there already. It holds nothing of the earlier
    one's, which ended when it came; were the clock set back in between, a lease's end would end the turn.
    """
    if since_ms is not None and host.harnesses.came_after(agent, since_ms):
        return
    host.leases.drop(agent)
    if host.roster.get(agent) is not None:
        await host.feed.write(_end, agent, ending)


def _end(db: Db, log: FeedLog, agent: str, ending: Ending) -> None:
    turns.end_open(db, log, agent, ending)
    agents.change_if_known(db, log, agent, attached=False)
