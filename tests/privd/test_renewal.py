"""Stale cages: told, rebuilt by themselves, one at a time, and never against whoever stopped one."""

from pathlib import Path

import pytest
import trio
import trio.testing

from privd.cages import bases
from privd.cages.spec import Exit, How, Places
from privd.handlers import cages as handlers
from privd.policy.record import Deployed, Mark
from privd.renewal import Renewal
from protocol.approvals import ProposalKind
from protocol.names import MANAGER_NAME
from protocol.privd import CageChanged, CageRebuilt, Power, RebuildCage
from protocol.problem import Refused
from runtime.log import logger
from tests.support.configuring import OPERATOR, CountingBackend, Desk, desk, ground, toml, until
from tests.support.fake_cages import FakeCage

pytestmark = [pytest.mark.anyio, pytest.mark.root, pytest.mark.cage]

GRACE_S = 9


class Outliving(CountingBackend):
    """Cages that run on when privd goes."""

    async def adopt(self, places: Places) -> FakeCage | None:
        await trio.lowlevel.checkpoint()
        return self.cages[-1] if self.cages else None


def renewal(at: Desk, *, rebuilds: bool = True) -> Renewal:
    return Renewal(at.host, at.host.deployments, GRACE_S, logger("test"), rebuilds=rebuilds)


def stale(at: Desk) -> dict[str, str]:
    return {row.agent: row.stale for row in at.host.rows()}


async def tell_health(at: Desk, fault: str = "") -> None:
    """The broker's word about every cage as it comes up."""
    while True:
        await trio.sleep(0.01)
        for row in at.host.rows():
            if row.started_ms is not None:
                at.host.deployments.confirm_health(row.agent, row.started_ms, fault)


async def look(at: Desk, fault: str = "", *, rebuilds: bool = True) -> list[str]:
    """Whom one look rebuilds, in order."""
    rebuilt: list[str] = []
    with at.host.changes.subscribed() as changes:

        async def note() -> None:
            async for change in changes:
                match change:
                    case CageRebuilt(agent):
                        rebuilt.append(agent)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note)
            nursery.start_soon(tell_health, at, fault)
            await renewal(at, rebuilds=rebuilds).look()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    return rebuilt


async def test_an_upgrade_of_the_system_is_told_and_rebuilt_the_manager_first() -> None:
    with ground() as place:
        async with desk(place) as at:
            for agent in ("ada", MANAGER_NAME, "iris"):
                await at.spawned(agent)
            assert set(stale(at).values()) == {""}
            assert [row.generation for row in at.host.rows()] == [1, 1, 1]
            at.backend.system = "upgraded"
            before = len(at.backend.cages)
            assert await look(at) == [MANAGER_NAME, "ada", "iris"]
            assert set(stale(at).values()) == {""}
            assert [row.generation for row in at.host.rows()] == [1, 1, 1], "nothing new was deployed"
            assert len(at.backend.cages) == before + 3
            assert await look(at) == []


async def test_without_the_setting_it_is_only_told() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            at.backend.system = "upgraded"
            with at.host.changes.subscribed() as changes:
                assert await look(at, rebuilds=False) == []
                change = await anext(aiter(changes))
            assert isinstance(change, CageChanged)
            assert change.cage.stale == "host was made up, is upgraded"
            assert len(at.backend.cages) == 1
            await at.host.keeper("iris").rebuild(GRACE_S)
            assert stale(at) == {"iris": ""}


async def test_a_cage_that_was_stopped_stays_stopped() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("ada")
            await at.spawned("iris")
            await at.host.keeper("ada").stop(0)
            at.backend.system = "upgraded"
            assert await look(at) == ["iris"]
            assert at.host.keeper("ada").power is Power.STOPPED
            assert stale(at)["ada"] == "", "it comes up with what there is then"


async def test_a_stop_that_comes_first_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewal has decided to rebuild it and waits for its turn while the operator's stop is at work."""
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            at.backend.system = "upgraded"
            at.host.look_at_base()
            keeper, cage, turn_ends = at.host.keeper("iris"), at.backend.cages[-1], trio.Event()
            stop, renewed = cage.stop, list[bool]()

            async def stop_slowly(grace_s: float) -> Exit:
                await turn_ends.wait()
                return await stop(grace_s)

            async def renew() -> None:
                renewed.append(await keeper.renew(GRACE_S))

            monkeypatch.setattr(cage, "stop", stop_slowly)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keeper.stop, GRACE_S)
                await until(lambda: keeper.power is Power.STOPPING)
                nursery.start_soon(renew)
                await trio.testing.wait_all_tasks_blocked()
                turn_ends.set()
            assert renewed == [False]
            assert (keeper.power, keeper.record.wanted) == (Power.STOPPED, False)


