"""What the manager asks of privd goes there as it is, and privd's answer or refusal comes back; nobody else may ask."""

from typing import Any

import pytest

from protocol import managing
from protocol.approvals import ProposalKind, ProposalState
from protocol.configuration import ListProposals, Propose, WithdrawProposal
from protocol.names import MANAGER_NAME
from protocol.privd import Power, ReadJournal, RebuildCage, RestartCage, StartCage, StopCage
from protocol.problem import Problem, Refused
from tests.brokerd.hive import Hive, cage, proposal
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

COMMIT = "1" * 40
CARRIED = [
    (
        managing.RequestInitConfig("nova", "infra", "why"),
        Propose("nova", ProposalKind.INIT, template="infra", description="why"),
    ),
    (managing.RequestSpawn("nova"), Propose("nova", ProposalKind.SPAWN)),
    (
        managing.RequestApplyCommit("iris", COMMIT, "why"),
        Propose("iris", ProposalKind.CONFIG, COMMIT, description="why"),
    ),
    (managing.ListRequests(ended=True), ListProposals(ended=True, limit=20)),
    (managing.StartAgent("iris"), StartCage("iris")),
    (managing.KillAgent("iris", graceful=False), StopCage("iris", graceful=False)),
    (managing.RestartAgent("iris"), RestartCage("iris")),
    (managing.UpdateAgent("iris"), RebuildCage("iris")),
    (managing.GetLogs("iris", 3), ReadJournal("iris", bytes_max=16 * 1024)),
]


@pytest.mark.parametrize(("asked", "carried"), CARRIED, ids=lambda each: type(each).__name__)
async def test_it_is_carried_to_privd_for_the_manager_alone(hive: Hive, asked: Any, carried: Any) -> None:
    with pytest.raises(Refused, match="may not ask for") as refused:
        await hive.agent("iris").call(asked)
    assert refused.value.problem is Problem.DENIED
    assert hive.privd.asked == []
    await hive.agent(MANAGER_NAME).call(asked)
    assert hive.privd.asked == [carried]


async def test_a_refusal_of_privd_is_the_managers_to_read(hive: Hive) -> None:
    hive.privd.refuses = Refused(Problem.MALFORMED, "agent.toml: model: expected `str`, got `int`")
    with pytest.raises(Refused) as refused:
        await hive.agent(MANAGER_NAME).call(managing.RequestApplyCommit("iris", COMMIT))
    assert (refused.value.problem, refused.value.detail) == (
        Problem.MALFORMED,
        "agent.toml: model: expected `str`, got `int`",
    )


async def test_a_commit_of_a_draft_makes_the_agent(hive: Hive) -> None:
    hive.privd.change(cage("nova", Power.DRAFT))
    hive.privd.change(cage("damocles"))
    await hive.served("damocles")
    await hive.agent(MANAGER_NAME).call(managing.RequestApplyCommit("nova", COMMIT))
    assert hive.privd.asked == [Propose("nova", ProposalKind.SPAWN, COMMIT)]


@pytest.mark.parametrize("request_type", [managing.KillAgent, managing.RestartAgent, managing.UpdateAgent])
async def test_the_manager_does_not_end_its_own_turn(hive: Hive, request_type: Any) -> None:
    with pytest.raises(Refused, match="ask the operator"):
        await hive.agent(MANAGER_NAME).call(request_type(MANAGER_NAME))
    assert hive.privd.asked == []


async def test_the_last_lines_of_a_journal(hive: Hive) -> None:
    logs = await hive.agent(MANAGER_NAME).call(managing.GetLogs("iris", 3))
    assert (logs.lines, logs.before) == (("line 97", "line 98", "line 99"), 970)


async def test_what_the_manager_takes_back_it_is_not_told(hive: Hive) -> None:
    hive.privd.decide(proposal("iris", 1))
    withdrawn = await hive.agent(MANAGER_NAME).call(managing.WithdrawRequest("iris", 1))
    assert withdrawn.state is ProposalState.WITHDRAWN
    assert hive.privd.asked == [WithdrawProposal("iris", 1)]
    hive.privd.decide(proposal("iris", 2, ProposalState.DENIED, reason="a later one"))

    async def later() -> bool:
        return any("a later one" in each.body for each in await hive.messages())

    await until(later, what="the later one")
    assert len(await hive.messages()) == 1
    hive.privd.decide(proposal("iris", 3, ProposalState.WITHDRAWN))  # by the operator

    async def by_operator() -> bool:
        return any("was withdrawn" in each.body for each in await hive.messages())

    await until(by_operator, what="the withdrawal by another")
