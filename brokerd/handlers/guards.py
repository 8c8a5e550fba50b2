"""What the operator decides about agents and threads that are held back: pause and resume, release and close."""

from typing import Final

from brokerd.host import Host
from brokerd.policy.recipients import manager_of
from brokerd.store import news, parked, pauses
from brokerd.store.feed import FeedLog
from protocol.brokerd import CloseThread, Marked, PauseAgent, ReleaseThread, ResumeAgent
from protocol.messages import SystemEvent
from protocol.rpc import Caller
from runtime.store import Db

FREED_PER_JOB_MAX: Final = 200
"""Held deliveries that are changed in one transaction, so that nobody's send waits for all of them."""
PAUSE_TOLD_MS_MIN: Final = 60_000
"""The end of a shorter pause is not worth a turn of the manager's."""


async def pause_agent(request: PauseAgent, caller: Caller, host: Host) -> Marked:
    """Let no new turn begin, from when this returns; a delivery that is leased and drives no turn waits again."""
    agent = host.roster.of(request.agent).name
    seq = await host.feed.write(pauses.pause, agent)
    lease = host.leases.of(agent)
    if lease is not None and lease.turn is None and not lease.is_beginning:
        host.leases.drop(agent)
    return Marked(seq)


async def resume_agent(request: ResumeAgent, caller: Caller, host: Host) -> Marked:
    """The manager is told, unless the pause was so short that nobody noticed."""
    agent = host.roster.of(request.agent).name
    await host.accounts.lift(agent)
    seq, is_news = await host.feed.write(_resume, agent, manager_of(host.roster.roles))
    if is_news:
        host.digests.add(SystemEvent.RESUMED)
    return Marked(seq)


def _resume(db: Db, log: FeedLog, agent: str, manager: str | None) -> tuple[int, bool]:
    since_ms = pauses.since(db, agent)
    seq = pauses.resume(db, log, agent)
    if since_ms is None or log.at_ms - since_ms < PAUSE_TOLD_MS_MIN or agent == manager:
        return seq, False
    news.goes_on(db, log, agent, since_ms)
    return seq, True


async def release_thread(request: ReleaseThread, caller: Caller, host: Host) -> Marked:
    """Queue all that is held. What is written meanwhile is held, too, and then queued as well."""
    while True:
        seq = await host.feed.write(parked.release_some, request.thread, FREED_PER_JOB_MAX)
        if seq is not None:
            return Marked(seq)


async def close_thread(request: CloseThread, caller: Caller, host: Host) -> Marked:
    while True:
        seq = await host.feed.write(parked.close_some, request.thread, FREED_PER_JOB_MAX)
        if seq is not None:
            return Marked(seq)
