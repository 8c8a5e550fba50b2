"""What stands in the tags of one applied repository, and what follows from them. Pure.

    proposal/<n>     asked          then  approved/<n>   or  denied/<n> (denied, withdrawn or expired)
    agreed/<n>       by one of two  then  the same
    building/<n>     begun          then  deployed/<n>   or  failed/<n> (returned or cancelled)

A tag's message is one document in canonical JSON. The end of a proposal holds everything that the tags before it
held, so those may go (`droppable`). Where a crash left both, the end counts.
"""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from protocol.approvals import (
    AnyProof,
    Approver,
    AtTerminal,
    CapabilityChange,
    Click,
    Deployment,
    DeploymentKind,
    DeploymentState,
    PasskeyAssertion,
    Proposal,
    ProposalKind,
    ProposalState,
    SshSignature,
)

HOUR_MS: Final = 3_600_000
TAG_RULE: Final = re.compile(
    r"(proposal|agreed|approved|denied|building|deployed|failed)/([1-9][0-9]{0,8})", re.ASCII
)


class Mark(StrEnum):
    """What a tag says; the first half of its name."""

    PROPOSAL = "proposal"
    AGREED = "agreed"
    APPROVED = "approved"
    DENIED = "denied"
    BUILDING = "building"
    DEPLOYED = "deployed"
    FAILED = "failed"


class Asked(Struct, frozen=True, forbid_unknown_fields=True):
    """proposal/<n>: what was asked, by whom, over what."""

    kind: ProposalKind
    commit: str
    tree: str
    base: str | None
    by: str
    description: str
    proposed_ms: int
    expires_ms: int
    capabilities: tuple[CapabilityChange, ...]


class Word(Struct, frozen=True, forbid_unknown_fields=True):
    """One approver's yes, whole, so that it can be checked again for ever."""

    at_ms: int
    document: str
    """What was shown, and signed where the proof is a signature."""
    proof: AnyProof
    approver: Approver | None
    """The key as it was enrolled; None with a click, and at the terminal."""


class Agreed(Struct, frozen=True, forbid_unknown_fields=True):
    """agreed/<n>: one key of two. It is dropped when it counts no more, for one that does."""

    word: Word


class Approved(Struct, frozen=True, forbid_unknown_fields=True):
    """approved/<n>: the operator's word, or those of two."""

    at_ms: int
    words: tuple[Word, ...]


class Denied(Struct, frozen=True, forbid_unknown_fields=True):
    """denied/<n>: `end` is denied, withdrawn or expired."""

    end: ProposalState
    at_ms: int
    by: str
    reason: str
    asked: Asked


class Begun(Struct, frozen=True, forbid_unknown_fields=True):
    """building/<n>: written before anything is done. `of` with a rollback: the generation whose content it is."""

    kind: DeploymentKind
    commit: str
    tree: str
    base: str | None
    began_ms: int
    of: int | None = None


class Deployed(Struct, frozen=True, forbid_unknown_fields=True):
    """deployed/<n>: a generation. `log` is the SHA-256 of its build log."""

    at_ms: int
    begun: Begun
    log: str
    asked: Asked | None = None
    approved: Approved | None = None
    base: dict[str, str] | UnsetType = UNSET
    """What its cage was made from (`privd.policy.base`); unset where none ran."""


class Failed(Struct, frozen=True, forbid_unknown_fields=True):
    """failed/<n>: what was there before is there again."""

    at_ms: int
    reason: str
    begun: Begun
    log: str
    cancelled: bool = False
    asked: Asked | None = None
    approved: Approved | None = None


AnyDocument = Asked | Agreed | Approved | Denied | Begun | Deployed | Failed
DOCUMENTS: Final[Mapping[Mark, type[AnyDocument]]] = {
    Mark.PROPOSAL: Asked,
    Mark.AGREED: Agreed,
    Mark.APPROVED: Approved,
    Mark.DENIED: Denied,
    Mark.BUILDING: Begun,
    Mark.DEPLOYED: Deployed,
    Mark.FAILED: Failed,
}
ENDS: Final = (Mark.DENIED, Mark.DEPLOYED, Mark.FAILED)
NEVER_APPROVED: Final = (Mark.PROPOSAL, Mark.AGREED, Mark.DENIED)
PASSING: Final = (Mark.PROPOSAL, Mark.AGREED, Mark.APPROVED, Mark.BUILDING)

