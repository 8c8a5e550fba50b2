"""What the operator decides about agents and threads that are held back: pause and resume, release and close."""

from typing import Final

from brokerd.host import Host
from brokerd.store import parked, pauses
from protocol.brokerd import CloseThread, Marked, PauseAgent, ReleaseThread, ResumeAgent
from protocol.rpc import Caller

FREED_PER_JOB_MAX: Final = 200
"""Held deliveries that are changed in one transaction, so that nobody's send waits for all of them."""


async def pause_agent(request: PauseAgent, caller: Caller, host: Host) -> Marked:
    """Let no new turn begin, from when this returns; a delivery that is leased and drives no turn waits again."""
    agent = host.roster.of(request.agent).name
    seq = await host.feed.write(pauses.pause, agent)
    lease = host.leases.of(agent)
    if lease is not None and lease.turn is None and not lease.is_beginning:
        host.leases.drop(agent)
    return Marked(seq)


async def resume_agent(request: ResumeAgent, caller: Caller, host: Host) -> Marked:
    return Marked(await host.feed.write(pauses.resume, host.roster.of(request.agent).name))


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
