"""Following what privd decides and deploys: ends are told to whom they concern, and cages that are checked are asked.

What happened while nobody followed is in the first event of the next watch.
"""

from collections.abc import Iterable
from typing import Final, assert_never

import trio

from brokerd.host import Host
from brokerd.policy.decisions import Telling, of_proposal, of_rollback
from protocol.approvals import Deployment, DeploymentState
from protocol.configuration import (
    AnyDecision,
    BuildSaid,
    DecisionsNow,
    DeploymentChanged,
    ProposalChanged,
    WatchDeployments,
)
from protocol.problem import Refused
from runtime.backoff import delays
from runtime.client import Disconnected

RETRY_FIRST_S: Final = 0.05
RETRY_MAX_S: Final = 2.0


async def follow_deployments(host: Host) -> None:
    """For ever: apply what privd tells; when it is away, try again, and say so once."""
    waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
    is_away = False
    while True:
        try:
            async with host.privd.watch(WatchDeployments()) as events:
                async for event in events:
                    await apply(event, host)
                    if is_away:
                        host.log.info("following privd's decisions again")
                    is_away, waits = False, delays(RETRY_FIRST_S, RETRY_MAX_S)
        except (Disconnected, Refused) as fault:
            if not is_away:
                host.log.warning("not following privd's decisions just now", reason=str(fault))
            is_away = True
        await trio.sleep(next(waits))


async def apply(event: AnyDecision, host: Host) -> None:
    """Refused(limit) when somebody could not be told for want of room; it is told again with the next watch."""
    match event:
        case DecisionsNow():
            await _catch_up(event, host)
        case ProposalChanged(proposal):
            await host.decisions.proposal(proposal)
        case DeploymentChanged(deployment):
            await _deployment(deployment, host)
        case BuildSaid():
            pass
        case _:
            assert_never(event)


async def _catch_up(now: DecisionsNow, host: Host) -> None:
    """Oldest first, and everybody who has room, whoever has none."""
    proposals = sorted(now.proposals, key=lambda each: each.decided_ms or each.proposed_ms)
    deployments = sorted(now.deployments, key=lambda each: each.began_ms)
    await host.decisions.begin(
        _tellings((of_proposal(each) for each in proposals), map(of_rollback, deployments))
    )
    refused: Refused | None = None
    for proposal in proposals:
        try:
            await host.decisions.proposal(proposal)
        except Refused as fault:
            refused = fault
    for deployment in deployments:
        try:
            await _deployment(deployment, host)
        except Refused as fault:
            refused = fault
    if refused is not None:
        raise refused


async def _deployment(deployment: Deployment, host: Host) -> None:
    host.health.check(deployment.agent, wanted=deployment.state is DeploymentState.CHECKING)
    telling = of_rollback(deployment)
    if telling is not None:
        await host.decisions.tell(telling)


def _tellings(*found: Iterable[Telling | None]) -> list[Telling]:
    return [each for some in found for each in some if each is not None]
