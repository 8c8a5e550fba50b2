"""Who there is: creating, destroying and purging an agent at the same time, or only half-way."""

import os
from pathlib import Path

import msgspec
import pytest
import trio

from privd.cages.identity import RANGE_UIDS, block_of
from privd.cages.journal import Journal
from privd.cages.spec import CageSpec, Places
from privd.furnish import KEY_NAME
from privd.git.applied import Applied
from privd.git.intake import Intake, Proposed
from privd.host import Host
from privd.policy.admission import Admitted
from privd.settings import ModelApi, Peers, PrivdSettings
from privd.upkeep import rotate_journals
from protocol.names import MANAGER_NAME
from protocol.privd import Cage, Power
from protocol.problem import Problem, Refused
from protocol.settings import CageLimits, Credential
from runtime.log import logger
from tests.support.fake_cages import FakeBackend
from tests.support.making import make

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

BLOCK = block_of("/tests")


class GatedBackend(FakeBackend):
    """Makes the folders, and waits at the gate when one is set; `refusing` fails after that."""

    gate: trio.Event | None = None
    refusing = False

    async def prepare(self, spec: CageSpec, places: Places) -> None:
        for folder in spec.folders:
            Path(folder.path).mkdir(parents=True, exist_ok=True)
        if self.gate is not None:
            await self.gate.wait()
        if self.refusing:
            raise Refused(Problem.FAILED, "the disk is full")


def new_host(
    folder: Path,
    nursery: trio.Nursery,
    backend: FakeBackend,
    limits: CageLimits = CageLimits(),  # noqa: B008 - frozen
) -> Host:
    uid = os.geteuid()
    settings = PrivdSettings(
        state=str(folder),
        run=str(folder / "run"),
        peers=Peers(broker_uid=uid, web_uid=uid, egress_uid=uid),
        uid_first=BLOCK,
        environment="/opt/hive/env",
        limits=limits,
    )
    host = Host(settings, backend, nursery.start_soon, logger("test"))
    host._registry.load()
    return host


async def kept(host: Host, agent: str) -> Cage:
    await make(host, agent)
    return await host.destroy(agent)


async def test_a_creation_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    backend = GatedBackend()
    async with trio.open_nursery() as nursery:
        host = new_host(tmp_path, nursery, backend)
        backend.refusing = True
        with pytest.raises(Refused, match="the disk is full"):
            await make(host, "iris")
        assert not (tmp_path / "agents" / "iris").exists()
        assert not (tmp_path / "cages" / "iris").exists()
        backend.refusing = False
        assert (await make(host, "iris")).power is Power.STOPPED


async def test_a_return_that_fails_half_way_leaves_what_was_kept(tmp_path: Path) -> None:
    backend = GatedBackend()
    async with trio.open_nursery() as nursery:
        host = new_host(tmp_path, nursery, backend)
        await kept(host, "iris")
        (tmp_path / "agents" / "iris" / "state" / "notes.md").write_text("mine")
        backend.refusing = True
        with pytest.raises(Refused, match="the disk is full"):
            await make(host, "iris")
        assert host.keeper("iris").power is Power.KEPT
        assert (tmp_path / "agents" / "iris" / "state" / "notes.md").read_text() == "mine"


async def test_a_purge_waits_for_a_return_and_then_deletes_nothing(tmp_path: Path) -> None:
    backend = GatedBackend()
    async with trio.open_nursery() as nursery:
        host = new_host(tmp_path, nursery, backend)
        await kept(host, "iris")
        backend.gate = trio.Event()
        refused: list[Refused] = []

        async def purge() -> None:
            with pytest.raises(Refused) as caught:
                await host.purge("iris", "iris")
            refused.append(caught.value)

        async with trio.open_nursery() as both:
            both.start_soon(make, host, "iris")
            await trio.testing.wait_all_tasks_blocked()
            both.start_soon(purge)
            await trio.testing.wait_all_tasks_blocked()
            assert (tmp_path / "agents" / "iris" / "state").is_dir()
            backend.gate.set()
        assert [each.problem for each in refused] == [Problem.CONFLICT]
        assert (tmp_path / "agents" / "iris" / "state").is_dir()
        assert (tmp_path / "cages" / "iris" / "agent.json").exists()


