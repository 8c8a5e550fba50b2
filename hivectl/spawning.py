"""`hivectl spawn`: an agent by its name. It is proposed, approved by whoever types it, and waited for.

Where that word is not enough (keys decide, and this is not root's terminal), the proposal waits for a key.
"""

import argparse
from typing import Final

import trio

from hivectl import proposals, tables
from hivectl.arguments import add_arguments, build_request
from hivectl.catalogue import ABOUT
from hivectl.places import Places
from hivectl.progress import shown
from hivectl.verdicts import check_whole, own_word
from protocol.approvals import Approval, Deployment, DeploymentState, ProposalKind
from protocol.configuration import Approve, ListDeployments, Propose, ShowProposal
from protocol.names import MANAGER_NAME, agent_name_fault
from protocol.privd import Cage, ListCages
from protocol.problem import Problem, Refused
from runtime.client import Client

PATIENCE_S: Final = 5.0
LOOK_S: Final = 0.1
SUPPLIED: Final = frozenset({"kind", "commit", "description"})


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser(
        "spawn", help="make an agent and start it; one that was destroyed comes back to what it left"
    )
    add_arguments(child, Propose, SUPPLIED, ABOUT)
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    asked = build_request(Propose, values, {"kind": ProposalKind.SPAWN})
    assert isinstance(asked, Propose)  # noqa: S101 - for the type checker: it makes what it is asked to
    async with Client(values.places.socket("privd")) as privd, shown(f"spawn {values.agent}"):
        approval = await spawn(privd, asked, values.places)
        made = None if approval.deployment is None else await spawned(privd, approval.deployment)
    if made is None:
        print(tables.document(approval) if values.json else proposals.waits(approval.proposal))
    else:
        print(tables.document(made) if values.json else tables.cage(made))
    return 0


async def spawn(privd: Client, asked: Propose, places: Places) -> Approval:
    """Propose an agent and approve it as whoever asks; without a deployment where another's word is needed."""
    fault = None if asked.agent == MANAGER_NAME else agent_name_fault(asked.agent)
    if fault is not None:
        raise Refused(Problem.MALFORMED, fault)
    proposal = await privd.call(asked, patience_s=PATIENCE_S)
    page = await privd.call(ShowProposal(proposal.agent, proposal.number))
    check_whole(page)
    try:
        return await privd.call(Approve(proposal.agent, proposal.number, page.digest, own_word(places)))
    except Refused as refused:
        if refused.problem is not Problem.DENIED:
            raise
        return Approval(proposal, None)


async def spawned(privd: Client, deployment: Deployment) -> Cage:
    """The cage that a deployment made. Refused(failed) with the reason when it was returned."""
    ended = await end_of(privd, deployment)
    if ended.state is not DeploymentState.DEPLOYED:
        raise Refused(Problem.FAILED, f"{ended.agent} was not made: {ended.detail or ended.state}")
    return next(cage for cage in await privd.call(ListCages()) if cage.agent == ended.agent)


async def end_of(privd: Client, deployment: Deployment) -> Deployment:
    """The same deployment, when it has ended."""
    row = deployment
    while row.ended_ms is None:
        await trio.sleep(LOOK_S)
        rows = await privd.call(ListDeployments(agent=row.agent))
        row = next((each for each in rows if each.number == row.number), row)
    return row
