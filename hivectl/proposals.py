"""What waits for the operator's word, in words: proposals with what they change, and deployments.

What the configuration would change in the agent's powers comes first, then the difference of its files. Text of a
configuration is an agent's: nothing in it can move the terminal's cursor or hide a line.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from hivectl import tables
from hivectl.program import program
from hivectl.tables import age, clock, printable, table
from protocol.approvals import (
    NOT_WHOLE,
    Approval,
    CapabilityChange,
    Deployment,
    DiffLine,
    FileDiff,
    Proposal,
    ProposalPage,
    ProposalState,
)
from protocol.privd import Cage, Power

COMMIT_SHOWN: Final = 12
RESET: Final = "\x1b[0m"
COLOURS: Final = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m", "!": "\x1b[33m"}

Paint = Callable[[str, str], str]
"""A line and what kind it is of → the line as it is printed."""


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
    if proposal.approvals:
        yield f"  approved by {' and '.join(proposal.approvals)}; another key must agree"
    if proposal.reason:
        yield f"  reason: {printable(proposal.reason)}"
    yield ""
    yield from _capabilities(proposal.capabilities, paint)
    for file in page.diff:
        yield ""
        yield from _file(file, paint)
    if proposal.state is ProposalState.OPEN and not page.digest:
        yield ""
        yield paint(f"! {NOT_WHOLE}", "!")
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


def only_drafts(rows: Sequence[Cage]) -> tuple[Cage, ...]:
    return tuple(each for each in rows if each.power is Power.DRAFT)


def drafts(rows: Sequence[Cage]) -> str:
    if not rows:
        return "no agent is a draft; `propose NAME init` begins one"
    return table(
        ("AGENT", "RUNNER", "SINCE"),
        ((each.agent, each.settings.runner, age(each.since_ms)) for each in rows),
    )


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


def waits(row: Proposal) -> str:
    """What is to be done about a proposal that needs a key."""
    return (
        f"proposal {row.number} of {row.agent} waits for a key: `{program()} approve {row.agent} {row.number} "
        "--sign KEYFILE`, or a passkey on the dashboard"
    )


def approved(approval: Approval) -> str:
    row = approval.deployment
    if row is None:
        who = " and ".join(approval.proposal.approvals)
        return f"{proposal(approval.proposal)}: {who} approved it, and another key must agree"
    return begun(row)


def begun(row: Deployment) -> str:
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
