"""The nixos backend against a host whose `nixos-container` lies, races and leaves things behind as the real one does.

Units of that host are real systemd-nspawn containers, so what a cage is told holds here for what it then is.
"""

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from privd.cages import nixos_conf
from privd.cages.identity import hive_tag
from privd.cages.nixos import Nixos
from privd.cages.nixos_flakes import Flakes
from privd.cages.nixos_host import tell_lines
from privd.cages.nixos_running import NixosCage
from privd.cages.spec import Bind, CageSpec, Exit, How, Places
from privd.policy.flakes import Ground, Pin
from privd.policy.nar import Content
from protocol.problem import Problem, Refused
from tests.privd.cages.hive import DEADLINE_S, DriverProcess, Layout
from tests.support.corpus import rows
from tests.support.nixos.host import FakeHost
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.cage, pytest.mark.root]

SLEEPER = "/usr/bin/sleep infinity"
"""What stands for a whole system where nobody speaks to it."""


class World:
    """One hive on one made-up host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fake = FakeHost(folder / "host")
        self.fake.make(SLEEPER)
        self.layout = Layout(folder, Path("/usr"), 0, 0)
        self.backend = self.fake.backend(hive_tag(str(folder)))

    def spec(self, agent: str = "iris", **changes: Any) -> CageSpec:
        return self.layout.spec(agent, self.backend.identity(self.layout.uid_base(agent)), **changes)

    def places(self, agent: str = "iris") -> Places:
        return Places(self.layout.cages / agent)

    async def start(self, agent: str = "iris", **changes: Any) -> NixosCage:
        return await self.backend.start(self.spec(agent, **changes), self.places(agent))

    def conf(self, agent: str = "iris") -> dict[str, str]:
        lines = self.fake.host.conf(agent).read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def pinned(self, agent: str = "iris") -> str:
        return Path(self.conf(agent)["SYSTEM_PATH"]).name

    def state(self, agent: str = "iris") -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.fake.folder / "state" / f"h-{agent}.json").read_text())
        return state

    def journal(self, agent: str = "iris") -> str:
        journal = self.places(agent).journal
        return journal.read_text() if journal.exists() else ""


@pytest.fixture
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="nixos-", dir="/tmp") as folder:  # a short path, for sockets
        made = World(Path(folder))
        made.fake.deploy("iris")
        yield made
        for state in (made.fake.folder / "state").glob("*.json"):
            made.fake.run("systemctl", "stop", f"container@{state.stem}")


@pytest.fixture
async def cage(world: World) -> AsyncIterator[NixosCage]:
    running = await world.start()
    yield running
    await running.kill()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --------------------------------------------------------------------------------------------------------- starting


class TestStart:
    async def test_it_is_created_from_its_flake_and_its_system_pinned(
        self, world: World, cage: NixosCage
    ) -> None:
        create = world.fake.calls()[0]["argv"]
        assert create[:4] == ["create", "h-iris", "--flake", f"{world.fake.flake('iris')}#iris"]
        assert "nixos-system-iris" in world.pinned()
        assert os.path.realpath(world.fake.host.profile("iris")) == world.conf()["SYSTEM_PATH"]
        assert Path(f"/proc/{cage.leader_pid}/root").exists()
        assert world.fake.verbs() == ["create", "start"]

    async def test_its_init_is_boxed_in(self, world: World, cage: NixosCage) -> None:
        process = Path(f"/proc/{cage.leader_pid}")
        assert (process / "uid_map").read_text().split() == ["0", str(world.spec().uid_base), "65536"]
        assert "NoNewPrivs:\t1" in (process / "status").read_text()
        assert (process / "ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        devices = (process / "net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in devices] == ["lo"]

    async def test_what_no_control_group_limits_is_said(self, cage: NixosCage) -> None:
        assert [text.split(":")[0] for text in cage.degraded] == [
            *(f"no control group limits {resource}" for resource in ("memory", "tasks", "cpu")),
            "nothing limits the disk",
        ]
        assert cage.held == {}

    async def test_a_second_one_is_refused(self, world: World, cage: NixosCage) -> None:
        with pytest.raises(Refused, match="runs already") as refused:
            await world.start()
        assert refused.value.problem is Problem.CONFLICT
        assert world.fake.verbs() == ["create", "start"]

    async def test_two_at_once_are_one(self, world: World) -> None:
        started: list[NixosCage] = []
        refused: list[Refused] = []

        async def start() -> None:
            try:
                started.append(await world.start())
            except Refused as no:
                refused.append(no)

        async with trio.open_nursery() as both:
            both.start_soon(start)
            both.start_soon(start)
        assert [no.problem for no in refused] == [Problem.CONFLICT]
        assert world.fake.verbs() == ["create", "start"]
        await started[0].kill()

    async def test_it_starts_again_without_building(self, world: World) -> None:
        await (await world.start()).kill()
        world.fake.deploy("iris", "second")
        first = world.pinned()
        await (await world.start()).kill()
        assert world.fake.verbs() == ["create", "start", "start"]
        assert world.pinned() == first

    async def test_a_cleared_one_is_built_anew(self, world: World) -> None:
        await (await world.start()).kill()
        first = world.pinned()
        world.fake.deploy("iris", "second")
        await world.backend.clear(world.places())
        assert "SYSTEM_PATH" not in world.conf()
        assert not (world.fake.host.roots / "h-iris").exists()
        await (await world.start()).kill()
        assert world.pinned() != first
        assert world.fake.calls()[2]["argv"][:4] == [
            "update",
            "h-iris",
            "--flake",
            f"{world.fake.flake('iris')}#iris",
        ]
        assert not (world.fake.folder / "state" / "h-iris.reloaded").exists()

    async def test_a_running_one_is_neither_cleared_nor_removed(self, world: World, cage: NixosCage) -> None:
        for change in (world.backend.clear, world.backend.remove):
            with pytest.raises(Refused, match="stop it first") as refused:
                await change(world.places())
            assert refused.value.problem is Problem.CONFLICT
        assert "update" not in world.fake.verbs()
        assert world.state()["active"] == "active"

    async def test_many_at_once_each_get_their_own_system(self, world: World) -> None:
        agents = [f"agent{number}" for number in range(6)]
        for agent in agents:
            world.fake.deploy(agent)
        world.fake.turn(rendezvous=len(agents))
        running: list[NixosCage] = []

        async def start(agent: str) -> None:
            running.append(await world.start(agent))

        async with trio.open_nursery() as all_of_them:
            for agent in agents:
                all_of_them.start_soon(start, agent)
        assert [f"nixos-system-{agent}-" in world.pinned(agent) for agent in agents] == [True] * len(agents)
        for each in running:
            await each.kill()

    async def test_nothing_deployed_is_told(self, world: World) -> None:
        (world.fake.flake("iris") / "flake.nix").unlink()
        with pytest.raises(Refused, match="nothing is deployed for iris") as refused:
            await world.start()
        assert refused.value.problem is Problem.FAILED
        assert world.fake.verbs() == []

    async def test_prepare_makes_folders_and_builds_nothing(self, world: World) -> None:
        await world.backend.prepare(world.spec(), world.places())
        assert (world.layout.folder / "agents/iris/state").is_dir()
        assert (world.places().root / "agent.json").read_bytes() == world.spec().settings_json
        assert world.fake.calls() == []

    async def test_a_stranger_s_container_of_that_name_is_left_alone(self, world: World) -> None:
        theirs = "PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.1.1\n"
        world.fake.host.conf("iris").write_text(theirs)
        with pytest.raises(Refused, match="did not make") as refused:
            await world.start()
        assert refused.value.problem is Problem.CONFLICT
        await world.backend.remove(world.places())
        assert world.fake.host.conf("iris").read_text() == theirs
        assert world.fake.verbs() == []

    async def test_a_stranger_s_files_without_a_conf_are_not_adopted(self, world: World) -> None:
        theirs = world.fake.host.roots / "h-iris" / "etc"
        theirs.mkdir(parents=True)
        with pytest.raises(Refused, match="belongs to no container of this hive"):
            await world.start()
        assert theirs.is_dir()
        assert world.fake.verbs() == []


# ------------------------------------------------------------------------------------------ calls that did not do it


class TestNeverTrusted:
    async def test_a_build_that_fails_leaves_nothing_and_says_why(self, world: World) -> None:
        world.fake.deploy("iris", "fail")
        with pytest.raises(Refused, match=r"could not create it: .*the build failed") as refused:
            await world.start()
        assert refused.value.problem is Problem.FAILED
        assert world.fake.verbs() == ["create", "destroy"]
        nothing_of(world)
        world.fake.deploy("iris")
        await (await world.start()).kill()

    async def test_an_update_that_fails_keeps_what_is_there(self, world: World) -> None:
        await (await world.start()).kill()
        profile = os.path.realpath(world.fake.host.profile("iris"))
        world.fake.deploy("iris", "fail")
        await world.backend.clear(world.places())
        with pytest.raises(Refused, match="could not update it"):
            await world.start()
        assert os.path.realpath(world.fake.host.profile("iris")) == profile
        assert world.fake.host.conf("iris").exists()
        world.fake.deploy("iris", "third")
        await (await world.start()).kill()

    @pytest.mark.parametrize(
        ("knobs", "words"),
        [
            ({"nix_env_fails": True}, "could not create it"),
            ({"nix_env_forgets": True}, "its profile was not set"),
            ({"build_links_to": "/etc"}, "no system of"),
        ],
    )
    async def test_a_create_that_did_not_do_it(self, world: World, knobs: dict[str, Any], words: str) -> None:
        world.fake.turn(**knobs)
        with pytest.raises(Refused, match=words):
            await world.start()
        nothing_of(world)
        world.fake.turn()
        await (await world.start()).kill()

    async def test_a_start_that_did_not_do_it(self, world: World) -> None:
        world.fake.turn(start_hangs_up=True)
        with pytest.raises(Refused, match="its unit is failed"):
            await world.start()
        assert world.state()["active"] == "failed"
        world.fake.turn()
        await (await world.start()).kill()

    async def test_a_container_that_nobody_knows_the_init_of_is_ended(self, world: World) -> None:
        world.fake.turn(machinectl_silent=True)
        with pytest.raises(Refused, match="its unit is active"):
            await world.start()
        assert world.state()["active"] in ("inactive", "failed")

    async def test_a_systemd_that_says_nothing_starts_nothing(self, world: World) -> None:
        world.fake.turn(systemctl_silent=True)
        with pytest.raises(Refused, match="does not say how"):
            await world.start()
        assert world.fake.verbs() == []

    async def test_a_unit_that_heeds_no_drop_in_is_not_started(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It would start again by itself, and the cage would have two lives."""
        monkeypatch.setattr("privd.cages.nixos.drop_in_text", lambda *_: "[Service]\nRestart=on-failure\n")
        with pytest.raises(Refused, match="does not heed"):
            await world.start()
        assert "start" not in world.fake.verbs()

    async def test_a_container_that_is_not_boxed_in_is_ended(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An older unit may not know PRIVATE_USERS: what it says is not what it is."""

        def without_users(*arguments: Any, **more: Any) -> str:
            return re.sub(r"PRIVATE_USERS=\d+", "PRIVATE_USERS=", told(*arguments, **more))

        told = nixos_conf.conf_text
        monkeypatch.setattr("privd.cages.nixos.conf_text", without_users)
        with pytest.raises(Refused, match="its users are 0 0"):
            await world.start()
        assert world.state()["active"] in ("inactive", "failed")

    @pytest.mark.parametrize("kind", ["root", "profile", "gcroots"])
    async def test_what_destroy_leaves_is_finished(self, world: World, kind: str) -> None:
        await (await world.start()).kill()
        world.fake.turn(destroy_leaves=[kind])
        await world.backend.remove(world.places())
        nothing_of(world)

    async def test_what_cannot_be_finished_is_refused_and_finished_later(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await (await world.start()).kill()
        world.fake.turn(destroy_leaves=["root"])

        def held(_: Path) -> None:
            raise PermissionError(1, "Operation not permitted")

        with monkeypatch.context() as patched:
            patched.setattr("privd.cages.nixos.remove_even_immutable", held)
            with pytest.raises(Refused, match=r"left .*h-iris behind: Operation not permitted"):
                await world.backend.remove(world.places())
        assert world.backend._is_ours("iris"), "who it belongs to is not forgotten"
        await world.backend.remove(world.places())
        nothing_of(world)


def nothing_of(world: World, agent: str = "iris") -> None:
    assert [str(path) for path in world.fake.host.remains(agent) if os.path.lexists(path)] == []


# -------------------------------------------------------------------------------------------------------- live output


class TestLiveOutput:
    @pytest.mark.parametrize("verb", ["create", "update"])
    async def test_a_slow_build_is_read_while_it_runs(self, world: World, verb: str) -> None:
        """S-300 to S-303: each line of stdout and stderr stands in the cage's journal when it was said."""
        if verb == "update":
            await (await world.start()).kill()
            await world.backend.clear(world.places())
        gate = world.fake.folder / "gate"
        world.fake.turn(gate=str(gate))
        begun = world.places().journal.stat().st_size if verb == "update" else 0
        running: list[NixosCage] = []

        async def start() -> None:
            running.append(await world.start())

        async with trio.open_nursery() as starting:
            starting.start_soon(start)
            await until_true(lambda: "building '" in world.journal()[begun:])
            said = world.journal()[begun:]
            assert "copying path" not in said
            assert ("host IP is" in said) is (verb == "create")
            gate.touch()
        assert "copying path" in world.journal()[begun:]
        await running[0].kill()

    async def test_what_the_container_prints_follows(self, world: World, cage: NixosCage) -> None:
        drop_in = world.fake.host.drop_in("iris").read_text()
        assert f"StandardOutput=append:{world.places().journal}\n" in drop_in
        assert f"StandardError=append:{world.places().journal}\n" in drop_in


async def until_true(ask: Callable[[], object]) -> None:
    await until(ask, what="what the test waits for", deadline_ms=int(DEADLINE_S * 1000))


# -------------------------------------------------------------------------------------------------- ending, adopting


class TestEnd:
    async def test_stop(self, world: World) -> None:
        running = await world.start()
        ended = await running.stop(20)
        assert ended == Exit(How.EXIT, 128 + signal.SIGTERM)
        assert world.fake.verbs() == ["create", "start", "stop"]
        assert not world.places().record.exists()

    async def test_kill(self, world: World) -> None:
        running = await world.start()
        assert await running.kill() == Exit(How.SIGNAL, signal.SIGKILL)
        assert world.state()["active"] in ("inactive", "failed")

    @pytest.mark.parametrize("victim", ["leader", "main"])
    async def test_a_crash_is_seen_and_not_started_again(self, world: World, victim: str) -> None:
        running = await world.start()
        os.kill(world.state()[victim], signal.SIGKILL)
        ended = await running.wait()
        assert ended.how in (How.EXIT, How.SIGNAL)
        assert not (world.fake.folder / "state" / "h-iris.restarted").exists()
        assert world.state()["active"] == "failed"
        assert not Path(f"/proc/{running.leader_pid}/root").exists()

    async def test_many_may_wait(self, world: World) -> None:
        running = await world.start()
        told: list[Exit] = []

        async def wait() -> None:
            told.append(await running.wait())

        async with trio.open_nursery() as waiting:
            for _ in range(3):
                waiting.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            told.append(await running.kill())
        assert told == [Exit(How.SIGNAL, signal.SIGKILL)] * 4

    async def test_a_systemd_that_is_silent_meanwhile_does_no_harm(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("privd.cages.nixos_running.UNIT_END_S", 0.5)
        running = await world.start()
        world.fake.turn(systemctl_silent=True)
        os.kill(running.leader_pid, signal.SIGKILL)
        assert await running.wait() == Exit(How.UNKNOWN)
        world.fake.turn()


class TestAdoption:
    async def test_a_running_one_is_adopted(self, world: World) -> None:
        first = await world.start()
        first.let_go()
        adopted = await world.backend.adopt(world.places())
        assert isinstance(adopted, NixosCage)
        assert adopted.leader_pid == first.leader_pid
        assert await adopted.kill() == Exit(How.SIGNAL, signal.SIGKILL)
        assert world.fake.verbs() == ["create", "start"]

    @pytest.mark.parametrize("damage", ["unlink", "garbage", "another life"])
    async def test_one_that_no_record_explains_is_ended(self, world: World, damage: str) -> None:
        first = await world.start()
        first.let_go()
        record = world.places().record
        match damage:
            case "unlink":
                record.unlink()
            case "garbage":
                record.write_text('{"boot": 7')
            case "another life":
                record.write_text(record.read_text().replace(world.state()["id"], "0" * 32))
        assert await world.backend.adopt(world.places()) is None
        assert world.state()["active"] in ("inactive", "failed")
        assert not record.exists()
        await (await world.start()).kill()

    async def test_a_crash_that_nobody_saw_is_told_once(self, world: World) -> None:
        first = await world.start()
        first.let_go()
        os.kill(world.state()["leader"], signal.SIGKILL)
        await until_true(lambda: world.state()["active"] == "failed")
        ended = await world.backend.adopt(world.places())
        assert isinstance(ended, Exit)
        assert ended.how is not How.UNKNOWN
        assert await world.backend.adopt(world.places()) is None
        assert not world.places().record.exists()

    async def test_a_stranger_s_running_container_is_left_alone(self, world: World) -> None:
        first = await world.start()
        first.let_go()
        stranger = Nixos("0therone", Flakes(world.fake.folder / "elsewhere"), world.fake.host)
        assert await stranger.adopt(world.places()) is None
        assert world.state()["active"] == "active"
        with pytest.raises(Refused, match="did not make"):
            await stranger.start(world.spec(), world.places())
        adopted = await world.backend.adopt(world.places())
        assert isinstance(adopted, NixosCage)
        await adopted.kill()

    async def test_a_build_that_outlives_privd_is_ended_and_made_again(self, world: World) -> None:
        """It holds the cage's lock as its standard input: whoever comes next finds it."""
        world.fake.turn(gate=str(world.fake.folder / "gate"))
        privd = DriverProcess("nixos", world.folder, Path("/usr"), 0)
        privd.send("start", agent="iris")
        await until_true(lambda: "building '" in world.journal())
        privd.die()
        with pytest.raises(Refused, match="runs already"):
            await world.start()
        assert await world.backend.adopt(world.places()) is None
        world.fake.turn()
        await (await world.start()).kill()
        assert left(world.places().folder) == ["journal.log", "lock", "root"]

    async def test_a_start_that_is_given_up_ends_what_it_began(self, world: World) -> None:
        world.fake.turn(gate=str(world.fake.folder / "gate"))
        async with trio.open_nursery() as starting:
            starting.start_soon(world.start)
            await until_true(lambda: "building '" in world.journal())
            starting.cancel_scope.cancel()
        assert await world.backend.adopt(world.places()) is None
        world.fake.turn()
        await (await world.start()).kill()


# ------------------------------------------------------------------------------------------------ looking afterwards


class TestFault:
    async def test_what_is_right_has_none(self, world: World, cage: NixosCage) -> None:
        assert await world.backend.fault(world.spec(), world.places()) is None

    async def test_each_thing_that_is_wrong_is_named(self, world: World, cage: NixosCage) -> None:
        for file in (
            world.fake.host.conf("iris"),
            world.fake.host.drop_in("iris"),
            world.places().root / "agent.json",
        ):
            text = file.read_text()
            file.write_text(text + "\nX=1\n")
            found = await world.backend.fault(world.spec(), world.places())
            assert found == f"{file} is not what is deployed"
            file.write_text(text)

    async def test_a_profile_that_leads_elsewhere_is_told_and_not_followed(
        self, world: World, cage: NixosCage
    ) -> None:
        profile = world.fake.host.profile("iris")
        profile.unlink()
        profile.symlink_to("/etc")
        found = await world.backend.fault(world.spec(), world.places())
        assert found is not None
        assert "does not lead to" in found


async def test_remove_leaves_nothing(world: World) -> None:
    await (await world.start()).kill()
    await world.backend.remove(world.places())
    nothing_of(world)
    assert left(world.fake.host.units) == []
    assert left(world.places().folder) == []
    await world.backend.remove(world.places())


# ----------------------------------------------------------------------------------------------- words and environment


def enumerated(world: World) -> list[re.Pattern[str]]:
    """Every command line that may ever be seen, by program."""
    flake = re.escape(str(world.fake.flakes.folder)) + "/[a-z0-9]+/[a-z0-9]+"
    name, unit = r"h-[a-z][a-z0-9]{0,8}", r"container@h-[a-z][a-z0-9]{0,8}\.service"
    build = (
        "--no-update-lock-file --log-format raw --option accept-flake-config false --option "
        "allow-import-from-derivation false --option max-silent-time 1200 --option timeout 7200"
    )
    return [
        re.compile(rf"nixos-container (create|update) {name} --flake {flake}#[a-z][a-z0-9]{{0,8}} {build}"),
        re.compile(rf"nixos-container (start|stop|destroy) {name}"),
        re.compile(rf"systemctl show --property=[A-Za-z,]+ -- {unit}"),
        re.compile(rf"systemctl (kill --kill-whom=all --signal=SIGKILL|stop) -- {unit}"),
        re.compile(r"systemctl daemon-reload"),
        re.compile(rf"machinectl show --property=Leader --value -- {name}"),
    ]


WORD = r"[A-Za-z0-9@_+=,./:-]"
FLAG = re.compile(
    r"--(private-users-ownership=auto|volatile=overlay|no-new-privileges=yes|link-journal=no|resolv-conf=off|timezone=off"
    r"|drop-capability=CAP_[A-Z_,]+|hostname=[a-z][a-z0-9]{0,8}|system-call-filter=landlock_[a-z_]+|rlimit=NOFILE=\d+"
    r"|tmpfs=/nix/var/nix/(daemon-socket:ro|(profiles|gcroots):mode=0755,size=1M)"
    rf"|bind(-ro)?=/{WORD}+:/(agents|shared|run/hive|etc/hyperhive)(/{WORD}*)?|setenv=HIVE_[A-Z_]+={WORD}*)"
)
CONF_NAMES = (
    "HIVE_OWNER", "AUTO_START", "PRIVATE_NETWORK", "HOST_ADDRESS", "LOCAL_ADDRESS", "HOST_ADDRESS6", "LOCAL_ADDRESS6",
    "LOCAL_MAC_ADDRESS", "HOST_BRIDGE", "HOST_PORT", "INTERFACES", "MACVLANS", "NETWORK_NAMESPACE_PATH",
    "PRIVATE_USERS", "COPY_RESOLV_CONF", "SYSTEM_PATH", "HIVE_FLAKE", "EXTRA_NSPAWN_FLAGS",
)  # fmt: skip


async def test_t4_bad_input_reaches_no_command_line_and_no_conf(world: World) -> None:
    """The whole list: what is not refused is one word of a flag that stands here, and runs one of these lines."""
    inputs = [row["input"] for row in rows("name")]
    hostile = json.dumps({"role_prompt": [str(each) for each in inputs]}).encode()
    survived = 0
    for value in inputs:
        for field in ("agent", "environment", "bind", "system"):
            try:
                spec = spoiled(world.spec(), field, value, hostile)
                system = f"/nix/store/{value}" if field == "system" else None
                text = nixos_conf.conf_text(spec, world.places(), system=system, owner="0badcafe")
            except (ValueError, TypeError, Refused):
                continue
            survived += 1
            check_conf(text, spec)
    assert survived, "nothing of the list is harmless, so nothing was checked"
    running = await world.backend.start(spoiled(world.spec(), "", "", hostile), world.places())
    await running.stop(5)
    await world.backend.remove(world.places())
    allowed = enumerated(world)
    ours = [
        call
        for program in ("nixos-container", "systemctl", "machinectl")
        for call in world.fake.calls(program)
        if call["cwd"] == "/" or program == "nixos-container"
    ]
    assert len(ours) > 8
    for call in ours:
        line = " ".join([call["program"], *call["argv"]])
        assert any(pattern.fullmatch(line) for pattern in allowed), line


def check_conf(text: str, spec: CageSpec) -> None:
    """One line for each name that we write, no more; in each flag one word of ours and no way out of it."""
    names = [line.partition("=")[0] for line in text.removesuffix("\n").split("\n")]
    assert names == [name for name in CONF_NAMES if name in names]
    flags = text.removesuffix('"\n').rpartition('EXTRA_NSPAWN_FLAGS="')[2].split(" ")
    assert len(flags) == len(nixos_conf.flags(spec, Places(Path("/c")))), "as many words as flags"
    for flag in flags:
        assert FLAG.fullmatch(flag), flag


def spoiled(spec: CageSpec, field: str, value: Any, settings: bytes) -> CageSpec:
    changes: dict[str, Any] = {"settings_json": settings}
    match field:
        case "agent":
            changes["agent"] = value
        case "environment":
            changes["environment"] = {"HIVE_AGENT": value}
        case "bind":
            changes["binds"] = (*spec.binds, Bind(f"/srv/{value}", f"/agents/{value}"))
    made = msgspec.structs.replace(spec, **changes)
    made.__post_init__()  # replace() does not
    return made


async def test_the_conf_holds_what_is_enumerated_and_nothing_else(world: World, cage: NixosCage) -> None:
    conf = world.conf()
    empty = {name for name, value in conf.items() if not value}
    assert empty == {
        "HOST_ADDRESS", "LOCAL_ADDRESS", "HOST_ADDRESS6", "LOCAL_ADDRESS6", "LOCAL_MAC_ADDRESS", "HOST_BRIDGE",
        "HOST_PORT", "INTERFACES", "MACVLANS", "NETWORK_NAMESPACE_PATH",
    }  # fmt: skip
    flags = conf.pop("EXTRA_NSPAWN_FLAGS")
    assert {name: value for name, value in conf.items() if value} == {
        "HIVE_OWNER": hive_tag(str(world.folder)),
        "AUTO_START": "0",
        "PRIVATE_NETWORK": "1",
        "PRIVATE_USERS": str(world.spec().uid_base),
        "COPY_RESOLV_CONF": "0",
        "SYSTEM_PATH": os.path.realpath(world.fake.host.profile("iris")),
        "HIVE_FLAKE": world.fake.flake("iris").name,
    }
    assert flags[0] == flags[-1] == '"'
    for flag in flags.strip('"').split(" "):
        assert FLAG.fullmatch(flag), flag


def test_systemd_knows_every_line_of_the_drop_in(world: World, tmp_path: Path) -> None:
    """The fake systemd would take anything."""
    unit = tmp_path / "container@h-iris.service"
    unit.write_text("[Service]\nType=notify\nExecStart=/bin/true\nRestartForceExitStatus=133\n")
    (tmp_path / f"{unit.name}.d").mkdir()
    (tmp_path / f"{unit.name}.d" / "50-hyperhive.conf").write_text(
        nixos_conf.drop_in_text(world.spec(), world.places())
    )
    words = ["systemd-analyze", "verify", "--recursive-errors=yes", "--man=no", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_every_call_has_a_folder_and_an_environment_of_its_own(world: World) -> None:
    world.fake.deploy("moth")
    for agent in ("iris", "moth"):
        await (await world.start(agent)).stop(5)
        await world.backend.remove(world.places(agent))
    calls = world.fake.calls()
    assert len(calls) == 8
    assert len({call["cwd"] for call in calls}) == len(calls)
    for call in calls:
        work = Path(call["cwd"])
        assert work.parent.parent == world.layout.cages
        assert not work.exists()
        assert call["env"] == {
            "PATH": str(world.fake.host.programs), "LANG": "C.UTF-8", "HOME": str(work), "NIX_REMOTE": "daemon",
        }  # fmt: skip


@pytest.mark.parametrize("state", ["with space", "co:lon", "com,ma"])
async def test_a_state_folder_that_no_flag_can_name_is_refused(world: World, state: str) -> None:
    layout = Layout(world.layout.folder / state.replace(":", "") / state, Path("/usr"), 0, 0)
    with pytest.raises((Refused, ValueError)):
        await world.backend.prepare(
            layout.spec("iris", world.backend.identity(layout.uid_base("iris"))),
            Places(layout.cages / "iris"),
        )
    assert not (layout.folder / "agents").exists()


# ------------------------------------------------------------------------------------------- built while it runs


CONFIGURATION = {"agent.toml": Content(b'model = "opus"\n')}
PIN = Pin("/nix/store/x", f"sha256-{'A' * 43}=")
GROUND = Ground(PIN, PIN, "x86_64-linux")


class TestBuild:
    """A system is built from a flake of privd's own before anything is switched."""

    @pytest.fixture
    def backend(self, world: World) -> Nixos:
        return msgspec.structs.replace(world.backend, ground=GROUND)

    def offer(self, backend: Nixos, content: str = "second") -> Path:
        """What stands for the flake's system, where the made-up Nix looks for it."""
        flake = backend.flakes.write("iris", CONFIGURATION, GROUND)
        (flake / "systems").mkdir(exist_ok=True)
        (flake / "systems" / "iris").write_text(f"iris {content}")
        return flake

    async def test_each_line_is_told_as_it_comes_while_the_cage_runs_on(
        self, world: World, backend: Nixos, cage: NixosCage
    ) -> None:
        flake, gate, said = self.offer(backend), world.fake.folder / "gate", list[str]()
        world.fake.turn(gate=str(gate))
        async with trio.open_nursery() as building:
            building.start_soon(backend.build, "iris", CONFIGURATION, world.places(), said.append)
            await until_true(lambda: any("building '" in line for line in said))
            assert not any("copying path" in line for line in said)
            gate.touch()
        assert any("copying path" in line for line in said)
        (call,) = (each for each in world.fake.calls("nix") if "--print-build-logs" in each["argv"])
        assert call["argv"][-1] == f'{flake}#nixosConfigurations."iris".config.system.build.toplevel'
        assert "--no-update-lock-file" in call["argv"]
        assert world.fake.verbs() == ["create", "start"], "nothing of the container was touched"
        assert Path(f"/proc/{cage.leader_pid}/root").exists()
        assert not list(world.places().folder.glob("call-*"))

    async def test_a_build_that_fails_is_told_line_by_line(self, world: World, backend: Nixos) -> None:
        self.offer(backend, "fail")
        said: list[str] = []
        with pytest.raises(Refused, match="could not be built"):
            await backend.build("iris", CONFIGURATION, world.places(), said.append)
        assert "iris> error: the build failed" in said

    async def test_a_build_that_is_given_up_ends_with_all_that_it_started(
        self, world: World, backend: Nixos
    ) -> None:
        self.offer(backend)
        world.fake.turn(gate=str(world.fake.folder / "never"))
        said: list[str] = []
        async with trio.open_nursery() as building:
            building.start_soon(backend.build, "iris", CONFIGURATION, world.places(), said.append)
            await until_true(lambda: any("building '" in line for line in said))
            building.cancel_scope.cancel()
        assert [
            each for each in Path("/proc").glob("[0-9]*/cmdline") if str(world.folder) in _words(each)
        ] == []

    async def test_the_next_start_builds_what_was_aimed_at(self, world: World, backend: Nixos) -> None:
        await (await world.start()).kill()
        first = world.pinned()
        self.offer(backend)
        await backend.aim("iris", CONFIGURATION)
        self.offer(backend)
        running = await backend.start(world.spec(), world.places())
        assert world.pinned() != first
        assert world.fake.verbs() == ["create", "start", "update", "start"]
        assert running.base == backend.base({}) == GROUND.base()
        assert await backend.fault(world.spec(), world.places()) is None
        running.let_go()
        adopted = await backend.adopt(world.places())
        assert isinstance(adopted, NixosCage)
        assert adopted.base == GROUND.base()
        await adopted.kill()

    async def test_without_a_ground_nothing_is_built(self, world: World) -> None:
        with pytest.raises(Refused, match=r"\[nixos\] in its settings"):
            await world.backend.build("iris", CONFIGURATION, world.places(), print)

    async def test_lines_without_an_end_are_told_in_pieces(self) -> None:
        said: list[str] = []
        sender, receiver = trio.testing.memory_stream_one_way_pair()
        await sender.send_all(b"a" * 40_000 + b"\nlast \xff")
        await sender.aclose()
        await tell_lines(receiver, said.append)
        assert "".join(said) == "a" * 40_000 + "last \ufffd"
        assert max(map(len, said)) <= 40_000


def _words(cmdline: Path) -> str:
    try:
        return cmdline.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
