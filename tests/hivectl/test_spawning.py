"""`hivectl spawn`: what it asks, and what it says where its word is not enough or the cage is not well."""

from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs

from hivectl import proposals
from hivectl.places import Places, places
from hivectl.spawning import end_of, spawn, spawned
from protocol.approvals import (
    Approval,
    Deployment,
    DeploymentKind,
    DeploymentState,
    Proposal,
    ProposalKind,
    ProposalPage,
    ProposalState,
)
from protocol.configuration import Approve, ListDeployments, Propose, ShowProposal
from protocol.problem import Problem, Refused
from runtime.client import Client

pytestmark = pytest.mark.anyio

PROPOSAL = Proposal(
    agent="iris", number=3, kind=ProposalKind.SPAWN, state=ProposalState.OPEN, commit="a" * 40, tree="b" * 40,
    base=None, by="operator", description="", proposed_ms=1, expires_ms=2, capabilities=(),
)  # fmt: skip
RUNS = Deployment(
    agent="iris", number=3, kind=DeploymentKind.SPAWN, state=DeploymentState.CHECKING, commit="a" * 40,
    began_ms=1, since_ms=1,
)  # fmt: skip


PAGE = ProposalPage(PROPOSAL, None, (), "document", "d" * 64, "12345678")


class Privd:
    """Answers in the order of a spawn, and notes what it was asked."""

    def __init__(self, verdict: Approval | Refused, *rows: Deployment, page: ProposalPage = PAGE) -> None:
        self.page = page
        self.verdict = verdict
        self.rows = list(rows)
        self.asked: list[Any] = []

    async def call(self, request: Any, **_: Any) -> Any:
        self.asked.append(request)
        match request:
            case Propose():
                return PROPOSAL
            case ShowProposal():
                return self.page
            case Approve() if isinstance(self.verdict, Refused):
                raise self.verdict
            case Approve():
                return self.verdict
            case ListDeployments():
                return (self.rows.pop(0),)
        raise AssertionError(request)


def asked_of(privd: Privd) -> Client:
    return cast("Client", privd)


@pytest.fixture
def hive(tmp_path: Path) -> Places:
    return places(tmp_path)


async def test_it_approves_what_it_was_shown(hive: Places) -> None:
    privd = Privd(Approval(PROPOSAL, RUNS))
    assert await spawn(asked_of(privd), Propose("iris", ProposalKind.SPAWN), hive) == privd.verdict
    *_, approve = privd.asked
    assert (approve.agent, approve.number, approve.digest) == ("iris", 3, "d" * 64)


async def test_where_keys_decide_it_waits_for_one(hive: Places) -> None:
    privd = Privd(Refused(Problem.DENIED, "keys decide"))
    approval = await spawn(asked_of(privd), Propose("iris", ProposalKind.SPAWN), hive)
    assert approval == Approval(PROPOSAL, None)
    said = proposals.waits(approval.proposal)
    assert said.startswith("proposal 3 of iris waits for a key: `")
    assert "approve iris 3 --sign KEYFILE" in said


async def test_what_was_not_shown_whole_is_not_approved(hive: Places) -> None:
    privd = Privd(Approval(PROPOSAL, RUNS), page=ProposalPage(PROPOSAL, None, (), "", "", ""))
    with pytest.raises(Refused, match="it cannot be approved"):
        await spawn(asked_of(privd), Propose("iris", ProposalKind.SPAWN), hive)
    assert not any(isinstance(each, Approve) for each in privd.asked)


async def test_another_no_is_a_no(hive: Places) -> None:
    privd = Privd(Refused(Problem.CONFLICT, "the base has moved"))
    with pytest.raises(Refused, match="the base has moved"):
        await spawn(asked_of(privd), Propose("iris", ProposalKind.SPAWN), hive)


@pytest.mark.parametrize("name", ["manager", "operator", "toolonganame"])
async def test_a_name_that_may_not_be_is_not_proposed(hive: Places, name: str) -> None:
    privd = Privd(Approval(PROPOSAL, RUNS))
    with pytest.raises(Refused, match="malformed"):
        await spawn(asked_of(privd), Propose(name, ProposalKind.SPAWN), hive)
    assert privd.asked == []


async def test_it_waits_for_the_end_and_says_why_it_was_returned() -> None:
    returned = structs.replace(RUNS, state=DeploymentState.RETURNED, ended_ms=9, detail="no harness")
    assert await end_of(asked_of(Privd(Approval(PROPOSAL, RUNS), RUNS, returned)), RUNS) == returned
    with pytest.raises(Refused, match="iris was not made: no harness"):
        await spawned(asked_of(Privd(Approval(PROPOSAL, RUNS), returned)), RUNS)
