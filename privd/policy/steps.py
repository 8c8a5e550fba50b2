"""The steps of one deployment, as they are written down before each is taken. Pure.

    building → switching → checking → sealing      what was approved is live, and `deployed/<n>` says so
                    ↘ returning ↙                  what was there before is there again, and `failed/<n>` says so

Whatever step privd finds written when it starts, it takes again: each one may be taken twice.
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from privd.policy.proposals import Standing
from privd.policy.record import Begun
from protocol.approvals import Deployment, DeploymentKind, DeploymentState
from protocol.problem import Problem, Refused
from protocol.settings import AgentSettings

TRIES_MAX: Final = 3
"""How often privd may end in the middle of a deployment before it returns."""


class StepName(StrEnum):
    SWITCHING = "switching"
    CHECKING = "checking"
    SEALING = "sealing"
    RETURNING = "returning"


class Step(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be done next, and all that is needed to do it or to take it back. No step: it is still being built."""

    number: int
    step: StepName
    begun: Begun
    after: AgentSettings
    standing: Standing
    """What the agent was before."""
    before: AgentSettings | None
    wanted: bool
    """Whether its cage was wanted."""
    main: str | None
    """What `main` was: the parent of the new generation."""
    tries: int = 0
    reason: str = ""
    ended_ms: int = 0
    """With `sealing` and `returning`: when that was decided, so that doing it twice gives the same."""


STATES: Final = {
    StepName.SWITCHING: DeploymentState.SWITCHING,
    StepName.CHECKING: DeploymentState.CHECKING,
    StepName.SEALING: DeploymentState.CHECKING,
    StepName.RETURNING: DeploymentState.SWITCHING,
}


def check_can_cancel(deployment: Deployment) -> None:
    """Refuse to give up what has switched something, or has ended."""
    if deployment.state not in {DeploymentState.WAITING, DeploymentState.BUILDING}:
        raise Refused(
            Problem.CONFLICT,
            f"deployment {deployment.number} of {deployment.agent} is {deployment.state}: "
            "it cannot be cancelled any more; roll back instead",
        )


def message(agent: str, number: int, begun: Begun) -> str:
    """The message of the commit on `main`."""
    if begun.kind is DeploymentKind.ROLLBACK:
        return f"Return {agent} to generation {begun.of}\n\nDeployment {number}."
    return f"Deploy {begun.kind} of {agent}\n\nProposal {number}, commit {begun.commit}."
