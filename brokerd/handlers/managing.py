"""What the manager asks of privd: brokerd carries it there, and privd's answer or refusal back.

The role is checked at the socket. Its own cage the manager leaves to the operator: its turn would end in mid-call.
"""

from typing import Final, TypeVar

from brokerd.handlers.deliveries import agent_of
from brokerd.host import Host
from protocol.approvals import Proposal, ProposalKind
from protocol.configuration import ListProposals, Propose, WithdrawProposal
from protocol.managing import (
    GetLogs,
    KillAgent,
    ListRequests,
    Logs,
    RequestApplyCommit,
    RequestInitConfig,
    RequestSpawn,
    RestartAgent,
    StartAgent,
    UpdateAgent,
    WithdrawRequest,
)
from protocol.privd import Cage, ReadJournal, RebuildCage, RestartCage, StartCage, StopCage
from protocol.problem import Problem, Refused
from protocol.rpc import Call, Caller
from runtime.client import Disconnected

R = TypeVar("R")

PATIENCE_S: Final = 10.0
"""How long a privd that is being restarted is waited for."""
LOG_BYTES_MAX: Final = 16 * 1024
"""Of one answer to a model."""


async def request_init_config(request: RequestInitConfig, caller: Caller, host: Host) -> Proposal:
    return await _carried(_from_template(request, ProposalKind.INIT), host)


async def request_spawn(request: RequestSpawn, caller: Caller, host: Host) -> Proposal:
    return await _carried(_from_template(request, ProposalKind.SPAWN), host)


async def request_apply_commit(request: RequestApplyCommit, caller: Caller, host: Host) -> Proposal:
    """A draft becomes an agent by it; one that lives gets another configuration."""
    kind = ProposalKind.SPAWN if request.agent in host.roster.drafts else ProposalKind.CONFIG
    return await _carried(
        Propose(request.agent, kind, commit=request.commit, description=request.description), host
    )


async def list_requests(request: ListRequests, caller: Caller, host: Host) -> tuple[Proposal, ...]:
    return await _carried(ListProposals(request.agent, request.ended, request.limit), host)


async def withdraw(request: WithdrawRequest, caller: Caller, host: Host) -> Proposal:
    """Whoever takes something back need not be told so."""
    host.decisions.withdrawing(request.agent, request.number)
    try:
        return await _carried(WithdrawProposal(request.agent, request.number), host)
    except Refused:
        host.decisions.not_withdrawn(request.agent, request.number)
        raise


async def start(request: StartAgent, caller: Caller, host: Host) -> Cage:
    return await _carried(StartCage(request.agent), host)


async def kill(request: KillAgent, caller: Caller, host: Host) -> Cage:
    _check_other(request.agent, caller)
    return await _carried(StopCage(request.agent, request.graceful), host)


async def restart(request: RestartAgent, caller: Caller, host: Host) -> Cage:
    _check_other(request.agent, caller)
    return await _carried(RestartCage(request.agent), host)


async def update(request: UpdateAgent, caller: Caller, host: Host) -> Cage:
    _check_other(request.agent, caller)
    return await _carried(RebuildCage(request.agent), host)


async def get_logs(request: GetLogs, caller: Caller, host: Host) -> Logs:
    page = await _carried(ReadJournal(request.agent, request.before, LOG_BYTES_MAX), host)
    shown = page.lines[-request.lines :]
    before = page.before if len(shown) == len(page.lines) else shown[0].offset
    return Logs(request.agent, tuple(each.text for each in shown), before)


def _from_template(request: RequestInitConfig | RequestSpawn, kind: ProposalKind) -> Propose:
    return Propose(request.agent, kind, template=request.template, description=request.description)


def _check_other(agent: str, caller: Caller) -> None:
    if agent == agent_of(caller):
        raise Refused(
            Problem.CONFLICT, "your own container stops with your turn in it: ask the operator to do that"
        )


async def _carried(request: Call[R], host: Host) -> R:
    """Ask privd. Its refusals are for whoever asked."""
    try:
        return await host.privd.call(request, patience_s=PATIENCE_S)
    except Disconnected:
        raise Refused(Problem.BUSY, "privd is away just now; try again in a minute") from None
