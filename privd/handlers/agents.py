"""Agents: create from the built-in template, purge what a destroyed one left."""

from privd.host import Host
from protocol.privd import Cage, CreateAgent, PurgeAgent
from protocol.problem import Problem, Refused
from protocol.rpc import Caller


async def create(request: CreateAgent, caller: Caller, host: Host) -> Cage:
    if not host.approvers.is_click_enough:
        raise Refused(Problem.DENIED, "keys decide in this hive: propose a spawn, and approve it")
    row = await host.create(request.agent, request.runner, request.model)
    await host.adopt(request.agent)
    return row


async def purge(request: PurgeAgent, caller: Caller, host: Host) -> None:
    host.deployments.check_idle(request.agent)
    await host.purge(request.agent, request.confirm)
    await host.proposals.forget(request.agent)
