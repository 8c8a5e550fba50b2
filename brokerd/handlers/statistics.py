"""Numbers about agents and the swarm."""

from brokerd.host import Host
from brokerd.policy.retention import before
from brokerd.policy.statistics import span_for
from brokerd.store import statistics
from brokerd.store.statistics import Inbox
from protocol.brokerd import ReadStatistics
from protocol.rpc import Caller
from protocol.statistics import Statistics
from runtime.clock import now_ms


async def read_statistics(request: ReadStatistics, caller: Caller, host: Host) -> Statistics:
    """Of everybody, or of one agent with its series. What cannot be read is left out and logged."""
    at_ms = now_ms()
    span = span_for(request.since_ms, at_ms, before(at_ms, host.settings.retention.turns_days))
    if request.agent is None:
        agents = sorted(known.name for known in host.roster.all())
    else:
        agents = [host.roster.of(request.agent).name]
    inboxes = {name: Inbox(host.inboxes.of(name).open, host.inboxes.of(name).peak) for name in agents}
    counted = await host.store.read(statistics.read, span, agents, inboxes, series=request.agent is not None)
    for fault in counted.faults:
        host.log.error("statistics leave out what cannot be read", fault=fault)
    swarm = counted.swarm
    return Statistics(
        since_ms=counted.span.since_ms,
        at_ms=at_ms,
        bucket_ms=counted.span.bucket_ms,
        agents=counted.agents,
        messages=swarm.messages,
        messages_kept=swarm.messages_kept,
        questions_open=swarm.questions_open,
        reminders_open=swarm.reminders_open,
        threads_parked=swarm.threads_parked,
        approvals_waiting=0,
        disk=host.room.disk(await host.backups.size()),
    )
