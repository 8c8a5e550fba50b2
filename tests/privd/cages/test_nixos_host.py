"""The made-up NixOS host does what the real `nixos-container` was measured to do: exit codes, leftovers and races."""

import os
import threading
from pathlib import Path

import pytest

from privd.cages.nixos import Nixos
from privd.cages.probe import choose, report
from privd.settings import BackendChoice, Launching
from protocol.problem import Refused
from tests.support.nixos.host import FakeHost


@pytest.fixture
def fake(tmp_path: Path) -> FakeHost:
    made = FakeHost(tmp_path / "host")
    made.make("/bin/true")
    for agent in ("iris", "moth"):
        made.deploy(agent)
    return made


def create(fake: FakeHost, name: str, flake: str, cwd: Path | None = None) -> int:
    return fake.run("nixos-container", "create", name, "--flake", flake, cwd=cwd).returncode


def system_of(fake: FakeHost, agent: str) -> str:
    return Path(os.path.realpath(fake.host.profile(agent))).name


def test_create_sets_the_profile_and_forgets_the_attribute(fake: FakeHost) -> None:
    assert create(fake, "h-iris", f"{fake.flake('iris')}#iris") == 0
    assert fake.host.conf("iris").read_text() == (
        f"PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.1.1\nLOCAL_ADDRESS=10.233.1.2\nHOST_BRIDGE=\nHOST_PORT=\n"
        f"AUTO_START=0\nFLAKE={fake.flake('iris')}\n"
    )
    assert "nixos-system-iris" in system_of(fake, "iris")
    assert (fake.folder / ".tmp").is_symlink(), "left behind: a root of the garbage collector"
    assert fake.run("nixos-container", "update", "h-iris").returncode == 2, "builds the attribute `container`"


def test_two_creates_in_one_folder_get_one_system(fake: FakeHost) -> None:
    fake.turn(rendezvous=2)
    both = [
        threading.Thread(target=create, args=(fake, f"h-{agent}", f"{fake.flake(agent)}#{agent}"))
        for agent in ("iris", "moth")
    ]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert system_of(fake, "iris") == system_of(fake, "moth")


def test_two_creates_in_folders_of_their_own_do_not(fake: FakeHost, tmp_path: Path) -> None:
    fake.turn(rendezvous=2)
    both = []
    for agent in ("iris", "moth"):
        (tmp_path / agent).mkdir()
        words = (fake, f"h-{agent}", f"{fake.flake(agent)}#{agent}", tmp_path / agent)
        both.append(threading.Thread(target=create, args=words))
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert [f"nixos-system-{agent}" in system_of(fake, agent) for agent in ("iris", "moth")] == [True, True]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("create", "h-iris"), 25),
        (("create", "h-toolongname"), 2),
        (("create", "h/iris"), 255),
        (("destroy", "h-nobody"), 0),
        (("status", "h-nobody"), 2),
        (("status", "h-iris"), 0),
        (("start", "h-nobody"), 2),
        (("terminate", "h-iris"), 2),
        (("run", "h-iris", "--", "id"), 99),
        (("create", "h-iris", "--private-network"), 1),
    ],
)
def test_exit_codes(fake: FakeHost, words: tuple[str, ...], code: int) -> None:
    assert create(fake, "h-iris", f"{fake.flake('iris')}#iris") == 0
    assert fake.run("nixos-container", *words).returncode == code


def test_a_failed_build_leaves_conf_and_profile_folder(fake: FakeHost) -> None:
    fake.deploy("iris", "fail")
    assert create(fake, "h-iris", f"{fake.flake('iris')}#iris") == 2
    assert fake.host.conf("iris").exists()
    assert (fake.host.profiles / "h-iris").is_dir()
    assert create(fake, "h-iris", f"{fake.flake('iris')}#moth") == 25


def test_a_profile_that_cannot_be_set_removes_everything(fake: FakeHost) -> None:
    fake.turn(nix_env_fails=True)
    assert create(fake, "h-iris", f"{fake.flake('iris')}#iris") == 2
    assert [path for path in fake.host.remains("iris") if path.exists()] == []


def test_destroy_says_nothing_of_what_it_leaves(fake: FakeHost) -> None:
    assert create(fake, "h-iris", f"{fake.flake('iris')}#iris") == 0
    (fake.host.roots / "h-iris").mkdir()
    fake.turn(destroy_leaves=["root"])
    assert fake.run("nixos-container", "destroy", "h-iris").returncode == 0
    assert not fake.host.conf("iris").exists()
    assert (fake.host.roots / "h-iris").exists()


def test_a_line_break_ends_up_in_the_conf(fake: FakeHost) -> None:
    assert create(fake, "h-iris", f"{fake.flake('iris')}\nEXTRA_NSPAWN_FLAGS=--bind=/#iris") == 2
    assert "\nEXTRA_NSPAWN_FLAGS=--bind=/\n" in fake.host.conf("iris").read_text()


def test_an_empty_conf_of_anybody_ends_every_create(fake: FakeHost) -> None:
    fake.host.conf("other").touch()
    assert create(fake, "h-iris", f"{fake.flake('iris')}#iris") == 255


# ---------------------------------------------------------------------------------------- which hosts get such cages


@pytest.mark.anyio
@pytest.mark.root
async def test_a_nixos_host_gets_nixos_cages(
    fake: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "NIXOS"
    mark.touch()
    monkeypatch.setattr("privd.cages.probe.NIXOS_MARK", mark)
    monkeypatch.setattr("privd.cages.probe.NIXOS", fake.host)
    chosen = await choose(BackendChoice.AUTO, Launching.CHILDREN, tmp_path)
    assert isinstance(chosen, Nixos)
    assert chosen.flakes.folder == tmp_path / "flakes"
    assert (await report()).backend == "nixos"
    (fake.folder / "bin" / "nixos-container").unlink()
    assert (await choose(BackendChoice.AUTO, Launching.CHILDREN, tmp_path)).name != "nixos"
    with pytest.raises(Refused, match=r"boot\.enableContainers"):
        await choose(BackendChoice.NIXOS, Launching.CHILDREN, tmp_path)


@pytest.mark.anyio
@pytest.mark.root
async def test_another_host_is_told_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privd.cages.probe.NIXOS_MARK", tmp_path / "nowhere")
    with pytest.raises(Refused, match="this is no NixOS"):
        await choose(BackendChoice.NIXOS, Launching.CHILDREN, tmp_path)
    assert "nixos-container" not in [finding.subject for finding in (await report()).findings]
