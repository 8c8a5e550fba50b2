"""Agents: purge what a destroyed one left."""

from privd.host import Host
from protocol.privd import PurgeAgent
from protocol.rpc import Caller


async def purge(request: PurgeAgent, caller: Caller, host: Host) -> None:
    host.deployments.check_idle(request.agent)
    await host.purge(request.agent, request.confirm)
    await host.proposals.forget(request.agent)
