"""Agents made as people make them: proposed, looked at and approved with a click at privd's operator socket."""

import trio

from protocol.approvals import Click, Deployment, Proposal, ProposalKind
from protocol.configuration import Approve, ListDeployments, Propose, ShowProposal
from protocol.settings import Runner
from runtime.client import Client

LOOK_S = 0.02
END_S = 120.0


async def approve(privd: Client, proposal: Proposal) -> Deployment:
    """Approve a proposal as it stands now; the deployment that has begun."""
    page = await privd.call(ShowProposal(proposal.agent, proposal.number))
    approval = await privd.call(Approve(proposal.agent, proposal.number, page.digest, Click()))
    assert approval.deployment is not None, approval
    return approval.deployment


async def spawn(
    privd: Client, agent: str, *, template: str = "", runner: Runner | None = None, patience_s: float = 0
) -> Deployment:
    """Make an agent from a template of the hive's own, or a kept one anew; the deployment that has begun."""
    asked = Propose(agent, ProposalKind.SPAWN, template=template, runner=runner)
    return await approve(privd, await privd.call(asked, patience_s=patience_s))


async def ended(privd: Client, deployment: Deployment) -> Deployment:
    """The same deployment at its end. A deployment that runs waits for the harness, so do not ask from its task."""
    with trio.fail_after(END_S):
        while True:
            rows = await privd.call(ListDeployments(agent=deployment.agent))
            row = next((each for each in rows if each.number == deployment.number), deployment)
            if row.ended_ms is not None:
                return row
            await trio.sleep(LOOK_S)