async def test_two_purges_are_one(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        host = new_host(tmp_path, nursery, GatedBackend())
        await kept(host, "iris")
        problems: list[Problem | None] = []

        async def purge() -> None:
            try:
                await host.purge("iris", "iris")
            except Refused as refused:
                problems.append(refused.problem)
            else:
                problems.append(None)

        async with trio.open_nursery() as both:
            both.start_soon(purge)
            both.start_soon(purge)
        assert sorted(problems, key=str) == sorted([None, Problem.NOT_FOUND], key=str)


async def test_a_range_is_not_given_again_when_its_agent_is_gone(tmp_path: Path) -> None:
    """It may own files in the shared folder. Also after privd's own restart."""
    async with trio.open_nursery() as nursery:
        backend = GatedBackend()
        host = new_host(tmp_path, nursery, backend)
        first = await kept(host, "iris")
        await host.purge("iris", "iris")
        second = await make(host, "iris")
        assert second.agent_uid == first.agent_uid + RANGE_UIDS
        await host.destroy("iris")
        await host.purge("iris", "iris")
        again = new_host(tmp_path, nursery, backend)
        assert (await make(again, "moth")).agent_uid == second.agent_uid + RANGE_UIDS


async def test_what_stands_in_a_new_agents_place_is_refused(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        host = new_host(tmp_path, nursery, GatedBackend())
        (tmp_path / "agents" / "iris" / "state").mkdir(parents=True)
        with pytest.raises(Refused, match="belongs to no agent") as refused:
            await make(host, "iris")
        assert refused.value.problem is Problem.CONFLICT
        assert host.rows() == ()


async def test_a_full_disk_does_not_end_the_rotation_of_journals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent may fill the disk; privd must live."""
    tried, often = 0, trio.Event()

    def full(journal: Journal) -> bool:
        nonlocal tried
        tried += 1
        if tried == 3:
            trio.from_thread.run_sync(often.set)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "rotate", full)
    async with trio.open_nursery() as nursery:
        host = new_host(tmp_path, nursery, GatedBackend())
        await make(host, "iris")
        nursery.start_soon(rotate_journals, host)
        await often.wait()
        nursery.cancel_scope.cancel()


async def test_who_holds_the_key_is_decided_at_creation(tmp_path: Path) -> None:
    """What the hive's settings say later counts for agents that are created later, or come back."""
    (tmp_path / "key").write_text("sk-of-the-hive")
    async with trio.open_nursery() as nursery:
        host = new_host(tmp_path, nursery, GatedBackend())
        host.separate = False
        key = tmp_path / "agents" / "iris" / "claude" / "api_key"
        host.settings = msgspec.structs.replace(
            host.settings, model_api=ModelApi(key_file=str(tmp_path / "key"))
        )
        assert (await make(host, "iris")).settings.credential is Credential.CAGE
        assert key.read_text() == "sk-of-the-hive"
        host.settings = msgspec.structs.replace(host.settings, credential=Credential.EGRESS)
        assert host.keeper("iris").row().settings.credential is Credential.CAGE
        assert (await make(host, "otto")).settings.credential is Credential.EGRESS
        assert list((tmp_path / "agents" / "otto" / "claude").iterdir()) == []
        await host.destroy("iris")
        assert (await make(host, "iris")).settings.credential is Credential.EGRESS
        await host.keeper("iris").start()
        assert not key.exists(), "an agent that comes back starts with no key that it does not need"
        await host.keeper("iris").stop(1)
        nursery.cancel_scope.cancel()


async def test_a_cage_does_not_start_with_a_key_that_its_agent_needs_no_more(tmp_path: Path) -> None:
    """An agent whose settings were changed to egressd's key, without being made anew."""
    folder = tmp_path / "agents" / "iris" / "claude"
    async with trio.open_nursery() as nursery:
        host = new_host(tmp_path, nursery, GatedBackend())
        source = tmp_path / "key"
        source.write_text("sk-of-the-hive")
        host.settings = msgspec.structs.replace(host.settings, model_api=ModelApi(key_file=str(source)))
        await make(host, "iris")
        keeper = host.keeper("iris")
        await keeper.start()
        assert (folder / KEY_NAME).exists(), "it holds its own"
        await keeper.stop(1)
        (folder / "history").write_text("its own")
        settings = msgspec.structs.replace(keeper.record.settings, credential=Credential.EGRESS)
        keeper.record = msgspec.structs.replace(keeper.record, settings=settings)
        await keeper.start()
        assert [file.name for file in folder.iterdir()] == ["history"]
        await keeper.stop(1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("has_manager", [True, False])
async def test_a_proposal_is_read_as_the_one_who_may_write_it(tmp_path: Path, has_manager: bool) -> None:
    """The manager, or the agent itself while there is none; and into a repository that is named after the agent."""
    asked: list[tuple[str, Proposed, Applied]] = []

    async def ingest(
        _: Intake, commit: str, proposed: Proposed, applied: Applied, **more: object
    ) -> Admitted:
        assert "judge" in more
        asked.append((commit, proposed, applied))
        return Admitted(commit, "t", (), (), 0)

    async with trio.open_nursery() as nursery:
        host = new_host(tmp_path, nursery, GatedBackend())
        await make(host, "iris")
        if has_manager:
            await make(host, MANAGER_NAME)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Intake, "ingest", ingest)
            assert (await host.ingest("iris", "a" * 40)).commit == "a" * 40
            with pytest.raises(Refused, match="there is no agent nobody"):
                await host.ingest("nobody", "a" * 40)
    owner = host.keeper(MANAGER_NAME if has_manager else "iris").row().agent_uid
    ((commit, proposed, applied),) = asked
    assert (commit, proposed.folder, proposed.uid) == (
        "a" * 40,
        tmp_path / "proposed" / "agents" / "iris" / "config",
        owner,
    )
    applied.make()
    assert (tmp_path / "applied" / "iris.git" / "HEAD").is_file()
