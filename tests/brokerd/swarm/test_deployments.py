"""Following privd's decisions: each end is told to whom it concerns, once, whoever dies in between; health, too."""

from functools import partial

import pytest
import trio
from msgspec.structs import replace

from brokerd.store import decisions
from protocol.agent import ProveHealth, ReportHealth, WatchCommands
from protocol.approvals import Deployment, DeploymentKind, DeploymentState, ProposalKind, ProposalState
from protocol.messages import Message, SystemEvent
from protocol.names import MANAGER_NAME
from protocol.privd import CageRebuilt, Power
from protocol.problem import Problem, Refused
from tests.brokerd.hive import Hive, cage, proposal
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ENDED = [
    (ProposalState.DENIED, SystemEvent.DENIED, {MANAGER_NAME}),
    (ProposalState.EXPIRED, SystemEvent.EXPIRED, {MANAGER_NAME}),
    (ProposalState.WITHDRAWN, SystemEvent.DENIED, {MANAGER_NAME}),
    (ProposalState.APPROVED, SystemEvent.APPROVED, {MANAGER_NAME}),
    (ProposalState.DEPLOYED, SystemEvent.DEPLOYED, {MANAGER_NAME, "iris"}),
    (ProposalState.FAILED, SystemEvent.DEPLOY_FAILED, {MANAGER_NAME, "iris"}),
]


def rollback(state: DeploymentState, kind: DeploymentKind = DeploymentKind.ROLLBACK) -> Deployment:
    return Deployment("iris", 5, kind, state, "c" * 40, began_ms=5, since_ms=6, of=2, detail="no luck")


async def told(hive: Hive) -> list[Message]:
    return [each for each in await hive.messages() if each.sender == "system"]


async def await_told(hive: Hive, count: int) -> list[Message]:
    async def enough() -> list[Message] | None:
        found = await told(hive)
        return found if len(found) >= count else None

    return await until(enough, what=f"{count} messages of the hive")


async def settled(hive: Hive) -> None:
    """Everything that was said before is done: what is said now has been told."""
    hive.privd.decide(proposal("atlas", 99, ProposalState.DENIED, reason="the last one"))
    await until(lambda: _has(hive, "the last one"), what="the last of them")


async def _has(hive: Hive, words: str) -> bool:
    return any(words in each.body for each in await told(hive))


async def test_every_end_is_told_to_whom_it_concerns(hive: Hive) -> None:
    for number, (state, event, who) in enumerate(ENDED, 1):
        before = len(await told(hive))
        hive.privd.decide(proposal("iris", number, reason="too much egress"))
        hive.privd.decide(proposal("iris", number, state, reason="too much egress"))
        found = (await await_told(hive, before + len(who)))[before:]
        assert {each.to for each in found} == who
        assert {each.event for each in found} == {event}
        assert all(f"{event}: " in each.body for each in found)
        if state is ProposalState.DENIED:
            assert "The operator's reason:\ntoo much egress" in found[0].body
            assert (await hive.taken(MANAGER_NAME)).message.id == found[0].id


async def test_what_the_operator_asked_for_is_told_to_the_agent_alone(hive: Hive) -> None:
    hive.privd.decide(proposal("iris", 1, ProposalState.DENIED, by="operator"))
    hive.privd.decide(proposal("nova", 1, ProposalState.DEPLOYED, by="operator", kind=ProposalKind.SPAWN))
    hive.privd.decide(proposal("iris", 2, ProposalState.DEPLOYED, by="operator"))
    await settled(hive)
    assert [(each.to, each.event) for each in await told(hive)][:-1] == [("iris", SystemEvent.DEPLOYED)]


async def test_a_rollback_is_told_to_both_and_other_deployments_by_their_proposals(hive: Hive) -> None:
    hive.privd.deploy(rollback(DeploymentState.DEPLOYED, DeploymentKind.CONFIG))
    hive.privd.deploy(rollback(DeploymentState.BUILDING))
    hive.privd.deploy(rollback(DeploymentState.DEPLOYED))
    hive.privd.deploy(replace(rollback(DeploymentState.RETURNED), number=6))
    hive.privd.deploy(replace(rollback(DeploymentState.CANCELLED), number=7))
    await settled(hive)
    found = [(each.to, each.event) for each in await told(hive)][:-1]
    assert sorted(found) == sorted(
        (who, event)
        for event in (SystemEvent.DEPLOYED, SystemEvent.DEPLOY_FAILED)
        for who in (MANAGER_NAME, "iris")
    )


async def test_the_manager_is_told_once_of_its_own_configuration(hive: Hive) -> None:
    hive.privd.decide(proposal(MANAGER_NAME, 1, ProposalState.DEPLOYED))
    await settled(hive)
    assert len(await told(hive)) == 2


async def test_what_happens_while_nobody_follows_is_told_once(unserved: Hive) -> None:
    """Brokerd ends and comes back, and so does the watch: each end is one message for each."""
    async with unserved.broker():
        unserved.privd.decide(proposal("iris", 1, ProposalState.DENIED, reason="first"))
        await until(lambda: _has(unserved, "first"), what="the first")
    unserved.privd.decide(proposal("iris", 2, ProposalState.DENIED, reason="second"))
    unserved.privd.deploy(rollback(DeploymentState.DEPLOYED))
    for _ in range(2):
        async with unserved.broker():
            await until(lambda: _has(unserved, "second"), what="the second")
            await until(lambda: _has(unserved, "rolled iris back"), what="the rollback")
            await settled(unserved)
            unserved.privd.decide(proposal("iris", 1, ProposalState.DENIED, reason="first"))
            assert len(await told(unserved)) == 5