Tags = Mapping[tuple[Mark, int], AnyDocument]
"""All tags of one repository."""


class Record(Struct, frozen=True):
    """What the tags of one agent say."""

    proposals: Mapping[int, Proposal]
    deployments: Mapping[int, Deployment]
    next_number: int


def tag_name(mark: Mark, number: int) -> str:
    return f"{mark}/{number}"


def encode(document: AnyDocument) -> bytes:
    """A document as its tag's message: canonical JSON, one line."""
    return msgspec.json.encode(document, order="deterministic") + b"\n"


def decode(name: str, content: bytes) -> tuple[tuple[Mark, int], AnyDocument]:
    """The document of the tag of this name. ValueError where it is none of ours."""
    found = TAG_RULE.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!a} is no tag of ours")
    mark = Mark(found[1])
    try:
        document: AnyDocument = msgspec.json.decode(content, type=DOCUMENTS[mark])
    except msgspec.MsgspecError as error:
        raise ValueError(f"the tag {name} holds no document of ours: {error}") from error
    if encode(document) != content:
        raise ValueError(f"the document of the tag {name} is not canonical")
    return (mark, int(found[2])), document


def derive(agent: str, tags: Tags) -> Record:
    """Everything that is known of one agent's proposals and deployments."""
    numbers = sorted({number for _, number in tags})
    proposals = {number: found for number in numbers if (found := _proposal(agent, number, tags)) is not None}
    deployments = {
        number: begun for number in numbers if (begun := _deployment(agent, number, tags)) is not None
    }
    return Record(proposals, deployments, max(numbers, default=0) + 1)


def _proposal(agent: str, number: int, tags: Tags) -> Proposal | None:
    asked = asked_of(tags, number)
    if asked is None:
        return None
    state, decided_ms, proof, reason = _verdict(tags, number)
    return Proposal(
        agent=agent,
        number=number,
        kind=asked.kind,
        state=state,
        commit=asked.commit,
        tree=asked.tree,
        base=asked.base,
        by=asked.by,
        description=asked.description,
        proposed_ms=asked.proposed_ms,
        expires_ms=asked.expires_ms,
        capabilities=asked.capabilities,
        decided_ms=decided_ms,
        proof=proof,
        approvals=() if state is not ProposalState.OPEN else agreed_names(tags, number),
        reason=reason,
    )


def _verdict(tags: Tags, number: int) -> tuple[ProposalState, int | None, str, str]:
    """State, when it was decided, the proof, and the reason."""
    approved = approved_of(tags, number)
    decided_ms, proof = (None, "") if approved is None else (approved.at_ms, proven(approved))
    match end_of(tags, number):
        case Denied(end=end, at_ms=at_ms, reason=reason):
            return end, at_ms, "", reason
        case Deployed():
            return ProposalState.DEPLOYED, decided_ms, proof, ""
        case Failed(reason=reason):
            return ProposalState.FAILED, decided_ms, proof, reason
    if approved is not None:
        return ProposalState.APPROVED, decided_ms, proof, ""
    return ProposalState.OPEN, None, "", ""


def _deployment(agent: str, number: int, tags: Tags) -> Deployment | None:
    begun = begun_of(tags, number)
    if begun is None:
        return None
    state, ended_ms, detail = DeploymentState.BUILDING, None, ""
    if (Mark.BUILDING, number) not in tags:
        state = DeploymentState.WAITING
    match end_of(tags, number):
        case Deployed(at_ms=at_ms):
            state, ended_ms = DeploymentState.DEPLOYED, at_ms
        case Failed(at_ms=at_ms, reason=reason, cancelled=cancelled):
            state = DeploymentState.CANCELLED if cancelled else DeploymentState.RETURNED
            ended_ms, detail = at_ms, reason
    return Deployment(
        agent=agent,
        number=number,
        kind=begun.kind,
        state=state,
        commit=begun.commit,
        began_ms=begun.began_ms,
        since_ms=ended_ms or begun.began_ms,
        ended_ms=ended_ms,
        of=begun.of,
        detail=detail,
    )


def proven(approved: Approved) -> str:
    """How it was proven, by whom."""
    return ", ".join(said_of(each) for each in approved.words)


def said_of(word: Word) -> str:
    """How it was proven, and by which key."""
    match word.proof:
        case Click():
            return "click"
        case AtTerminal():
            return "terminal"
        case SshSignature():
            return f"ssh {_name(word)}"
        case PasskeyAssertion():
            return f"passkey {_name(word)}"


