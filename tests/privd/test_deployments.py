"""Deployments over real repositories and remembered cages: live, or what was there before; never half."""

import json
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

import pytest

from privd.cages.spec import Exit, How
from privd.git.applied import Applied
from privd.handlers import agents
from privd.handlers import deployments as handlers
from privd.handlers.history import list_refs, read_log
from privd.policy.proposals import Standing
from protocol.approvals import DeploymentKind, DeploymentState, ProposalKind, ProposalState
from protocol.configuration import (
    AnyDecision,
    BuildSaid,
    CancelDeployment,
    DecisionsNow,
    DeploymentChanged,
    ListDeployments,
    ListRefs,
    ReadBuildLog,
    ReadLog,
    RollBack,
    WatchDeployments,
)
from protocol.names import MANAGER_NAME
from protocol.privd import Power, PurgeAgent
from protocol.problem import Problem, Refused
from tests.support.configuring import MANAGER, OPERATOR, CountingBackend, Desk, desk, ground, toml, until
from tests.support.making import make

pytestmark = [pytest.mark.anyio, pytest.mark.root, pytest.mark.cage]


def model(at: Desk, agent: str = "iris") -> str:
    return at.host.keeper(agent).row().settings.model


async def log_of(at: Desk, agent: str, number: int) -> str:
    page = await handlers.read_log(ReadBuildLog(agent, number), OPERATOR, at.host)
    return "\n".join(line.text for line in page.lines)


async def test_a_spawn_makes_a_cage_and_a_repository_to_work_in() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned(MANAGER_NAME)
            ended = await at.spawned("iris")
            assert (ended.state, ended.kind) == (DeploymentState.DEPLOYED, DeploymentKind.SPAWN)
            assert at.host.keeper("iris").power is Power.RUNNING
            config = at.config("iris")
            assert config.uid == at.host.keeper(MANAGER_NAME).row().agent_uid
            assert config.git("status", "--porcelain") == ""
            assert "user.name=hm1nd" in config.git("config", "--list", "--local")
            log = await log_of(at, "iris", 1)
            assert log.splitlines()[-1] == "deployed: generation 1"


async def test_a_configuration_goes_live_and_back_again() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            first = at.host.repositories.applied("iris").main()
            commit = at.commit("iris", toml(at.host, "iris", model="opus"))
            ended = await at.healthy(await at.approve(await at.propose("iris", commit=commit)))
            assert (ended.state, model(at)) == (DeploymentState.DEPLOYED, "opus")
            assert at.backend.cages[-2].stops == [30], "the turn may end first"
            rendered = cast("bytes", at.backend.cages[-1].settings_json)  # type: ignore[attr-defined]  # only the made-up cage has it
            assert json.loads(rendered)["model"] == "opus"
            assert ended.commit == at.host.repositories.applied("iris").main() != first
            back = await at.healthy(await handlers.roll_back(RollBack("iris", 1), OPERATOR, at.host))
            assert (back.kind, back.of, back.number, model(at)) == (DeploymentKind.ROLLBACK, 1, 3, "haiku")
            rows = await handlers.list_deployments(ListDeployments("iris"), OPERATOR, at.host)
            assert [row.number for row in rows] == [3, 2, 1]
            with pytest.raises(Refused, match="no generation 9"):
                await handlers.roll_back(RollBack("iris", 9), OPERATOR, at.host)


async def test_a_cage_that_is_not_well_is_returned_from() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            main = at.host.repositories.applied("iris").main()
            commit = at.commit("iris", toml(at.host, "iris", model="opus"))
            proposal = await at.propose("iris", commit=commit)
            ended = await at.healthy(await at.approve(proposal), "the self-test failed: no such model")
            assert (ended.state, ended.detail) == (
                DeploymentState.RETURNED,
                "the self-test failed: no such model",
            )
            assert (model(at), at.host.keeper("iris").power) == ("haiku", Power.RUNNING)
            assert at.host.repositories.applied("iris").main() == main
            row = at.host.proposals.find("iris", 2)
            assert (row.state, row.reason) == (ProposalState.FAILED, ended.detail)
            assert "returned: the self-test failed" in await log_of(at, "iris", 2)


async def test_a_cage_that_says_nothing_is_returned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    with ground() as place:
        async with desk(place) as at:
            monkeypatch.setattr("privd.deploying.HEALTH_GATE_S", 0.2)
            ended = await at.ended(await at.approve(await at.propose("iris", ProposalKind.SPAWN)))
            assert ended.state is DeploymentState.RETURNED
            assert "did not say within" in ended.detail
            assert at.host.standing("iris") is Standing.NOBODY
            assert not (place / "agents" / "iris").exists()
            monkeypatch.undo()
            again = await at.spawned("iris")
            assert (again.state, again.number) == (DeploymentState.DEPLOYED, 2)


async def test_a_cage_that_ends_by_itself_is_returned_from_at_once() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            commit = at.commit("iris", toml(at.host, "iris", model="opus"))
            begun = await at.approve(await at.propose("iris", commit=commit))
            await until(lambda: len(at.backend.cages) == 2)
            at.backend.cages[-1].end(Exit(How.EXIT, 3))
            ended = await at.ended(begun)
            assert (ended.state, model(at)) == (DeploymentState.RETURNED, "haiku")
            assert "exit code 3" in ended.detail
            assert at.host.keeper("iris").power is Power.RUNNING