async def test_what_ended_before_brokerd_ever_followed_is_no_news(unserved: Hive) -> None:
    unserved.privd.decide(proposal("iris", 1, ProposalState.DENIED, reason="long ago"))
    async with unserved.broker():
        await settled(unserved)
        assert len(await told(unserved)) == 1


async def test_a_full_inbox_is_told_when_there_is_room(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = decisions.tell
    calls = iter(range(100))

    def once_full(*args: object) -> None:
        if next(calls) == 0:
            raise Refused(Problem.LIMIT, "no room")
        stored(*args)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(decisions, "tell", once_full)
    hive.privd.decide(proposal("iris", 1, ProposalState.DENIED, reason="late"))
    await until(lambda: _has(hive, "late"), what="the second try")
    await settled(hive)
    assert len(await told(hive)) == 2


async def test_a_purged_namesake_has_ends_of_its_own(hive: Hive) -> None:
    hive.privd.decide(proposal("iris", 1, ProposalState.DENIED, reason="one"))
    hive.privd.decide(replace(proposal("iris", 1, ProposalState.DENIED, reason="two"), proposed_ms=77))
    await until(lambda: _has(hive, "two"), what="the second")
    assert len(await told(hive)) == 2


def checking(state: DeploymentState = DeploymentState.CHECKING) -> Deployment:
    return rollback(state, DeploymentKind.CONFIG)


async def test_a_harness_is_asked_when_its_cage_is_checked_and_its_answer_reaches_privd(hive: Hive) -> None:
    hive.privd.deaf = 2
    hive.privd.change(replace(cage("iris"), started_ms=40))
    async with hive.agent("iris").watch(WatchCommands()) as commands:
        hive.privd.deploy(checking())
        asked = await anext(commands)
        assert asked == ProveHealth(40)
        await hive.agent("iris").call(ReportHealth(40, "cannot write"))
        await until(lambda: bool(hive.privd.confirmed), what="privd to be told")
        [found] = hive.privd.confirmed
        assert (found.agent, found.started_ms, found.fault) == ("iris", 40, "cannot write")
        hive.privd.change(replace(cage("iris"), started_ms=50))
        assert await anext(commands) == ProveHealth(50)


async def test_a_harness_that_comes_late_is_asked_and_one_that_nobody_checks_is_not(hive: Hive) -> None:
    hive.privd.change(replace(cage("iris"), started_ms=40))
    hive.privd.change(replace(cage("atlas"), started_ms=41))
    hive.privd.deploy(checking())
    async with hive.agent("atlas").watch(WatchCommands()) as idle:
        async with hive.agent("iris").watch(WatchCommands()) as commands:
            assert await anext(commands) == ProveHealth(40)
            hive.privd.deploy(checking(DeploymentState.DEPLOYED))
            await settled(hive)
            hive.privd.change(replace(cage("iris"), started_ms=60))
            hive.privd.change(cage("damocles"))
            await hive.served("damocles")
            with trio.move_on_after(0):
                pytest.fail(f"asked again: {await anext(commands)}")
            with trio.move_on_after(0):
                pytest.fail(f"asked: {await anext(idle)}")


def has_confirmed(hive: Hive, count: int) -> bool:
    return len(hive.privd.confirmed) == count


async def test_a_harness_is_asked_after_a_rebuild_until_it_has_answered(hive: Hive) -> None:
    """Privd rebuilds no other cage by itself before it knows how this one is."""
    hive.privd.change(replace(cage("iris"), started_ms=40, rebuilt_ms=39))
    hive.privd.events.publish(CageRebuilt("iris", 39))
    async with hive.agent("iris").watch(WatchCommands()) as commands:
        assert await anext(commands) == ProveHealth(40)
        hive.privd.change(replace(cage("iris"), started_ms=50, rebuilt_ms=39))
        assert await anext(commands) == ProveHealth(50)
        for count, started_ms in enumerate((40, 50), 1):
            await hive.agent("iris").call(ReportHealth(started_ms))
            await until(partial(has_confirmed, hive, count), what="privd to be told")
        assert [(each.started_ms, each.fault) for each in hive.privd.confirmed] == [(40, ""), (50, "")]
        hive.privd.change(replace(cage("iris"), started_ms=60, rebuilt_ms=39))
        hive.privd.change(cage("damocles"))
        await hive.served("damocles")
        with trio.move_on_after(0):
            pytest.fail(f"asked again: {await anext(commands)}")


async def test_a_draft_has_no_socket_and_is_no_agent(hive: Hive) -> None:
    hive.privd.change(cage("nova", Power.DRAFT))
    hive.privd.change(cage("damocles"))
    await hive.served("damocles")
    assert "nova" not in {now.agent.name for now in (await hive.snapshot()).agents}
    assert not hive.settings.agent_socket("nova").exists()
