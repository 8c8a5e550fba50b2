"""What waits for the operator's word, shown so that it can be judged: `proposals`, `show`, `approve`.

What the configuration would change in the agent's powers comes first, then the difference of its files. Text of a
configuration is an agent's: nothing in it can move the terminal's cursor or hide a line.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from hivectl import tables
from hivectl.arguments import whole_number
from hivectl.program import program
from hivectl.requests import PATIENCE_S
from hivectl.tables import age, clock, printable, table
from protocol.approvals import (
    AtTerminal,
    CapabilityChange,
    Click,
    Deployment,
    DiffLine,
    FileDiff,
    Proposal,
    ProposalPage,
    ProposalState,
)
from protocol.configuration import Approve, ShowProposal
from protocol.names import AGENT_NAME_RULE
from protocol.problem import Problem, Refused
from runtime.client import Client

COMMIT_SHOWN: Final = 12
RESET: Final = "\x1b[0m"
COLOURS: Final = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m", "!": "\x1b[33m"}
NUMBER_HELP: Final = "the proposal's number, as `proposals` shows it"

Paint = Callable[[str, str], str]
"""A line and what kind it is of → the line as it is printed."""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    show = commands.add_parser("show", help="a proposal: what it changes in the agent's powers, and its diff")
    approve = commands.add_parser("approve", help="show a proposal, and deploy it after a typed yes")
    for child in (show, approve):
        child.add_argument("agent", help=AGENT_NAME_RULE)
        child.add_argument("number", type=whole_number, help=NUMBER_HELP)
    approve.add_argument("--yes", action="store_true", help="do not ask")
    approve.add_argument("--digest", help="only exactly what another `show` gave this digest for")
    show.set_defaults(run=run_show)
    approve.set_defaults(run=run_approve)


async def run_show(values: argparse.Namespace) -> int:
    async with Client(values.places.socket("privd")) as privd:
        page = await _page(privd, values)
    print(tables.document(page) if values.json else shown(page, painter(coloured=sys.stdout.isatty())))
    return 0


async def run_approve(values: argparse.Namespace) -> int:
    """Approve exactly what was shown: the digest is of this very page."""
    async with Client(values.places.socket("privd")) as privd:
        page = await _page(privd, values)
        if page.proposal.state is not ProposalState.OPEN:
            raise Refused(
                Problem.CONFLICT,
                f"proposal {values.number} of {values.agent} is {page.proposal.state} already",
            )
        print(shown(page, painter(coloured=sys.stderr.isatty())), file=sys.stderr)
        if not values.yes:
            _ask(page)
        proof = AtTerminal() if os.geteuid() == values.places.owner() else Click()
        digest = values.digest or page.digest
        request = Approve(agent=values.agent, number=values.number, digest=digest, proof=proof)
        deployment = await privd.call(request)
    print(tables.document(deployment) if values.json else approved(deployment))
    return 0


async def _page(privd: Client, values: argparse.Namespace) -> ProposalPage:
    if values.number < 1:
        raise Refused(Problem.MALFORMED, "proposals are numbered from 1")
    return await privd.call(ShowProposal(agent=values.agent, number=values.number), patience_s=PATIENCE_S)


def _ask(page: ProposalPage) -> None:
    """Wait for the word. Refused without a terminal: a script says --yes, and with --digest what it has looked at."""
    proposal = page.proposal
    what = f"deploys proposal {proposal.number} of {proposal.agent}, code {page.code}"
    if not sys.stdin.isatty():
        raise Refused(Problem.CONFLICT, f"this {what}: to do it, say --yes")
    print(f"this {what}", file=sys.stderr)
    if input("type yes to approve it: ").strip() != "yes":
        raise Refused(Problem.CONFLICT, "nothing was approved")


def painter(*, coloured: bool) -> Paint:
    """How lines are painted; without colours as they are."""
    if not coloured:
        return lambda line, _: line
    return lambda line, kind: f"{COLOURS[kind]}{line}{RESET}" if kind in COLOURS else line


def shown(page: ProposalPage, paint: Paint) -> str:
    return "\n".join(_page_lines(page, paint))


def _page_lines(page: ProposalPage, paint: Paint) -> Iterator[str]:
    proposal = page.proposal
    yield f"proposal {proposal.number} of {proposal.agent}: {proposal.kind}, {proposal.state}"
    yield f"  by {proposal.by}, {age(proposal.proposed_ms)} ago; commit {proposal.commit}"
    yield f"  over {proposal.base or 'nothing: this would be the first'}"
    if proposal.state is ProposalState.OPEN and page.current_base != proposal.base:
        yield paint(f"  ! since then {page.current_base or 'nothing'} was deployed", "!")
    for line in proposal.description.splitlines():
        yield f"  | {printable(line)}"
    if proposal.reason:
        yield f"  reason: {printable(proposal.reason)}"
    yield ""
    yield from _capabilities(proposal.capabilities, paint)
    for file in page.diff:
        yield ""
        yield from _file(file, paint)
    if page.code:
        yield ""
        yield f"code {page.code}; digest {page.digest}"


def _capabilities(changes: Sequence[CapabilityChange], paint: Paint) -> Iterator[str]:
    if not changes:
        yield "It changes nothing in what the agent may or has."
        return
    yield "It changes in what the agent may or has:"
    for each in changes:
        line = f"  {'!' if each.notable else ' '} {change_line(each)}"
        yield paint(line, "!") if each.notable else line


def change_line(each: CapabilityChange) -> str:
    """One thing that changes."""
    subject = printable(each.subject)
    if each.before is None:
        return f"{subject}: {printable(each.after or '')} (new)"
    if each.after is None:
        return f"{subject}: not any more (was {printable(each.before)})"
    return f"{subject}: {printable(each.before)} → {printable(each.after)}"


def files_diff(files: Sequence[FileDiff]) -> str:
    """The difference alone."""
    paint = painter(coloured=sys.stdout.isatty())
    return "\n".join(line for file in files for line in _file(file, paint)) or "no difference"


def _file(file: FileDiff, paint: Paint) -> Iterator[str]:
    yield paint(f"@@ {printable(file.path)} ({_sizes(file)})", "@")
    last: int | None = None
    for line in file.lines:
        at = _place(line)
        if last is not None and at > last + 1:
            yield paint("  …", "@")
        last = at
        yield paint(f"{line.kind}{printable(line.text)}", line.kind)
    if file.cut:
        yield paint("  … more than is shown here", "!")


def _place(line: DiffLine) -> int:
    return line.after if line.after is not None else line.before or 0


def _sizes(file: FileDiff) -> str:
    if file.before_bytes is None:
        return f"new, {file.after_bytes} bytes"
    if file.after_bytes is None:
        return f"removed, it had {file.before_bytes} bytes"
    return f"{file.before_bytes} → {file.after_bytes} bytes"


def proposals(rows: Sequence[Proposal]) -> str:
    if not rows:
        return "no proposal waits"
    return table(
        ("AGENT", "NUMBER", "KIND", "STATE", "COMMIT", "BY", "AGE", "DESCRIPTION"),
        (
            (
                each.agent,
                str(each.number),
                each.kind,
                each.state,
                each.commit[:COMMIT_SHOWN],
                each.by,
                age(each.proposed_ms),
                printable(each.reason or each.description, chars_max=tables.CELL_CHARS_MAX),
            )
            for each in rows
        ),
    )


def proposal(row: Proposal) -> str:
    """One proposal after a verdict."""
    reason = f": {printable(row.reason)}" if row.reason else ""
    return f"proposal {row.number} of {row.agent} is {row.state}{reason}"


def approved(row: Deployment) -> str:
    return f"{deployment(row)}; `{program()} log {row.agent} {row.number} -f` shows it"


def deployments(rows: Sequence[Deployment]) -> str:
    if not rows:
        return "nothing was deployed yet"
    return table(
        ("AGENT", "GENERATION", "KIND", "STATE", "BEGAN", "COMMIT", "DETAIL"),
        (
            (
                each.agent,
                str(each.number),
                each.kind if each.of is None else f"{each.kind} to {each.of}",
                each.state,
                clock(each.began_ms),
                each.commit[:COMMIT_SHOWN],
                printable(each.detail, chars_max=tables.CELL_CHARS_MAX),
            )
            for each in rows
        ),
    )


def deployment(row: Deployment) -> str:
    detail = f" ({printable(row.detail)})" if row.detail else ""
    return f"deployment {row.number} of {row.agent} is {row.state}{detail}"


def waiting_lines(rows: Sequence[Proposal]) -> list[str]:
    """What waits for the operator, for `status`."""
    return [
        f"? proposal {each.number} of {each.agent} ({each.kind}) waits for you: `show {each.agent} {each.number}`"
        for each in rows
    ]
