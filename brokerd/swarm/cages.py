"""Following privd: agents come, change and go; what a cage's end means for a running turn; crashes told to the manager.

While privd is away, everything goes on with what it said last.
"""

from collections.abc import Iterable
from typing import Final

import trio

from brokerd.host import Host
from brokerd.policy.activity import end_by_power
from brokerd.policy.notices import crash_notice
from brokerd.policy.recipients import manager_of
from brokerd.store import agents, deliveries, parked, questions, reminders, turns
from brokerd.store.agents import Known
from brokerd.store.feed import FeedLog
from brokerd.store.keys import Asked
from brokerd.store.messages import Draft
from brokerd.store.turns import Ending
from brokerd.swarm.doors import Doors
from protocol.names import SYSTEM
from protocol.privd import AnyCageEvent, Cage, CageChanged, CageCrashed, CageGone, CagesNow, Power, WatchCages
from protocol.problem import Refused
from protocol.turns import Outcome
from runtime.backoff import delays
from runtime.client import Client, Disconnected
from runtime.clock import new_key
from runtime.store import Db

RETRY_FIRST_S: Final = 0.05
RETRY_MAX_S: Final = 2.0
BURIED_PER_JOB_MAX: Final = 200


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
            for name in sorted(known.union(await host.store.read(reminders.agents_with_open)) - told):
                await _gone(name, host, doors)
            await _changed(cages, host, doors)
        case CageChanged(cage):
            await _changed([cage], host, doors)
        case CageGone(agent):
            await _gone(agent, host, doors)
        case CageCrashed():
            await _crashed(event, host)


async def _changed(cages: Iterable[Cage], host: Host, doors: Doors) -> None:
    """Agents whose cages exist get a socket; those of which only state is kept lose theirs."""
    here = [
        Known(cage.agent, cage.harness_uid, cage.settings) for cage in cages if cage.power is not Power.KEPT
    ]
    await host.feed.write(agents.know, here)
    for known in here:
        host.roster.know(known)
        doors.open(known)
    for cage in cages:
        outcome = end_by_power(cage.power)
        if outcome is not None:
            await harness_ended(cage.agent, Ending(outcome, f"the cage is {cage.power}"), host)
        if cage.power is Power.KEPT:
            await _forget(cage.agent, host, doors)


async def _forget(agent: str, host: Host, doors: Doors) -> None:
    host.roster.forget(agent)
    doors.close(agent)
    await host.feed.write(agents.forget, [agent])


async def _gone(agent: str, host: Host, doors: Doors) -> None:
    """An agent was purged: nobody will ever read what waits for it."""
    await harness_ended(agent, Ending(Outcome.INTERRUPTED, "the agent was removed"), host)
    await _forget(agent, host, doors)
    while await host.feed.write(questions.close, agent, BURIED_PER_JOB_MAX):
        continue
    while await host.feed.write(reminders.cancel_of, agent, BURIED_PER_JOB_MAX):
        continue
    while await host.feed.write(deliveries.bury, agent, BURIED_PER_JOB_MAX):
        continue
    while await host.feed.write(parked.bury, agent, BURIED_PER_JOB_MAX):
        continue


async def _crashed(event: CageCrashed, host: Host) -> None:
    await harness_ended(event.agent, Ending(Outcome.CRASHED, f"the cage {event.how}"), host)
    manager = manager_of(host.roster.roles)
    if manager is None or manager == event.agent:
        return
    notice = Draft(
        asked=Asked(SYSTEM, bytes.fromhex(new_key())),
        digest=b"",
        to=manager,
        recipients=(manager,),
        broadcast=False,
        body=crash_notice(event.agent, event.how, event.journal),
        in_reply_to=None,
    )
    try:
        await host.outbox.send(notice)
    except Refused as refused:
        host.log.warning("the manager cannot be told of a crash", agent=event.agent, reason=str(refused))


async def harness_ended(agent: str, ending: Ending, host: Host) -> None:
    """An agent's harness runs no more: its turn ends, and what it held waits again."""
    host.leases.drop(agent)
    if host.roster.get(agent) is not None:
        await host.feed.write(_end, agent, ending)


def _end(db: Db, log: FeedLog, agent: str, ending: Ending) -> None:
    turns.end_open(db, log, agent, ending)
    agents.change_if_known(db, log, agent, attached=False)
