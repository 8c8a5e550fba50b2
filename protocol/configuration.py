"""What may be asked of privd about configurations: proposals, verdicts, deployments, and reading the record.

Every request that names a commit names it by its 40 digits. Nothing here reaches a cage without `Approve`, but for
`RollBack` and `RebuildCage`, whose content was approved before.
"""

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from protocol.approvals import (
    AnyKey,
    AnyProof,
    Approval,
    Approver,
    ApproverName,
    BuildLine,
    CommitId,
    Deployment,
    Description,
    Digest,
    FileDiff,
    LogEntry,
    Proposal,
    ProposalKind,
    ProposalNumber,
    ProposalPage,
    Reason,
    Ref,
)
from protocol.limits import INTEGER_MAX, PAGE_ROWS_MAX
from protocol.names import AgentName, StatePath
from protocol.rpc import Call, Watch
from protocol.settings import ModelName, Runner

Limit = Annotated[int, Meta(ge=1, le=PAGE_ROWS_MAX)]


class Propose(Call[Proposal], frozen=True):
    """Take a commit of the agent's proposed repository in, pinned and inert, until the operator decides.

    Without a commit (kinds `init` and `spawn`): the hive's own template, which needs no repository yet. An identical
    open proposal is answered instead of a new one. Refusals: `malformed`, `limit` with file and reason, `not_found`,
    `conflict` when the kind does not fit what the agent is.
    """

    repeatable: ClassVar[bool] = False

    agent: AgentName
    kind: ProposalKind
    commit: CommitId | None = None
    template: StatePath = ""
    """Without a commit: which of the hive's role templates; empty is the plain one."""
    runner: Runner | None = None
    """Without a commit: written into the template's configuration; None leaves it to the hive."""
    model: ModelName | None = None
    """The same."""
    description: Description = ""


class WithdrawProposal(Call[Proposal], frozen=True):
    """Take an open proposal back. `conflict` when it was decided."""

    agent: AgentName
    number: ProposalNumber


class ListProposals(Call[tuple[Proposal, ...]], frozen=True):
    """Open proposals, or also those that have ended, newest first."""

    agent: AgentName | None = None
    ended: bool = False
    limit: Limit = PAGE_ROWS_MAX


class ShowProposal(Call[ProposalPage], frozen=True):
    """A proposal with its diff against what is deployed, what it changes of the agent's powers, and what to sign."""

    repeatable: ClassVar[bool] = False

    agent: AgentName
    number: ProposalNumber


class Approve(Call[Approval], frozen=True):
    """Decide for a proposal as it was shown, and deploy it. `digest` is that of the document that was shown.

    Where the hive wants two approvers, the first one's approval waits for that of another key.

    `denied` when the proof does not hold; `conflict` when it was decided, or the base moved: look again.
    """

    repeatable: ClassVar[bool] = False

    agent: AgentName
    number: ProposalNumber
    digest: Digest
    proof: AnyProof


class Deny(Call[Proposal], frozen=True):
    """Decide against a proposal; the reason reaches and wakes the one who asked."""

    agent: AgentName
    number: ProposalNumber
    reason: Reason = ""


class ListDeployments(Call[tuple[Deployment, ...]], frozen=True):
    """Deployments, newest first."""

    agent: AgentName | None = None
    limit: Limit = PAGE_ROWS_MAX


class BuildLog(Struct, frozen=True):
    """Lines in order; `before` leads to older ones and is None at the start."""

    lines: tuple[BuildLine, ...]
    before: int | None


class ReadBuildLog(Call[BuildLog], frozen=True):
    """The newest lines of one deployment's log before an offset."""

    agent: AgentName
    number: ProposalNumber
    before: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] | None = None


class CancelDeployment(Call[Deployment], frozen=True):
    """Give up a deployment that has not switched anything. `conflict` afterwards."""

    agent: AgentName
    number: ProposalNumber


class RollBack(Call[Deployment], frozen=True):
    """Deploy the content of an older generation again, as a new one; what it holds was approved then."""

    repeatable: ClassVar[bool] = False

    agent: AgentName
    generation: ProposalNumber


class EnrolApprover(Call[Approver], frozen=True):
    """Let a key decide proposals; from the first one on no click is enough. Taken from root alone.

    `denied` from anybody else (where privd is an ordinary user: from its own uid only), `malformed` for a key of an
    unknown kind, `conflict` for a name or a key that is there already.
    """

    name: ApproverName
    key: AnyKey


class RevokeApprover(Call[Approver], frozen=True):
    """Let a key decide nothing from now on; what it decided stays proven. Taken from root alone."""

    name: ApproverName


class ListApprovers(Call[tuple[Approver, ...]], frozen=True):
    """Every key that was ever enrolled, by name."""


class ConfirmHealth(Call[None], frozen=True):
    """Say that the harness of a cage that started then is well, or what is wrong with it."""

    agent: AgentName
    started_ms: Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
    fault: Reason = ""


class DecisionsNow(Struct, frozen=True, tag_field="kind", tag="decisions_now"):
    """The first event, and again when other keys decide: proposals and deployments that run or ended lately."""

    proposals: tuple[Proposal, ...]
    deployments: tuple[Deployment, ...]
    click: bool
    """Whether a click is enough, because no key is enrolled."""


class ProposalChanged(Struct, frozen=True, tag_field="kind", tag="proposal_changed"):
    """A proposal was made or has moved: its whole row."""

    proposal: Proposal


class DeploymentChanged(Struct, frozen=True, tag_field="kind", tag="deployment_changed"):
    """A deployment began or has moved: its whole row."""

    deployment: Deployment


class BuildSaid(Struct, frozen=True, tag_field="kind", tag="build_said"):
    """A deployment's log has more lines."""

    agent: AgentName
    number: int
    lines: tuple[BuildLine, ...]


AnyDecision = DecisionsNow | ProposalChanged | DeploymentChanged | BuildSaid


class WatchDeployments(Watch[AnyDecision], frozen=True):
    """Proposals and deployments now, then every change, with the log lines of what is being deployed."""


class ListRefs(Call[tuple[Ref, ...]], frozen=True):
    """Branches and tags of an agent's applied repository, newest first; without an agent: of the meta repository.

    As many as fit in a page, all tags of a number or none. `before` leads on: only tags of smaller numbers.
    """

    agent: AgentName | None = None
    before: ProposalNumber | None = None


class ReadLog(Call[tuple[LogEntry, ...]], frozen=True):
    """Commits from one (or from what is deployed) back, newest first."""

    agent: AgentName | None = None
    commit: CommitId | None = None
    limit: Limit = 50


class ReadDiff(Call[tuple[FileDiff, ...]], frozen=True):
    """What changed from one commit to another; without `before`: everything that the commit holds."""

    commit: CommitId
    before: CommitId | None = None
    agent: AgentName | None = None


class FilePage(Struct, frozen=True):
    """A file of a commit, whole; admission bounds its size."""

    path: str
    data: bytes


class ReadFile(Call[FilePage], frozen=True):
    """One file as it is in a commit."""

    commit: CommitId
    path: StatePath
    agent: AgentName | None = None