async def test_a_rebuild_that_is_not_well_holds_the_others_up_until_it_is() -> None:
    with ground() as place:
        async with desk(place) as at:
            for agent in (MANAGER_NAME, "ada", "iris"):
                await at.spawned(agent)
            at.backend.system = "upgraded"
            at.backend.fails = 1
            round_ = renewal(at)
            await round_.look()
            await round_.look()
            assert at.host.keeper(MANAGER_NAME).power is Power.FAILED
            assert (stale(at)["ada"], stale(at)["iris"]) != ("", "")
            assert len(at.backend.cages) == 3
            await at.host.keeper(MANAGER_NAME).start()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tell_health, at)
                await until(lambda: at.host.deployments.is_well(at.host.keeper(MANAGER_NAME).row()))
                await round_.look()
                nursery.cancel_scope.cancel()
            assert set(stale(at).values()) == {""}


async def test_a_harness_that_is_not_well_holds_the_others_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privd.renewal.HEALTH_GATE_S", 0.2)
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("ada")
            await at.spawned("iris")
            at.backend.system = "upgraded"
            assert await look(at, "the self-test failed") == ["ada"]
            assert stale(at)["iris"]


async def test_what_is_being_deployed_is_left_to_its_deployment() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            commit = at.commit("iris", toml(at.host, "iris", model="opus"))
            begun = await at.approve(await at.propose("iris", ProposalKind.CONFIG, commit))
            at.backend.system = "upgraded"
            await renewal(at).look()
            ended = await at.healthy(begun)
            assert ended.ended_ms is not None
            assert len(at.backend.cages) == 2


async def test_a_generation_says_what_it_was_made_from() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            document = at.host.ledger("iris").tags[Mark.DEPLOYED, 1]
            assert isinstance(document, Deployed)
            assert document.base == {"hyperhive": "/opt/hive/env", "host": "made up"}


async def test_a_cage_that_ends_meanwhile_is_no_cage_to_rebuild() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            at.backend.system = "upgraded"
            at.backend.cages[-1].end(Exit(How.EXIT, 3))
            await until(lambda: at.host.keeper("iris").power is Power.CRASHED)
            assert await look(at) == []


async def test_a_privd_that_comes_back_to_a_new_hyperhive_finds_its_cages_stale() -> None:
    backend = Outliving()
    with ground() as place:
        async with desk(place, backend) as at:
            await at.spawned("iris")
        async with desk(place, backend, environment="/opt/hive/newer") as at:
            assert stale(at) == {"iris": "hyperhive was /opt/hive/env, is /opt/hive/newer"}
            assert await look(at) == ["iris"]
            assert stale(at) == {"iris": ""}


def test_programs_are_named_after_what_is_in_them(tmp_path: Path) -> None:
    """An environment's folder has its name from its content; a folder with a pin says it there."""
    (tmp_path / "209e36").mkdir()
    (tmp_path / "env").symlink_to("209e36")
    (tmp_path / "claude").mkdir()
    (tmp_path / "claude" / ".pinned").write_text("0123456789abcdef\n")
    found = bases.of_host({"hyperhive": str(tmp_path / "env"), "claude": str(tmp_path / "claude")})
    assert (found["hyperhive"], found["claude"]) == ("209e36", "0123456789ab")
    assert found["host"] == bases.of_host({})["host"], "the same as long as nothing changes"


def test_another_system_has_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tmp_path / "os-release"
    monkeypatch.setattr(bases, "HOST_FILES", (str(release),))
    seen = {bases.of_host({})["host"]}
    for text in ("12.7", "12.8"):
        release.write_text(text)
        seen.add(bases.of_host({})["host"])
    assert len(seen) == 3


async def test_a_system_that_cannot_be_built_anew_leaves_its_cage_alone_and_holds_nobody_up() -> None:
    """On NixOS: built while the cage runs on; tried once over each base."""
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("ada")
            await at.spawned("iris")
            at.backend.system = "upgraded"
            at.backend.build_fails = "no such package"
            round_ = renewal(at)
            await round_.look()
            assert [cage.stops for cage in at.backend.cages] == [[], []]
            assert all(stale(at).values())
            assert "building 1 files" in at.host.last_lines("iris", 10)
            at.backend.build_fails = ""
            await round_.look()
            assert [cage.stops for cage in at.backend.cages] == [[], []], "over this base it was tried"
            at.backend.system = "upgraded again"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tell_health, at)
                await round_.look()
                nursery.cancel_scope.cancel()
            assert set(stale(at).values()) == {""}


async def test_a_rebuild_that_is_asked_for_is_built_first() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            at.backend.build_fails = "no such package"
            with pytest.raises(Refused, match="no such package"):
                await handlers.rebuild(RebuildCage("iris"), OPERATOR, at.host)
            assert (at.backend.cages[0].stops, len(at.backend.cages)) == ([], 1)
