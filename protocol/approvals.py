"""Proposals, approvals and deployments as everybody sees them: a commit, a verdict on it, and what became of it.

The record is the tags of the agent's applied repository; nothing here is stored anywhere else.
"""

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.limits import (
    DESCRIPTION_CHARS_MAX,
    INTEGER_MAX,
    PROOF_BYTES_MAX,
    REASON_CHARS_MAX,
)
from protocol.names import AgentName

CommitId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{40}\Z", description="40 hex digits; no name is resolved")]
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
ProposalNumber = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
"""Counts up per agent; the deployment that a proposal leads to, and its generation, have the same number."""
Description = Annotated[str, Meta(max_length=DESCRIPTION_CHARS_MAX)]
ApproverName = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,31}\Z")]
"""What a person calls a key."""
SIGNATURE_NAMESPACE: Final = "hyperhive-approval@v1"
"""What an SSH signature is for (`ssh-keygen -Y sign -n`): one made for anything else approves nothing."""
Reason = Annotated[str, Meta(max_length=REASON_CHARS_MAX)]
ProofBytes = Annotated[bytes, Meta(max_length=PROOF_BYTES_MAX)]


class ProposalKind(StrEnum):
    """What an approval would do."""

    INIT = "init"
    """Make a draft: folders, a uid range and a proposed repository from the template, no cage."""
    SPAWN = "spawn"
    """Make an agent, from the template or from the commit of a draft, and start it."""
    CONFIG = "config"
    """Give a living agent another configuration."""


class ProposalState(StrEnum):
    """Where a proposal stands; a pure function of its tags."""

    OPEN = "open"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    APPROVED = "approved"
    """Its deployment has not ended."""
    DEPLOYED = "deployed"
    FAILED = "failed"
    """Approved, and returned to what was there before."""


class CapabilityChange(Struct, frozen=True):
    """One thing that the configuration would change in what the agent may or has. None: not there."""

    subject: str
    before: str | None
    after: str | None
    notable: bool
    """Worth a look: it gives more than there was, or names something outside."""


class SshKey(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="ssh"):
    """A public key as in `id_ed25519.pub`: `ssh-ed25519 AAAA…`, hardware keys too; a comment is dropped."""

    line: Annotated[str, Meta(min_length=1, max_length=PROOF_BYTES_MAX)]


class Passkey(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="passkey"):
    """A WebAuthn credential as the dashboard's enrolment page shows it; `public_key` is SPKI in DER."""

    credential: ProofBytes
    public_key: ProofBytes


AnyKey = SshKey | Passkey


class Approver(Struct, frozen=True):
    """One key that decides proposals. A revoked one stays, so that what it proved can be checked for ever."""

    name: ApproverName
    key: AnyKey
    fingerprint: str
    """`SHA256:` and base64 of the public key's hash, as `ssh-keygen -l` prints it."""
    enrolled_ms: int
    revoked_ms: int | None = None


class Proposal(Struct, frozen=True):
    """One proposal. `base` is what was deployed when it was made; an approval holds for exactly that base."""

    agent: AgentName
    number: int
    kind: ProposalKind
    state: ProposalState
    commit: str
    tree: str
    base: str | None
    by: str
    """`manager` or `operator`, from the socket."""
    description: str
    proposed_ms: int
    expires_ms: int
    capabilities: tuple[CapabilityChange, ...] = ()
    decided_ms: int | None = None
    proof: str = ""
    """The kind of proof, and the key's name; with two approvers both."""
    approvals: tuple[str, ...] = ()
    """Who has approved while it still waits for another one."""
    reason: str = ""
    """Why it was denied, or why its deployment failed."""


class DiffLine(Struct, frozen=True):
    """One line of a hunk: `kind` is ` `, `+` or `-`, and the numbers are None where the line is not there."""

    kind: str
    before: int | None
    after: int | None
    text: str


class FileDiff(Struct, frozen=True):
    """What happens to one file; `lines` has three lines of context around each change, `cut` when there are more."""

    path: str
    before_bytes: int | None
    after_bytes: int | None
    lines: tuple[DiffLine, ...]
    cut: bool = False


NOT_WHOLE: Final = (
    "it changes more than one page can show, so it cannot be approved: deny it, and ask for smaller steps"
)
"""What operators are told of an open proposal whose page has no document."""


class ProposalPage(Struct, frozen=True):
    """A proposal with all that an operator needs to judge it.

    `document` is the text that a key signs, `digest` its SHA-256 in hex; both hold for this reply only, and for
    a bounded time. `code` is eight digits for comparing two screens: they are the same wherever the same is shown.
    All three are empty where nothing can be approved: it was decided, or a file of the diff is `cut`.
    """

    proposal: Proposal
    current_base: str | None
    diff: tuple[FileDiff, ...]
    document: str
    digest: str
    code: str
    approvers: tuple[Approver, ...] = ()
    """Keys that may decide it; empty while a click is enough."""


class Click(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="click"):
    """The operator's word, passed on by whoever the operator's socket admits. Refused once a key is enrolled."""


class AtTerminal(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="terminal"):
    """Root's own word: taken from uid 0 and from nobody else."""


class SshSignature(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="ssh"):
    """An armored signature by `ssh-keygen -Y sign -n hyperhive-approval@v1` over the document."""

    armored: Annotated[str, Meta(max_length=PROOF_BYTES_MAX)]


class PasskeyAssertion(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="passkey"):
    """A WebAuthn assertion whose challenge is the document's digest."""

    credential: ProofBytes
    client_data: ProofBytes
    authenticator_data: ProofBytes
    signature: ProofBytes


AnyProof = Click | AtTerminal | SshSignature | PasskeyAssertion


class DeploymentKind(StrEnum):
    """Why something is made live."""

    INIT = "init"
    """A draft is made: folders and a proposed repository, no cage. It makes no generation."""
    SPAWN = "spawn"
    CONFIG = "config"
    ROLLBACK = "rollback"


class DeploymentState(StrEnum):
    """`building → switching → checking → deployed`, or `returned` from any of them."""

    WAITING = "waiting"
    BUILDING = "building"
    SWITCHING = "switching"
    CHECKING = "checking"
    DEPLOYED = "deployed"
    RETURNED = "returned"
    """The generation before is live again, or nothing is where there was none."""
    CANCELLED = "cancelled"
    """Before anything was switched."""


class Deployment(Struct, frozen=True):
    """One attempt to make a commit live. `number` is its generation once it is deployed."""

    agent: AgentName
    number: int
    kind: DeploymentKind
    state: DeploymentState
    commit: str
    began_ms: int
    since_ms: int
    ended_ms: int | None = None
    of: int | None = None
    """With a rollback: the generation whose content it is."""
    detail: str = ""
    """Why it was returned, or what it waits for."""


class Approval(Struct, frozen=True):
    """What an approval came to: the deployment that it began, or None while another approver must agree."""

    proposal: Proposal
    deployment: Deployment | None


class BuildLine(Struct, frozen=True):
    """One line of a deployment's log; `offset` is the byte where it starts."""

    offset: int
    text: str


class Ref(Struct, frozen=True):
    """One branch or tag of an applied repository, or of the meta repository."""

    name: str
    commit: str
    document: str
    """The tag's message: what was decided, by whom, over what; empty for a branch."""


class LogEntry(Struct, frozen=True):
    commit: str
    at_ms: int
    subject: str
    tags: tuple[str, ...]
