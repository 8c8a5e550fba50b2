"""Agents: create from the built-in template, purge what a destroyed one left."""

from privd.host import Host
from protocol.privd import Cage, CreateAgent, PurgeAgent
from protocol.rpc import Caller


async def create(request: CreateAgent, caller: Caller, host: Host) -> Cage:
    return await host.create(request.agent, request.runner, request.model)


async def purge(request: PurgeAgent, caller: Caller, host: Host) -> None:
    await host.purge(request.agent, request.confirm)
