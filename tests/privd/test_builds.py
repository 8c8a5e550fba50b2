"""What a deployment builds before it switches anything: its lines in the log, its failure before a cage is touched."""

import json

import pytest
import trio

from privd.handlers import deployments as handlers
from protocol.approvals import DeploymentState, ProposalKind
from protocol.configuration import CancelDeployment, ReadBuildLog, RollBack
from protocol.limits import ROLE_PROMPT_CHARS_MAX
from protocol.privd import Power
from protocol.problem import Refused
from tests.support.configuring import OPERATOR, CountingBackend, Desk, desk, ground, toml, until

pytestmark = [pytest.mark.anyio, pytest.mark.root, pytest.mark.cage]


async def lines(at: Desk, number: int) -> list[str]:
    page = await handlers.read_log(ReadBuildLog("iris", number), OPERATOR, at.host)
    return [line.text for line in page.lines]


async def test_what_was_approved_is_built_and_then_aimed_at() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            first = at.backend.aimed["iris"]
            commit = at.commit("iris", toml(at.host, "iris", model="opus"))
            ended = await at.healthy(await at.approve(await at.propose("iris", ProposalKind.CONFIG, commit)))
            assert ended.state is DeploymentState.DEPLOYED
            said = await lines(at, ended.number)
            assert said.index("building 1 files") < said.index("switching: the running turn may end first")
            assert b'"opus"' in at.backend.aimed["iris"]["agent.toml"].data
            assert at.backend.aimed["iris"] != first


async def test_a_build_that_fails_touches_nothing() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            aimed, cage = at.backend.aimed["iris"], at.backend.cages[-1]
            at.backend.build_fails = "error: undefined variable 'pkg'"
            commit = at.commit("iris", toml(at.host, "iris", model="opus"))
            ended = await at.ended(await at.approve(await at.propose("iris", ProposalKind.CONFIG, commit)))
            assert (ended.state, ended.detail) == (DeploymentState.RETURNED, at.backend.build_fails)
            assert (cage.stops, len(at.backend.cages)) == ([], 1)
            assert at.backend.aimed["iris"] == aimed
            assert at.host.keeper("iris").power is Power.RUNNING


async def test_what_was_approved_over_other_sources_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own may be another one by the time it is looked at, approved, or built."""
    backend = CountingBackend(name="nixos")
    with ground() as place:
        async with desk(place, backend) as at:
            await at.spawned("iris")
            aimed = backend.aimed["iris"]
            commit = at.commit("iris", toml(at.host, "iris", model="opus"))
            proposal = await at.propose("iris", ProposalKind.CONFIG, commit)
            page = await at.show(proposal)
            backend.system = "another"
            with pytest.raises(Refused, match="what systems are built from has changed since it was shown"):
                await at.approve(proposal, page)
            deployment = await at.approve(proposal)
            backend.system = "a third"
            ended = await at.ended(deployment)
            assert ended.state is DeploymentState.RETURNED
            assert "has changed since this was approved" in ended.detail
            assert backend.aimed["iris"] == aimed
            rolled = await at.healthy(await at.ask(RollBack("iris", 1)))
            assert rolled.state is DeploymentState.DEPLOYED


async def test_settings_that_are_too_large_to_be_told_are_not_deployed() -> None:
    environment = {f"V{number}": "x" * 1_024 for number in range(50)}
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            aimed = at.backend.aimed["iris"]
            at.commit("iris", "\N{HONEYBEE}" * ROLE_PROMPT_CHARS_MAX, "role.md")
            text = "role_prompt = 'role.md'\n" + toml(at.host, "iris", environment=environment)
            ended = await at.ended(await at.approve(await at.propose("iris", commit=at.commit("iris", text))))
            assert ended.state is DeploymentState.RETURNED
            assert ended.detail.startswith("the settings of iris have 100")
            assert at.backend.aimed["iris"] == aimed


async def test_settings_that_are_too_large_with_those_of_all_others_are_not_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            await at.spawned("nova")
            aimed = at.backend.aimed["iris"]
            commit = at.commit("iris", toml(at.host, "iris", model="opus"))
            proposal = await at.propose("iris", commit=commit)
            monkeypatch.setattr("privd.policy.agents.ALL_SETTINGS_BYTES_MAX", 500)
            ended = await at.ended(await at.approve(proposal))
            assert ended.state is DeploymentState.RETURNED
            assert "with this the settings of all agents have" in ended.detail
            assert at.backend.aimed["iris"] == aimed


async def test_what_does_not_come_up_is_aimed_back() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            aimed = at.backend.aimed["iris"]
            commit = at.commit("iris", toml(at.host, "iris", model="opus"))
            proposal = await at.propose("iris", ProposalKind.CONFIG, commit)
            at.backend.fails = 1
            ended = await at.ended(await at.approve(proposal))
            assert ended.state is DeploymentState.RETURNED
            assert at.backend.aimed["iris"] == aimed


async def test_a_build_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            began, given_up = trio.Event(), trio.Event()

            async def slow(*_: object) -> None:
                began.set()
                try:
                    await trio.sleep_forever()
                finally:
                    given_up.set()

            monkeypatch.setattr(at.backend, "build", slow)
            commit = at.commit("iris", toml(at.host, "iris", model="opus"))
            begun = await at.approve(await at.propose("iris", ProposalKind.CONFIG, commit))
            await began.wait()
            await handlers.cancel(CancelDeployment("iris", begun.number), OPERATOR, at.host)
            ended = await at.ended(begun)
            assert (ended.state, given_up.is_set()) == (DeploymentState.CANCELLED, True)
            await until(lambda: at.host.deployments.is_idle("iris"))
            assert (at.backend.cages[0].stops, len(at.backend.cages)) == ([], 1)


async def test_on_nixos_an_agent_has_a_file_for_its_system() -> None:
    """It comes with the template, is built with the rest, and what it names is shown to whoever decides."""
    with ground() as place:
        async with desk(place, CountingBackend(name="nixos")) as at:
            await at.spawned("iris")
            assert set(at.backend.aimed["iris"]) == {"agent.nix", "agent.toml"}
            text = "{ pkgs, ... }: { services.redis.enable = true; hyperhive.packages = [ pkgs.jq ]; }\n"
            commit = at.commit("iris", text, "agent.nix")
            proposal = await at.propose("iris", ProposalKind.CONFIG, commit)
            subjects = {each.subject: each.notable for each in proposal.capabilities}
            assert subjects == {"agent.nix": True, "package jq": False, "system option services.redis": True}
            shown = await at.show(proposal)
            assert shown.proposal.capabilities == proposal.capabilities
            assert json.loads(shown.document)["systems"] == {"nixpkgs": "made up"}, (
                "what it is built from is approved, too"
            )
            await at.healthy(await at.approve(proposal, shown))
            assert at.backend.aimed["iris"]["agent.nix"].data == text.encode()


async def test_elsewhere_such_a_file_is_left_out_and_said() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            commit = at.commit("iris", "{ }\n", "agent.nix")
            proposal = await at.propose("iris", ProposalKind.CONFIG, commit)
            (only,) = proposal.capabilities
            assert (only.subject, only.notable) == ("left out", True)
            assert "systems" not in json.loads((await at.show(proposal)).document)