def _name(word: Word) -> str:
    return "?" if word.approver is None else word.approver.name


def end_of(tags: Tags, number: int) -> Denied | Deployed | Failed | None:
    """What a proposal or deployment came to."""
    for mark in ENDS:
        found = tags.get((mark, number))
        if isinstance(found, Denied | Deployed | Failed):
            return found
    return None


def asked_of(tags: Tags, number: int) -> Asked | None:
    found = tags.get((Mark.PROPOSAL, number)) or end_of(tags, number)
    return found if isinstance(found, Asked) else getattr(found, "asked", None)


def approved_of(tags: Tags, number: int) -> Approved | None:
    found = tags.get((Mark.APPROVED, number)) or end_of(tags, number)
    return found if isinstance(found, Approved) else getattr(found, "approved", None)


def agreed_of(tags: Tags, number: int) -> Word | None:
    """The first of two words."""
    found = tags.get((Mark.AGREED, number))
    return found.word if isinstance(found, Agreed) else None


def agreed_names(tags: Tags, number: int) -> tuple[str, ...]:
    """Who has approved while another one must agree."""
    word = agreed_of(tags, number)
    return () if word is None or word.approver is None else (word.approver.name,)


def begun_of(tags: Tags, number: int) -> Begun | None:
    """How a deployment began, or will: one that was approved waits with what was asked for."""
    match end_of(tags, number):
        case Deployed(begun=begun) | Failed(begun=begun):
            return begun
        case Denied():
            return None
    building = tags.get((Mark.BUILDING, number))
    if isinstance(building, Begun):
        return building
    asked, approved = asked_of(tags, number), approved_of(tags, number)
    return begin(asked, approved.at_ms) if asked is not None and approved is not None else None


def begin(asked: Asked, began_ms: int) -> Begun:
    """The deployment that an approval leads to."""
    return Begun(DeploymentKind(asked.kind), asked.commit, asked.tree, asked.base, began_ms)


def unfinished(tags: Tags) -> tuple[int, ...]:
    """Deployments that were approved or begun, and have not ended; in the order of their numbers."""
    return tuple(
        number
        for number in sorted({number for _, number in tags})
        if begun_of(tags, number) is not None and end_of(tags, number) is None
    )


def generation_of(tags: Tags) -> int | None:
    """The number of what is live; None where nothing was deployed."""
    found = [
        number
        for (mark, number), document in tags.items()
        if mark is Mark.DEPLOYED
        and isinstance(document, Deployed)
        and document.begun.kind is not DeploymentKind.INIT
    ]
    return max(found, default=None)


def proposed_within(tags: Tags, now_ms: int, span_ms: int = HOUR_MS, by: str | None = None) -> int:
    """How many proposals were made lately, by whom if that matters, whatever became of them."""
    return sum(
        1 for each in _all_asked(tags) if now_ms - each.proposed_ms < span_ms and by in {None, each.by}
    )


def _all_asked(tags: Tags) -> Iterable[Asked]:
    found = (asked_of(tags, number) for number in {number for _, number in tags})
    return (each for each in found if each is not None)


def is_only_asked(tags: Tags, by: str | None = None) -> bool:
    """Whether nothing was ever approved of what was proposed under a name, and whether this caller proposed some."""
    return all(mark in NEVER_APPROVED for mark, _ in tags) and (
        by is None or any(each.by == by for each in _all_asked(tags))
    )


def ended_ms(tags: Tags) -> int | None:
    """When the last proposal of a name of which nothing was approved came to its end; None while one is open."""
    ends = [end_of(tags, number) for _, number in tags]
    return None if None in ends else max((end.at_ms for end in ends if end is not None), default=0)


def droppable(tags: Tags, now_ms: int, keep_ms: int) -> tuple[str, ...]:
    """Tags that need not stay: what an end has taken over, and denials and failures of long ago.

    The highest number stays, whatever it is: no number is ever given twice.
    """
    highest = max((number for _, number in tags), default=0)
    return tuple(_drops(tags, now_ms, keep_ms, highest))


def _drops(tags: Tags, now_ms: int, keep_ms: int, highest: int) -> Iterable[str]:
    for mark, number in sorted(tags):
        end = end_of(tags, number)
        if end is None:
            continue
        aged = isinstance(end, Denied | Failed) and now_ms - end.at_ms > keep_ms and number != highest
        if mark in PASSING or aged:
            yield tag_name(mark, number)
