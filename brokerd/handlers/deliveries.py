"""The life of a delivery: taken, held, given back, or pulled into a running turn."""

import trio

from brokerd.host import Host
from brokerd.live.inboxes import Inbox
from brokerd.live.leases import Lease
from brokerd.store import deliveries, pulls, reminders
from protocol.agent import Delivery, ExtendLease, ReleaseDelivery, TakeDelivery, Taken
from protocol.agent import Lease as LeaseHeld
from protocol.brokerd import Marked, RetryDelivery
from protocol.messages import SystemEvent
from protocol.problem import Problem, Refused
from protocol.rpc import Caller
from protocol.tools import Received, Recv
from runtime.later import light


def agent_of(caller: Caller) -> str:
    """The agent whose socket this is."""
    if caller.agent is None:
        raise TypeError("this request is served at agents' sockets only")
    return caller.agent


@light
async def take(request: TakeDelivery, caller: Caller, host: Host) -> Taken:
    """Lease the oldest waiting delivery, or wait for one, or for the end of a pause or of a limit.

    Another take of the same agent ends this one empty.
    """
    agent = agent_of(caller)
    inbox = host.inboxes.of(agent)
    with inbox.taking(trio.current_time() + request.wait_s) as place:
        while not place.is_lost:
            arrivals = inbox.arrivals
            lease = _held_again(agent, inbox, host) or _lease_next(agent, inbox, host)
            if lease is not None:
                return Taken(_as_delivery(lease, host))
            if inbox.arrivals == arrivals and not await place.arrival():
                break
    return Taken(None)


def _held_again(agent: str, inbox: Inbox, host: Host) -> Lease | None:
    """A lease that drives no turn yet: its harness asks again, so it gets the same delivery under a new token.

    Not in a pause, where it would begin none.
    """
    lease = host.leases.of(agent)
    if lease is None:
        return None
    if lease.turn is not None or lease.is_beginning:
        raise Refused(Problem.CONFLICT, f"a turn of {agent} is open: end it, or attach as a new harness")
    if inbox.is_shut:
        host.leases.drop(agent)
        return None
    return host.leases.grant(agent, lease.waiting)


def _lease_next(agent: str, inbox: Inbox, host: Host) -> Lease | None:
    if inbox.is_shut:
        return None
    waiting = inbox.first
    if waiting is None and not inbox.is_searched and inbox.open:
        waiting = host.store.look(pulls.oldest_waiting, agent)
        inbox.is_searched = waiting is None
    if waiting is None:
        return None
    inbox.leave(waiting.delivery)
    return host.leases.grant(agent, waiting)


def _as_delivery(lease: Lease, host: Host) -> Delivery:
    waiting, message = lease.waiting, lease.waiting.message
    only_if = None
    if message.event is SystemEvent.REMINDER:
        only_if = host.store.look(reminders.only_if_of, message.about)
    return Delivery(waiting.delivery, lease.token, waiting.attempts + 1, lease.renew(), message, only_if)


@light
async def extend(request: ExtendLease, caller: Caller, host: Host) -> LeaseHeld:
    return LeaseHeld(host.leases.proven(agent_of(caller), request.delivery, request.token).renew())


async def release(request: ReleaseDelivery, caller: Caller, host: Host) -> None:
    host.leases.give_back(agent_of(caller), request.delivery, request.token)
    if request.reason:
        host.log.info(
            "delivery given back", agent=caller.agent, delivery=request.delivery, reason=request.reason
        )


async def retry(request: RetryDelivery, caller: Caller, host: Host) -> Marked:
    """Queue a dead delivery again, for somebody who is still there."""
    known = frozenset(host.roster.roles)
    return Marked(await host.feed.write(deliveries.revive, request.delivery, known))


async def receive(request: Recv, caller: Caller, host: Host) -> Received:
    """Pull waiting deliveries into the running turn; they are settled with it."""
    agent = agent_of(caller)
    inbox = host.inboxes.of(agent)
    with trio.CancelScope() as scope:
        deadline = trio.current_time() + request.wait_s
        while True:
            arrivals = inbox.arrivals
            received = await host.feed.write(pulls.pull, agent, request)
            if received.messages or not request.wait_s:
                host.hops.pulled(agent, received.messages)
                return received
            scope.deadline = deadline
            if inbox.arrivals == arrivals:
                await inbox.wait()
    return Received(())
