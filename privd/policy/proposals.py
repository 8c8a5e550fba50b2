"""What may be proposed, and what an approval must hold to. Pure: who stands where and the time come in as arguments."""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from protocol.approvals import Proposal, ProposalKind, ProposalState
from protocol.limits import AGENTS_MAX, APPROVAL_DOCUMENT_S, PROPOSALS_OPEN_MAX, PROPOSALS_PER_HOUR_MAX
from protocol.names import agent_name_fault
from protocol.problem import Problem, Refused

PROPOSALS_OF_CALLER_PER_HOUR_MAX: Final = 4 * AGENTS_MAX
"""Of one caller, whatever names they are for; refused ones count."""
NAMES_ONLY_ASKED_MAX: Final = 2 * PROPOSALS_OPEN_MAX
"""Names that one caller proposed and that never became agents: each has a repository until it is forgotten."""
CODE_DIGITS: Final = 8
DAY_MS: Final = 24 * 3_600_000


class Standing(StrEnum):
    """What an agent is, as far as proposals care."""

    NOBODY = "nobody"
    DRAFT = "draft"
    LIVING = "living"
    KEPT = "kept"


class Document(Struct, frozen=True):
    """What an approval is given for, whole. Its canonical JSON is what a key signs."""

    hive: str
    host: str
    action: str
    agent: str
    number: int
    kind: ProposalKind
    commit: str
    tree: str
    base: str | None
    nonce: str
    from_ms: int
    until_ms: int
    systems: dict[str, str] | UnsetType = UNSET
    """On NixOS: what the agent's system would be built from, by the hash of each source."""


class Shown(Struct, frozen=True):
    """A document that was given out; it counts once, and only in the memory of the privd that gave it."""

    document: Document
    text: str
    digest: str

    @property
    def code(self) -> str:
        """Eight digits for comparing two screens: whoever is shown the same over the same base sees the same."""
        lasting = msgspec.structs.replace(self.document, nonce="", from_ms=0, until_ms=0)
        found = hashlib.sha256(msgspec.json.encode(lasting, order="deterministic")).hexdigest()
        return f"{int(found, 16) % 10**CODE_DIGITS:0{CODE_DIGITS}d}"


Verdict = tuple[Problem, str] | None
FITS: Final[dict[tuple[ProposalKind, Standing, bool], Verdict]] = {
    (ProposalKind.INIT, Standing.NOBODY, False): None,
    (ProposalKind.INIT, Standing.NOBODY, True): (
        Problem.MALFORMED,
        "a draft begins from a template: name no commit",
    ),
    (ProposalKind.SPAWN, Standing.NOBODY, False): None,
    (ProposalKind.SPAWN, Standing.NOBODY, True): (
        Problem.NOT_FOUND,
        "it has no repository yet: spawn it without a commit, or propose an init first",
    ),
    (ProposalKind.SPAWN, Standing.DRAFT, False): (
        Problem.CONFLICT,
        "it is a draft: name the commit of its configuration",
    ),
    (ProposalKind.SPAWN, Standing.DRAFT, True): None,
    (ProposalKind.SPAWN, Standing.KEPT, False): None,
    (ProposalKind.SPAWN, Standing.KEPT, True): None,
    (ProposalKind.CONFIG, Standing.LIVING, True): None,
    (ProposalKind.CONFIG, Standing.LIVING, False): (
        Problem.MALFORMED,
        "a config names the commit that is proposed",
    ),
    (ProposalKind.CONFIG, Standing.NOBODY, True): (Problem.NOT_FOUND, "there is no such agent"),
    (ProposalKind.CONFIG, Standing.NOBODY, False): (Problem.NOT_FOUND, "there is no such agent"),
}
"""By kind, standing, and whether a commit is named; what is not here never fits."""


def check_kind(agent: str, kind: ProposalKind, standing: Standing, *, has_commit: bool) -> None:
    """Refuse a proposal that does not fit what the agent is."""
    fault = agent_name_fault(agent)
    if fault:
        raise Refused(Problem.MALFORMED, fault)
    verdict = FITS.get(
        (kind, standing, has_commit), (Problem.CONFLICT, f"it is {standing}: no {kind} can be proposed")
    )
    if verdict is not None:
        problem, words = verdict
        raise Refused(problem, f"{agent}: {words}")


