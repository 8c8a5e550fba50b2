"""Agents: create from the built-in template, purge what a destroyed one left."""

from privd.host import Host
from protocol.privd import Cage, CreateAgent, PurgeAgent
from protocol.rpc import Caller


async def create(request: CreateAgent, caller: Caller, host: Host) -> Cage:
    row = await host.create(request.agent, request.runner, request.model)
    await host.adopt(request.agent)
    return row


async def purge(request: PurgeAgent, caller: Caller, host: Host) -> None:
    await host.purge(request.agent, request.confirm)
