"""Deployments: list, watch, logs, cancel, roll back; and what the broker knows of a harness's health."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from privd import build_log
from privd.host import Host
from privd.policy.listing import brief, fitting
from protocol.approvals import Deployment, ProposalState
from protocol.configuration import (
    AnyDecision,
    BuildLog,
    CancelDeployment,
    ConfirmHealth,
    DecisionsNow,
    ListDeployments,
    ReadBuildLog,
    RollBack,
    WatchDeployments,
)
from protocol.rpc import Caller

LATELY: Final = 50
"""Ended proposals, and deployments, that a watcher is told of at first."""


async def list_deployments(request: ListDeployments, caller: Caller, host: Host) -> tuple[Deployment, ...]:
    return _rows(host, request.agent)[: request.limit]


async def read_log(request: ReadBuildLog, caller: Caller, host: Host) -> BuildLog:
    host.deployments.row(request.agent, request.number)
    return build_log.page(host.ledger(request.agent).log_path(request.number), request.before)


async def cancel(request: CancelDeployment, caller: Caller, host: Host) -> Deployment:
    return host.deployments.cancel(request.agent, request.number)


async def roll_back(request: RollBack, caller: Caller, host: Host) -> Deployment:
    return await host.deployments.roll_back(request.agent, request.generation)


async def confirm_health(request: ConfirmHealth, caller: Caller, host: Host) -> None:
    host.keeper(request.agent)
    host.deployments.confirm_health(request.agent, request.started_ms, request.fault)


@asynccontextmanager
async def watch(
    request: WatchDeployments, caller: Caller, host: Host
) -> AsyncIterator[AsyncIterator[AnyDecision]]:
    with host.decisions.subscribed() as changes:
        first = now(host)

        async def events() -> AsyncIterator[AnyDecision]:
            yield first
            async for change in changes:
                yield change

        yield events()


def now(host: Host) -> DecisionsNow:
    """What a watcher is told first, and again when other keys decide."""
    every = [each for ledger in host.ledgers() for each in ledger.record().proposals.values()]
    every.sort(key=lambda each: each.decided_ms or each.proposed_ms, reverse=True)
    waiting = [each for each in every if each.state is ProposalState.OPEN]
    ended = [each for each in every if each.state is not ProposalState.OPEN][:LATELY]
    proposals = fitting([brief(each) for each in (*waiting, *ended)])
    return DecisionsNow(proposals, _rows(host, None)[:LATELY], click=host.approvers.is_click_enough)


def _rows(host: Host, agent: str | None) -> tuple[Deployment, ...]:
    agents = [ledger.agent for ledger in host.ledgers()] if agent is None else [agent]
    found = [row for each in agents for row in host.deployments.rows(each)]
    return tuple(sorted(found, key=lambda row: (row.began_ms, row.agent, row.number), reverse=True))
