"""Who is told of the end of a proposal or of a deployment, and in which words. Pure.

The manager is told of what it asked for, and of everything that was rolled back; the agent of what its cage now
lives by. What the operator asked for, the operator sees.
"""

from typing import Final

from msgspec import Struct

from brokerd.policy.notices import quoted
from protocol.approvals import (
    Deployment,
    DeploymentKind,
    DeploymentState,
    Proposal,
    ProposalKind,
    ProposalState,
)
from protocol.messages import SystemEvent
from protocol.names import MANAGER_ALIAS

COMMIT_SHOWN: Final = 12
"""Digits of a commit in a sentence."""


class End(Struct, frozen=True):
    """What was told, so that it is told once: numbers begin anew where an agent was purged, times do not."""

    agent: str
    number: int
    state: str
    made_ms: int


class Telling(Struct, frozen=True):
    """One end, and what it is to be told as; an empty text: to nobody."""

    end: End
    event: SystemEvent
    to_manager: str = ""
    to_agent: str = ""


def of_proposal(row: Proposal) -> Telling | None:
    """What is to be told of a proposal as it stands; None while it has not ended."""
    end = End(row.agent, row.number, row.state.value, row.proposed_ms)
    asked = row.by == MANAGER_ALIAS
    what = f"proposal {row.number} for {row.agent} ({row.kind}, commit {row.commit[:COMMIT_SHOWN]})"
    match row.state:
        case ProposalState.OPEN:
            return None
        case ProposalState.APPROVED:
            words = f"approved: {what} was approved and is being deployed; you are told how that ends."
            return Telling(end, SystemEvent.APPROVED, words if asked else "")
        case ProposalState.DENIED:
            return Telling(end, SystemEvent.DENIED, _denied(what, row.reason) if asked else "")
        case ProposalState.WITHDRAWN:
            words = f"denied: {what} was withdrawn. It changes nothing and will not be decided."
            return Telling(end, SystemEvent.DENIED, words if asked else "")
        case ProposalState.EXPIRED:
            words = f"expired: nobody decided {what} in time. If it is still wanted, propose it again."
            return Telling(end, SystemEvent.EXPIRED, words if asked else "")
        case ProposalState.DEPLOYED:
            told = _deployed(row) if asked else ""
            new = row.kind is ProposalKind.CONFIG
            return Telling(end, SystemEvent.DEPLOYED, told, _lives_by(row.number) if new else "")
        case ProposalState.FAILED:
            told = f"deploy_failed: {what} was approved, but did not come into force: {_plain(row.reason)}."
            told += (
                f" {_before(row.agent)}" if row.kind is ProposalKind.CONFIG else f" {row.agent} was not made."
            )
            new = row.kind is ProposalKind.CONFIG
            return Telling(
                end, SystemEvent.DEPLOY_FAILED, told if asked else "", _returned(row.reason) if new else ""
            )


def of_rollback(row: Deployment) -> Telling | None:
    """The same of a deployment that no proposal led to; None for others, and until it has ended."""
    if row.kind is not DeploymentKind.ROLLBACK:
        return None
    end = End(row.agent, row.number, row.state.value, row.began_ms)
    what = f"{row.agent} was to be rolled back to generation {row.of}"
    match row.state:
        case DeploymentState.DEPLOYED:
            told = (
                f"deployed: the operator rolled {row.agent} back to generation {row.of}; that is generation "
                f"{row.number} now. What was changed since then is not in force; the config folder is as it was."
            )
            return Telling(end, SystemEvent.DEPLOYED, told, _lives_by(row.number))
        case DeploymentState.RETURNED:
            told = f"deploy_failed: {what}, which failed: {_plain(row.detail)}. {_before(row.agent)}"
            return Telling(end, SystemEvent.DEPLOY_FAILED, told, _returned(row.detail))
        case DeploymentState.CANCELLED:
            return Telling(end, SystemEvent.DEPLOY_FAILED)
        case _:
            return None


def _denied(what: str, reason: str) -> str:
    if not reason:
        return f"denied: the operator denied {what}, without a reason."
    return f"denied: the operator denied {what}. The operator's reason:\n{reason}"


def _deployed(row: Proposal) -> str:
    match row.kind:
        case ProposalKind.INIT:
            return (
                f"deployed: the draft of {row.agent} is made. Edit /agents/{row.agent}/config, commit with git, and "
                "use request_apply_commit to have it made an agent."
            )
        case ProposalKind.SPAWN:
            return f"deployed: {row.agent} is made and runs (proposal {row.number}). You can write to it."
        case ProposalKind.CONFIG:
            return f"deployed: proposal {row.number} for {row.agent} is in force, as generation {row.number}."


def _lives_by(generation: int) -> str:
    return (
        f"deployed: your configuration was changed (generation {generation}), and your container was started anew "
        "with it. Your notes, your files and your conversation are as they were; what you ran in the background is "
        "gone. Go on with what was under way, if anything was."
    )


def _returned(reason: str) -> str:
    return (
        f"deploy_failed: your configuration was to be changed, which failed: {_plain(reason)}. You have the one that "
        "you had. What you ran in the background may be gone; go on with what was under way, if anything was."
    )


def _before(agent: str) -> str:
    return f"{agent} has the configuration that it had before."


def _plain(reason: str) -> str:
    return quoted(reason or "no reason was given").rstrip(". ")
