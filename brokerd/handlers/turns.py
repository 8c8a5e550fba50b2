"""Turns: a harness attaches, begins one, tells what happens in it, and ends it."""

from typing import Final

from brokerd.handlers.deliveries import agent_of
from brokerd.host import Host
from brokerd.store import news, snapshot, turn_events, turns
from brokerd.store.turns import Beginning, Ended, Ending
from protocol.agent import (
    Attach,
    Attached,
    BeginTurn,
    CancelTurn,
    EndTurn,
    PublishEvents,
    TurnBegun,
    TurnClosed,
)
from protocol.brokerd import ReadTail, StopTurn, TailPage
from protocol.problem import Problem, Refused
from protocol.rpc import Caller
from protocol.turns import Outcome
from runtime.clock import now_ms
from runtime.later import light

EVENT_BYTES_USUAL: Final = 1_024


async def attach(request: Attach, caller: Caller, host: Host) -> Attached:
    """A new harness ends what an earlier one left: its open turn, and a lease that drove none."""
    agent = agent_of(caller)
    host.harnesses.came(agent, now_ms())
    took_over = await host.feed.write(turns.attach, agent, request.instance)
    if took_over.is_new:
        await _end_lease(agent, host)
        await _limit_is_over(agent, host)
        host.log.info("harness attached", agent=agent, version=request.version, requeued=took_over.requeued)
    return Attached(agent, host.roster.of(agent).settings.role, took_over.requeued)


async def _limit_is_over(agent: str, host: Host) -> None:
    """What an earlier harness said of a limit ended with it; a new one says so itself when it meets it again."""
    told = await host.feed.write(news.works_again, agent)
    if told is not None:
        host.digests.add(told)


async def _end_lease(agent: str, host: Host) -> None:
    """The earlier harness holds nothing any more, nor a turn that it began while this one attached."""
    lease = host.leases.drop(agent)
    if lease is not None and lease.turn is not None:
        await host.feed.write(
            turns.end, agent, lease.turn, Ending(Outcome.CRASHED, "another harness attached")
        )


@light
async def begin(request: BeginTurn, caller: Caller, host: Host) -> TurnBegun:
    """Begin a turn, durably, for a lease that is held. A repeat gives the same turn."""
    agent = agent_of(caller)
    lease = host.leases.proven(agent, request.delivery, request.token)
    if lease.turn is not None:
        return TurnBegun(lease.turn, host.roster.models.get(agent))
    costs = host.rates.begin(agent)
    lease.is_beginning = True
    try:
        lease.turn = await host.beginnings.ask(Beginning(agent, request.delivery, request.token))
    except Refused:
        host.rates.give_back(costs)
        raise
    finally:
        lease.is_beginning = False
    host.tellings.forget(request.delivery)
    host.hops.turn_began(agent, lease.waiting.message)
    if host.leases.of(agent) is not lease:
        await host.feed.write(
            turns.end, agent, lease.turn, Ending(Outcome.CRASHED, "its lease ended as it began")
        )
        raise Refused(Problem.CONFLICT, f"the lease of delivery {request.delivery} was lost: take it again")
    return TurnBegun(lease.turn, host.roster.models.get(agent))


@light
async def publish(request: PublishEvents, caller: Caller, host: Host) -> None:
    """Add events to the running turn. Refused(limit) past what is kept; a note that says so is still taken."""
    host.room.admit(EVENT_BYTES_USUAL * len(request.events))
    agent = agent_of(caller)
    lease = host.leases.of(agent)
    if lease is not None and lease.turn == request.turn:
        host.rates.publish(agent, request.turn, request.events)
    await host.feed.write_events(turn_events.publish, agent, request.turn, request.events)


@light
async def end(request: EndTurn, caller: Caller, host: Host) -> TurnClosed:
    """Settle every delivery of the turn with its outcome. A repeat gets the first answer."""
    agent = agent_of(caller)
    ending = Ending(
        request.outcome,
        request.detail,
        request.usage,
        request.conversation,
        request.until_ms,
        request.tools,
        request.notes_bytes,
    )
    closed = await host.endings.ask(Ended(agent, request.turn, ending))
    host.leases.end_turn(agent, request.turn)
    if request.outcome is Outcome.RATE_LIMITED and request.until_ms is not None:
        await host.accounts.turn_ended(agent, request.until_ms, request.detail)
    return closed


async def stop(request: StopTurn, caller: Caller, host: Host) -> None:
    """Ask the harness to end the running turn."""
    host.roster.of(request.agent)
    lease = host.leases.of(request.agent)
    if lease is None or lease.turn is None:
        raise Refused(Problem.CONFLICT, f"{request.agent} has no turn running")
    if not host.harnesses.command(request.agent, CancelTurn(lease.turn)):
        raise Refused(Problem.CONFLICT, f"the harness of {request.agent} does not listen now; try again")


async def read_tail(request: ReadTail, caller: Caller, host: Host) -> TailPage:
    page, faults = await host.store.read(snapshot.tail, request.agent, request.before, request.limit)
    for fault in faults:
        host.log.error("a turn event cannot be read", agent=request.agent, fault=fault)
    return page