async def test_a_cage_that_does_not_start_is_returned_from() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            commit = at.commit("iris", toml(at.host, "iris", model="opus"))
            proposal = await at.propose("iris", commit=commit)
            at.backend.fails = 1
            ended = await at.ended(await at.approve(proposal))
            assert (ended.state, ended.detail) == (DeploymentState.RETURNED, "no such luck")
            assert (model(at), at.host.keeper("iris").power) == ("haiku", Power.RUNNING)


async def test_a_health_of_another_start_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privd.deploying.HEALTH_GATE_S", 0.3)
    with ground() as place:
        async with desk(place) as at:
            at.host.deployments.confirm_health("iris", 1, "")
            ended = await at.ended(await at.approve(await at.propose("iris", ProposalKind.SPAWN)))
            assert ended.state is DeploymentState.RETURNED


async def test_a_stopped_agent_stays_stopped() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            await at.host.keeper("iris").stop(1)
            commit = at.commit("iris", toml(at.host, "iris", model="opus"))
            ended = await at.ended(await at.approve(await at.propose("iris", commit=commit)))
            assert (ended.state, model(at)) == (DeploymentState.DEPLOYED, "opus")
            assert at.host.keeper("iris").power is Power.STOPPED


async def test_two_steps_from_a_draft_to_a_cage() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned(MANAGER_NAME)
            made = await at.ended(
                await at.approve(await at.propose("otto", ProposalKind.INIT, template="reviewer"))
            )
            assert (made.kind, made.state) == (DeploymentKind.INIT, DeploymentState.DEPLOYED)
            row = at.host.keeper("otto").row()
            assert (row.power, row.started_ms) == (Power.DRAFT, None)
            with pytest.raises(Refused, match="otto is a draft"):
                await at.host.keeper("otto").start()
            assert "🔴" in (at.config("otto").folder / "role.md").read_text()
            commit = at.commit("otto", "role_prompt = 'role.md'\npronouns = 'they'\n")
            spawned = await at.healthy(await at.approve(await at.propose("otto", ProposalKind.SPAWN, commit)))
            assert (spawned.state, spawned.number) == (DeploymentState.DEPLOYED, 2)
            found = at.host.keeper("otto").row()
            assert (found.power, found.settings.pronouns) == (Power.RUNNING, "they")
        async with desk(place) as at:
            assert at.host.standing("otto") is Standing.LIVING


async def test_a_spawn_that_fails_leaves_the_draft() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.ended(await at.approve(await at.propose("otto", ProposalKind.INIT)))
            commit = at.commit("otto", "model = 'opus'\n")
            proposal = await at.propose("otto", ProposalKind.SPAWN, commit)
            ended = await at.healthy(await at.approve(proposal), "no")
            assert ended.state is DeploymentState.RETURNED
            assert at.host.keeper("otto").power is Power.DRAFT
            assert model(at, "otto") == "haiku"
            assert (at.config("otto").folder / ".git").is_dir()


async def test_one_that_was_destroyed_comes_back_to_what_it_had() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            commit = at.commit("iris", toml(at.host, "iris", model="opus"))
            await at.healthy(await at.approve(await at.propose("iris", commit=commit)))
            await at.host.destroy("iris")
            failed = await at.healthy(await at.approve(await at.propose("iris", ProposalKind.SPAWN)), "no")
            assert failed.state is DeploymentState.RETURNED
            assert at.host.keeper("iris").power is Power.KEPT
            again = await at.spawned("iris")
            assert (again.state, model(at)) == (DeploymentState.DEPLOYED, "opus")


async def test_one_at_a_time_and_cancelled_before_anything_is_switched() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            commit = at.commit("iris", toml(at.host, "iris", model="opus"))
            proposal = await at.propose("iris", commit=commit)
            other = await at.propose("iris", commit=at.commit("iris", "model = 'sonnet'\n"))
            while at.host.deployments._places.value:
                at.host.deployments._places.acquire_nowait()
            page = await at.show(other)
            begun = await at.approve(proposal)
            assert begun.state is DeploymentState.WAITING
            with pytest.raises(Refused, match="wait for its end"):
                await at.approve(other, page)
            with pytest.raises(Refused, match="wait for its end"):
                await handlers.roll_back(RollBack("iris", 1), OPERATOR, at.host)
            cancelling = await handlers.cancel(CancelDeployment("iris", begun.number), OPERATOR, at.host)
            assert cancelling.number == begun.number
            at.host.deployments._places.release()
            ended = await at.ended(begun)
            assert (ended.state, ended.detail) == (DeploymentState.CANCELLED, "cancelled by the operator")
            assert (model(at), len(at.backend.cages)) == ("haiku", 1)
            with pytest.raises(Refused) as refused:
                await handlers.cancel(CancelDeployment("iris", begun.number), OPERATOR, at.host)
            assert refused.value.problem is Problem.CONFLICT


