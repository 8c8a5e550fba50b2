"""Proposals, deployments and the ends of their logs, as the dashboard keeps them. Pure.

Keys are an agent and a number, `iris/3`: a proposal, the deployment that it leads to, and its log have the same one.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from protocol.approvals import BuildLine, CapabilityChange, Deployment, FileDiff, Proposal, ProposalState
from protocol.configuration import (
    AnyDecision,
    BuildSaid,
    DecisionsNow,
    DeploymentChanged,
    ProposalChanged,
)
from protocol.limits import DESCRIPTION_CHARS_MAX
from webd.policy.text import plain
from webd.policy.topics import BUILDS, DEPLOYMENTS, PROPOSALS

ENDED_MAX: Final = 50
"""Proposals that have ended, and deployments that have."""
LINES_MAX: Final = 20
"""Of one log; the rest is read page by page."""
LOGS_MAX: Final = 10
VALUE_CHARS_MAX: Final = 300
"""Of one side of a change in a list; whoever decides reads all of it on the proposal's page."""

Told = tuple[str, str, Any]
"""What to tell of one row: its topic, its key, and None when it is shown no more."""

R = TypeVar("R")


class BuildRow(Struct, frozen=True):
    """The newest lines of one deployment's log, in order."""

    agent: str
    number: int
    lines: tuple[BuildLine, ...]


class Decisions:
    """Rows by key."""

    def __init__(self) -> None:
        self.proposals: dict[str, Proposal] = {}
        self.deployments: dict[str, Deployment] = {}
        self.builds: dict[str, BuildRow] = {}
        """The one that spoke last is the last."""
        self.click = False
        """Whether privd says that a click is enough."""

    def heard(self, event: AnyDecision) -> list[Told]:
        """What browsers must be told of one event of privd's."""
        match event:
            case DecisionsNow():
                return self._begin(event)
            case ProposalChanged(proposal):
                self.proposals[key_of(proposal)] = row = _kept(proposal)
                return [(PROPOSALS, key_of(proposal), row), *self._let_go_of_proposals()]
            case DeploymentChanged(deployment):
                self.deployments[key_of(deployment)] = shown = deployment_row(deployment)
                return [(DEPLOYMENTS, key_of(deployment), shown), *self._let_go_of_deployments()]
            case BuildSaid(agent, number, lines):
                return self.said(agent, number, lines)

    def said(self, agent: str, number: int, lines: Iterable[BuildLine]) -> list[Told]:
        """Lines of a log; those that are here already change nothing."""
        key = f"{agent}/{number}"
        known = self.builds.pop(key, None)
        every = {line.offset: line for line in (known.lines if known else ())}
        every |= {line.offset: line_row(line) for line in lines}
        newest = tuple(every[offset] for offset in sorted(every)[-LINES_MAX:])
        row = self.builds[key] = BuildRow(agent, number, newest)
        told: list[Told] = [] if row == known else [(BUILDS, key, row)]
        while len(self.builds) > LOGS_MAX:
            silent = next(iter(self.builds))
            del self.builds[silent]
            told.append((BUILDS, silent, None))
        return told

    def going(self) -> list[Deployment]:
        """Deployments that have not ended."""
        return [row for row in self.deployments.values() if row.ended_ms is None]

    def _begin(self, now: DecisionsNow) -> list[Told]:
        self.click = now.click
        proposals = {key_of(row): _kept(row) for row in now.proposals}
        deployments = {key_of(row): deployment_row(row) for row in now.deployments}
        told = [
            *_changes(PROPOSALS, self.proposals, proposals),
            *_changes(DEPLOYMENTS, self.deployments, deployments),
        ]
        self.proposals, self.deployments = proposals, deployments
        return told

    def _let_go_of_proposals(self) -> list[Told]:
        ended = [key for key, row in self.proposals.items() if row.state is not ProposalState.OPEN]
        ended.sort(key=lambda key: self.proposals[key].decided_ms or 0)
        return _let_go(PROPOSALS, self.proposals, ended[:-ENDED_MAX])

    def _let_go_of_deployments(self) -> list[Told]:
        ended = [key for key, row in self.deployments.items() if row.ended_ms is not None]
        ended.sort(key=lambda key: self.deployments[key].ended_ms or 0)
        return _let_go(DEPLOYMENTS, self.deployments, ended[:-ENDED_MAX])


def key_of(row: Proposal | Deployment) -> str:
    return f"{row.agent}/{row.number}"


def _kept(proposal: Proposal) -> Proposal:
    """A proposal as every page holds it: what has ended is not judged any more."""
    if proposal.state is ProposalState.OPEN:
        return proposal_row(proposal)
    short = replace(proposal, description=plain(proposal.description, VALUE_CHARS_MAX), capabilities=())
    return proposal_row(short)


def proposal_row(proposal: Proposal, chars_max: int = VALUE_CHARS_MAX) -> Proposal:
    return replace(
        proposal,
        description=plain(proposal.description, DESCRIPTION_CHARS_MAX),
        capabilities=tuple(capability_row(each, chars_max) for each in proposal.capabilities),
        proof=plain(proposal.proof),
        approvals=tuple(map(plain, proposal.approvals)),
        reason=plain(proposal.reason),
    )


def capability_row(change: CapabilityChange, chars_max: int) -> CapabilityChange:
    before, after = (
        None if value is None else plain(value, chars_max) for value in (change.before, change.after)
    )
    return replace(change, subject=plain(change.subject, chars_max), before=before, after=after)


def file_row(file: FileDiff) -> FileDiff:
    lines = tuple(replace(line, text=plain(line.text)) for line in file.lines)
    return replace(file, path=plain(file.path), lines=lines)


def deployment_row(deployment: Deployment) -> Deployment:
    return replace(deployment, detail=plain(deployment.detail))


def line_row(line: BuildLine) -> BuildLine:
    return replace(line, text=plain(line.text))


def _changes(topic: str, before: Mapping[str, R], after: Mapping[str, R]) -> list[Told]:
    gone: list[Told] = [(topic, key, None) for key in before if key not in after]
    return gone + [(topic, key, row) for key, row in after.items() if before.get(key) != row]


def _let_go(topic: str, rows: dict[str, Any], keys: Iterable[str]) -> list[Told]:
    told: list[Told] = []
    for key in keys:
        del rows[key]
        told.append((topic, key, None))
    return told