def check_room(agent: str, open_in_hive: int, within_hour: int, of_caller: int, names: int) -> None:
    """Refuse what would be too many. The counts are without the new one; `within_hour` and `of_caller` are of an hour.

    *names* are those that the caller proposed, of which nothing was ever approved.
    """
    if open_in_hive >= PROPOSALS_OPEN_MAX:
        raise Refused(
            Problem.LIMIT, f"{open_in_hive} proposals wait for the operator, at most {PROPOSALS_OPEN_MAX} may"
        )
    if within_hour >= PROPOSALS_PER_HOUR_MAX:
        raise Refused(
            Problem.LIMIT, f"{agent} had {within_hour} proposals within an hour, the most that is allowed"
        )
    if of_caller >= PROPOSALS_OF_CALLER_PER_HOUR_MAX:
        raise Refused(
            Problem.LIMIT,
            f"you made {of_caller} proposals within an hour, the most that is allowed for all agents",
        )
    if names >= NAMES_ONLY_ASKED_MAX:
        raise Refused(
            Problem.LIMIT,
            f"{agent}: you proposed {names} names of which none became an agent, the most that are remembered",
        )


def twin(
    proposals: Iterable[Proposal], kind: ProposalKind, base: str | None, *, commit: str = "", tree: str = ""
) -> Proposal | None:
    """The open proposal that asks for the same over the same."""
    for each in proposals:
        if each.state is ProposalState.OPEN and each.kind is kind and each.base == base:
            if commit and each.commit == commit:
                return each
            if tree and each.tree == tree:
                return each
    return None


def check_open(proposal: Proposal, now_ms: int) -> None:
    """Refuse a verdict on what was decided, or has run out."""
    what = f"proposal {proposal.number} of {proposal.agent}"
    if proposal.state is not ProposalState.OPEN:
        raise Refused(Problem.CONFLICT, f"{what} is {proposal.state} already")
    if now_ms >= proposal.expires_ms:
        raise Refused(Problem.CONFLICT, f"{what} has expired: it must be proposed again")


def show(
    proposal: Proposal,
    current_base: str | None,
    *,
    hive: str,
    host: str,
    nonce: str,
    now_ms: int,
    systems: dict[str, str] | UnsetType = UNSET,
) -> Shown:
    """The document for a proposal as it stands now."""
    document = Document(
        hive=hive,
        host=host,
        action="approve",
        agent=proposal.agent,
        number=proposal.number,
        kind=proposal.kind,
        commit=proposal.commit,
        tree=proposal.tree,
        base=current_base,
        nonce=nonce,
        from_ms=now_ms,
        until_ms=now_ms + APPROVAL_DOCUMENT_S * 1000,
        systems=systems,
    )
    text = msgspec.json.encode(document, order="deterministic").decode()
    return Shown(document, text, hashlib.sha256(text.encode()).hexdigest())


def check_shown(
    shown: Shown | None,
    proposal: Proposal,
    current_base: str | None,
    now_ms: int,
    systems: dict[str, str] | UnsetType = UNSET,
) -> Shown:
    """Refuse an approval of anything but what was shown just now, over what is deployed and built from just now."""
    again = f"look at proposal {proposal.number} of {proposal.agent} again"
    if shown is None:
        raise Refused(Problem.CONFLICT, f"this was not shown, or was used already: {again}")
    document = shown.document
    if (document.agent, document.number) != (proposal.agent, proposal.number):
        raise Refused(Problem.CONFLICT, f"another proposal was shown with this digest: {again}")
    if (document.commit, document.tree) != (proposal.commit, proposal.tree):
        raise Refused(Problem.CONFLICT, f"another commit was shown: {again}")
    if now_ms >= document.until_ms or now_ms < document.from_ms:
        raise Refused(Problem.CONFLICT, f"it was shown longer ago than {APPROVAL_DOCUMENT_S} s: {again}")
    if document.base != current_base:
        raise Refused(Problem.CONFLICT, f"what is deployed has changed since it was shown: {again}")
    if document.systems != systems:
        raise Refused(
            Problem.CONFLICT, f"what systems are built from has changed since it was shown: {again}"
        )
    return shown
