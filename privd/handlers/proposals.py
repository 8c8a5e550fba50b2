"""Proposals: propose, withdraw, list, show; and the operator's verdict."""

from privd.host import Host
from protocol.approvals import Approval, Proposal, ProposalPage, ProposalState
from protocol.configuration import Approve, Deny, ListProposals, Propose, ShowProposal, WithdrawProposal
from protocol.names import OPERATOR
from protocol.rpc import Caller, Role

MANAGER = "manager"


async def propose(request: Propose, caller: Caller, host: Host) -> Proposal:
    return await host.proposals.propose(request, _who(caller))


async def withdraw(request: WithdrawProposal, caller: Caller, host: Host) -> Proposal:
    return await host.proposals.withdraw(request.agent, request.number, _who(caller))


async def list_proposals(request: ListProposals, caller: Caller, host: Host) -> tuple[Proposal, ...]:
    return host.proposals.rows(request.agent, request.limit, ended=request.ended)


async def show(request: ShowProposal, caller: Caller, host: Host) -> ProposalPage:
    return await host.proposals.show(request.agent, request.number)


async def approve(request: Approve, caller: Caller, host: Host) -> Approval:
    row = await host.proposals.approve(
        request.agent, request.number, request.digest, request.proof, caller.uid, host.deployments.check_idle
    )
    if row.state is ProposalState.OPEN:
        return Approval(row, None)
    return Approval(row, host.deployments.begin(request.agent, request.number))


async def deny(request: Deny, caller: Caller, host: Host) -> Proposal:
    return await host.proposals.deny(request.agent, request.number, request.reason)


def _who(caller: Caller) -> str:
    """Brokerd asks for the manager alone."""
    return MANAGER if caller.role is Role.BROKER else OPERATOR
