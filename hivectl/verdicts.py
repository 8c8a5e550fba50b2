"""`hivectl show` and `hivectl approve`: a proposal as it can be judged, and the word that deploys exactly that."""

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from hivectl import approvers, proposals, tables
from hivectl.arguments import whole_number
from hivectl.places import Places
from protocol.approvals import NOT_WHOLE, AnyProof, AtTerminal, Click, ProposalPage, ProposalState
from protocol.configuration import Approve, ShowProposal
from protocol.names import AGENT_NAME_RULE
from protocol.problem import Problem, Refused
from runtime.client import Client

PATIENCE_S: Final = 5.0
NUMBER_HELP: Final = "the proposal's number, as `proposals` shows it"


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    show = commands.add_parser("show", help="a proposal: what it changes in the agent's powers, and its diff")
    approve = commands.add_parser("approve", help="show a proposal, and deploy it after a typed yes")
    for child in (show, approve):
        child.add_argument("agent", help=AGENT_NAME_RULE)
        child.add_argument("number", type=whole_number, help=NUMBER_HELP)
    approve.add_argument("--yes", action="store_true", help="do not ask")
    approve.add_argument("--digest", help="only exactly what another `show` gave this digest for")
    approve.add_argument(
        "--sign", type=Path, metavar="KEYFILE", help="with a key that `enrol` let decide; ssh-keygen signs"
    )
    show.set_defaults(run=run_show)
    approve.set_defaults(run=run_approve)


async def run_show(values: argparse.Namespace) -> int:
    async with Client(values.places.socket("privd")) as privd:
        page = await _page(privd, values)
    print(
        tables.document(page)
        if values.json
        else proposals.shown(page, proposals.painter(coloured=sys.stdout.isatty()))
    )
    return 0


async def run_approve(values: argparse.Namespace) -> int:
    """Approve exactly what was shown: the digest is of this very page."""
    if values.sign is not None and values.digest is not None:
        raise Refused(Problem.MALFORMED, "--sign signs what is shown now: leave --digest out")
    async with Client(values.places.socket("privd")) as privd:
        page = await _page(privd, values)
        if page.proposal.state is not ProposalState.OPEN:
            raise Refused(
                Problem.CONFLICT,
                f"proposal {values.number} of {values.agent} is {page.proposal.state} already",
            )
        print(proposals.shown(page, proposals.painter(coloured=sys.stderr.isatty())), file=sys.stderr)
        check_whole(page)
        if not values.yes:
            _ask(page)
        proof = await _proof(page, values)
        digest = values.digest or page.digest
        request = Approve(agent=values.agent, number=values.number, digest=digest, proof=proof)
        approval = await privd.call(request)
    print(tables.document(approval) if values.json else proposals.approved(approval))
    return 0


async def _proof(page: ProposalPage, values: argparse.Namespace) -> AnyProof:
    """A signature where a key was named; else root's own word, or a click."""
    if values.sign is not None:
        return await approvers.signed(page.document, values.sign)
    return own_word(values.places)


def own_word(places: Places) -> AnyProof:
    """What an operator who brings no key says: root's own word, or a click."""
    return AtTerminal() if os.geteuid() == places.owner() else Click()


async def _page(privd: Client, values: argparse.Namespace) -> ProposalPage:
    if values.number < 1:
        raise Refused(Problem.MALFORMED, "proposals are numbered from 1")
    return await privd.call(ShowProposal(agent=values.agent, number=values.number), patience_s=PATIENCE_S)


def check_whole(page: ProposalPage) -> None:
    """Refuse to approve what could not be shown."""
    if not page.digest:
        raise Refused(Problem.LIMIT, f"proposal {page.proposal.number} of {page.proposal.agent}: {NOT_WHOLE}")


def _ask(page: ProposalPage) -> None:
    """Wait for the word. Refused without a terminal: a script says --yes, and with --digest what it has looked at."""
    proposal = page.proposal
    what = f"deploys proposal {proposal.number} of {proposal.agent}, code {page.code}"
    if not sys.stdin.isatty():
        raise Refused(Problem.CONFLICT, f"this {what}: to do it, say --yes")
    print(f"this {what}", file=sys.stderr)
    if input("type yes to approve it: ").strip() != "yes":
        raise Refused(Problem.CONFLICT, "nothing was approved")