async def test_whoever_watches_hears_every_step() -> None:
    with ground() as place:
        async with desk(place) as at:
            async with (
                handlers.watch(WatchDeployments(), MANAGER, at.host) as watched,
                aclosing(cast("AsyncGenerator[AnyDecision, None]", watched)) as events,
            ):
                first = await anext(events)
                assert isinstance(first, DecisionsNow)
                assert first == DecisionsNow((), (), click=True)
                begun = await at.approve(await at.propose("iris", ProposalKind.SPAWN))
                await at.healthy(begun)
                states: list[DeploymentState] = []
                lines: list[str] = []
                while not states or states[-1] is not DeploymentState.DEPLOYED:
                    event = await anext(events)
                    if isinstance(event, DeploymentChanged):
                        states.append(event.deployment.state)
                    if isinstance(event, BuildSaid):
                        lines += [line.text for line in event.lines]
            assert [state for at, state in enumerate(states) if state not in states[:at]] == [
                DeploymentState.WAITING,
                DeploymentState.BUILDING,
                DeploymentState.SWITCHING,
                DeploymentState.CHECKING,
                DeploymentState.DEPLOYED,
            ]
            assert "\n".join(lines) == await log_of(at, "iris", 1)


async def test_an_agent_of_before_gets_its_first_generation() -> None:
    """One that an older hyperhive made without a proposal."""
    with ground() as place:
        async with desk(place) as at:
            await make(at.host, "old")
            await make(at.host, "iris")
        async with desk(place) as at:
            for agent in ("iris", "old"):
                assert list(at.host.ledger(agent).record().deployments) == [1]
                assert at.config(agent).git("status", "--porcelain") == ""
                commit = at.commit(agent, toml(at.host, agent, icon="☕"))
                ended = await at.healthy(await at.approve(await at.propose(agent, commit=commit)))
                assert (ended.state, ended.number) == (DeploymentState.DEPLOYED, 2)


async def test_repositories_of_an_older_hive_are_taken_along() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            commit = at.commit("iris", toml(at.host, "iris", icon="☕"))
        (place / "proposed" / "agents" / "iris" / "config").rename(place / "agents" / "iris" / "config")
        shutil.rmtree(place / "proposed")
        async with desk(place) as at:
            assert not (place / "agents" / "iris" / "config").exists()
            ended = await at.healthy(await at.approve(await at.propose("iris", commit=commit)))
            assert ended.state is DeploymentState.DEPLOYED
            assert at.config("iris").git("status", "--porcelain") == ""


async def test_numbers_go_on_over_a_purge() -> None:
    """The record outlives the agent: nothing that was decided is decided again under the same number."""
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            first = at.host.repositories.applied("iris").main()
            waiting = await at.propose("iris", commit=at.commit("iris", toml(at.host, "iris", icon="☕")))
            await at.host.destroy("iris")
            await agents.purge(PurgeAgent("iris", "iris"), OPERATOR, at.host)
            found = at.host.proposals.find("iris", waiting.number)
            assert (found.state, found.reason) == (ProposalState.WITHDRAWN, "iris was purged")
            with pytest.raises(Refused, match="there is no agent iris"):
                at.host.keeper("iris")
        async with desk(place) as at:
            again = await at.spawned("iris")
            assert (again.number, again.state) == (3, DeploymentState.DEPLOYED)
            main = at.host.repositories.applied("iris").main()
            log = await read_log(ReadLog("iris"), OPERATOR, at.host)
            assert [entry.commit for entry in log] == [main], "what is new has no past"
            refs = {ref.name: ref.commit for ref in await list_refs(ListRefs("iris"), OPERATOR, at.host)}
            assert refs == {
                "main": main,
                "deployed/3": main,
                "denied/2": waiting.commit,
                "deployed/1": first,
            }
            assert "☕" not in (at.config("iris").folder / "agent.toml").read_text()


async def test_nobody_is_purged_while_it_is_deployed() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            await at.host.destroy("iris")
            back = await at.approve(await at.propose("iris", ProposalKind.SPAWN))
            with pytest.raises(Refused, match=f"deployment {back.number} of iris is waiting"):
                await agents.purge(PurgeAgent("iris", "iris"), OPERATOR, at.host)
            assert (await at.healthy(back)).state is DeploymentState.DEPLOYED


async def test_a_full_disk_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privd.deploying.RETRY_S", 0.05)
    backend = CountingBackend()
    with ground() as place:
        async with desk(place, backend) as at:
            proposal = await at.propose("iris", ProposalKind.SPAWN)
            ledger = at.host.ledger("iris")
            work, times = ledger.work, 0

            async def full(act: Callable[[Applied], object]) -> object:
                nonlocal times
                if "Repositories.read" not in act.__qualname__:
                    times += 1
                    if 2 <= times < 6:
                        raise Refused(Problem.STORAGE_FULL, "the disk is full: nothing was taken in")
                return await work(act)

            page = await at.show(proposal)
            monkeypatch.setattr(ledger, "work", full)
            ended = await at.healthy(await at.approve(proposal, page))
            assert (ended.state, times > 6) == (DeploymentState.DEPLOYED, True)
