"""What operators do about proposals: look, approve, deny, withdraw; and spawning an agent by its name, at once."""

from typing import Annotated, Any, Final

from msgspec import Meta

from protocol.approvals import (
    NOT_WHOLE,
    Click,
    Digest,
    PasskeyAssertion,
    Proposal,
    ProposalKind,
    ProposalPage,
    ProposalState,
    Reason,
)
from protocol.configuration import (
    Approve,
    Deny,
    ListProposals,
    Propose,
    ShowProposal,
    WithdrawProposal,
)
from protocol.limits import PAGE_ROWS_MAX
from protocol.names import StatePath, agent_name_fault
from protocol.problem import Problem, Refused
from protocol.rpc import Call
from protocol.settings import Runner
from webd.deeds import Done
from webd.handlers.actions import SHOWN_WITHIN_S, Keyed, did
from webd.http.answers import Answer, as_json
from webd.live.decisions import file_row, key_of, proposal_row
from webd.policy.text import TEXT_CHARS_MAX
from webd.visit import Host, Visit

ROWS: Final = 100


class SpawnSaid(Keyed, frozen=True):
    name: Annotated[str, Meta(max_length=40)]
    template: StatePath = ""
    runner: Runner | None = None


class ApproveSaid(Keyed, frozen=True):
    """The digest of the page that the operator looked at, and what proves that it was the operator."""

    digest: Digest
    proof: Click | PasskeyAssertion = Click()


class DenySaid(Keyed, frozen=True):
    reason: Reason = ""


async def listed(visit: Visit, host: Host) -> Answer:
    """Proposals that wait, of everybody or of one agent, newest first; with `ended`, those that were decided too."""
    limit = visit.number("limit", ROWS, least=1, most=PAGE_ROWS_MAX) or ROWS
    rows = await host.ask_privd(
        ListProposals(agent=visit.agent("agent"), ended=visit.flag("ended"), limit=limit)
    )
    return as_json({"proposals": [proposal_row(row) for row in rows]})


async def shown(visit: Visit, host: Host) -> Answer:
    """Everything that is needed to decide on one proposal. Its digest may be approved once, for a while."""
    page = await host.ask_privd(ShowProposal(agent=visit.named["agent"], number=_number(visit)))
    return as_json(page_row(page))


def page_row(page: ProposalPage) -> dict[str, Any]:
    """A page with its text made plain, but for the document, which is what a key signs."""
    return {
        "proposal": proposal_row(page.proposal, TEXT_CHARS_MAX),
        "current_base": page.current_base,
        "diff": [file_row(file) for file in page.diff],
        "document": page.document,
        "digest": page.digest,
        "code": page.code,
        "approvers": page.approvers,
    }


async def approve(visit: Visit, host: Host) -> Answer:
    """Decide for a proposal as it was shown, which deploys it; or, with two approvers, be the first of them."""
    agent, number = visit.named["agent"], _number(visit)
    said = visit.said(ApproveSaid)

    async def deed() -> Done:
        approval = await host.ask_privd(Approve(agent, number, said.digest, said.proof))
        await _stands(host, approval.proposal)
        return Done(number, waits=approval.deployment is None)

    return await did(visit, host, said.key, f"approve proposal {number} of {agent}", deed)


async def deny(visit: Visit, host: Host) -> Answer:
    """Decide against a proposal; the reason reaches and wakes whoever asked."""
    said = visit.said(DenySaid)
    agent, number = visit.named["agent"], _number(visit)
    return await _ended(visit, host, said.key, "deny", Deny(agent, number, said.reason))


async def withdraw(visit: Visit, host: Host) -> Answer:
    """Take a proposal back that nobody has decided."""
    key = visit.said(Keyed).key
    return await _ended(visit, host, key, "withdraw", WithdrawProposal(visit.named["agent"], _number(visit)))


async def spawn(visit: Visit, host: Host) -> Answer:
    """Make an agent from a template of the hive's own, or a destroyed one anew, and start it.

    The operator who types a name has decided: where a click is enough, proposing and approving is one deed. Where keys
    decide, the proposal waits for one.
    """
    said = visit.said(SpawnSaid)
    if fault := agent_name_fault(said.name):
        raise Refused(Problem.MALFORMED, fault)

    async def deed() -> Done:
        proposal = await host.ask_privd(
            Propose(said.name, ProposalKind.SPAWN, template=said.template, runner=said.runner)
        )
        page = await host.ask_privd(ShowProposal(proposal.agent, proposal.number))
        waits = bool(page.approvers) or not host.picture.world.decisions.click
        if not waits:
            if not page.digest:
                raise Refused(Problem.LIMIT, f"proposal {proposal.number} of {said.name}: {NOT_WHOLE}")
            approve = Approve(proposal.agent, proposal.number, page.digest, Click())
            proposal = (await host.ask_privd(approve)).proposal
        await _stands(host, proposal)
        return Done(proposal.number, waits=waits)

    return await did(visit, host, said.key, f"spawn {said.name}", deed)


async def _ended(visit: Visit, host: Host, key: str, verb: str, request: Call[Proposal]) -> Answer:
    async def deed() -> Done:
        await _stands(host, await host.ask_privd(request))
        return Done()

    return await did(visit, host, key, f"{verb} proposal {_number(visit)} of {visit.named['agent']}", deed)


def _number(visit: Visit) -> int:
    return int(visit.named["proposal"])


async def _stands(host: Host, proposal: Proposal) -> None:
    """Until a proposal's row is at least as far as the one that privd answered with."""

    def shows() -> bool:
        row = host.picture.world.decisions.proposals.get(key_of(proposal))
        if row is None:
            return False
        return row.state is not ProposalState.OPEN or (
            row.state is proposal.state and len(row.approvals) >= len(proposal.approvals)
        )

    await host.picture.until(shows, SHOWN_WITHIN_S)
