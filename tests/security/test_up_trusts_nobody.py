"""`hivectl up` believes what stands in its folder, so root starts no hive where somebody else can or could write."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hivectl.places import Places
from hivectl.up import configuration, ground
from runtime.settings import SettingsFault
from tests.security.population import STRANGER

pytestmark = pytest.mark.root

PLANTED = '[model]\nkey_file = "/etc/shadow"\n'


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in /tmp, which is everybody's, that root made and closed."""
    with TemporaryDirectory(prefix="hive-ground-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def check(state: Path) -> None:
    ground.check(Places(state, state / "run"))


def test_roots_own_folder_in_a_sticky_one_is_fine(place: Path) -> None:
    check(place)
    check(place / "not" / "there" / "yet")
    (place / "hive.toml").write_text("")
    check(place)


def test_a_folder_made_by_somebody_else(place: Path) -> None:
    """As anybody may do in /tmp before root does."""
    os.chown(place, *(STRANGER.uid, STRANGER.gid))
    with pytest.raises(SettingsFault, match=f"belongs to uid {STRANGER.uid}"):
        check(place)


def test_a_folder_below_one_of_somebody_else(place: Path) -> None:
    state = place / "theirs" / "mine"
    state.mkdir(parents=True)
    os.chown(place / "theirs", *(STRANGER.uid, STRANGER.gid))
    with pytest.raises(SettingsFault, match=f"theirs belongs to uid {STRANGER.uid}"):
        check(state)


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o775])
@pytest.mark.parametrize("which", ["parent", "state"])
def test_a_folder_that_others_may_write(place: Path, which: str, mode: int) -> None:
    state = place / "parent" / "state"
    state.mkdir(parents=True)
    (open_one,) = [path for path in (state, state.parent) if path.name == which]
    os.chown(open_one, 0, STRANGER.gid)
    open_one.chmod(mode)
    with pytest.raises(SettingsFault, match="others may write"):
        check(state)


@pytest.mark.parametrize("how", ["owner", "everybody", "group", "link"])
def test_settings_that_somebody_else_may_write(place: Path, how: str) -> None:
    settings = place / "hive.toml"
    settings.write_text(PLANTED)
    match how:
        case "owner":
            os.chown(settings, STRANGER.uid, STRANGER.gid)
        case "everybody":
            settings.chmod(0o646)
        case "group":
            os.chown(settings, 0, STRANGER.gid)
            settings.chmod(0o664)
        case "link":
            real = place / "elsewhere"
            settings.rename(real)
            os.chown(real, STRANGER.uid, STRANGER.gid)
            settings.symlink_to(real)
    with pytest.raises(SettingsFault):
        check(place)


def test_a_link_of_roots_is_followed_and_judged(place: Path) -> None:
    (place / "real").mkdir()
    (place / "link").symlink_to("real")
    check(place / "link" / "state")
    (place / "real").chmod(0o777)
    with pytest.raises(SettingsFault, match="others may write"):
        check(place / "link" / "state")


def test_a_link_of_somebody_else_is_refused_wherever_it_leads(place: Path) -> None:
    (place / "real").mkdir()
    link = place / "link"
    link.symlink_to("real")
    os.chown(link, STRANGER.uid, STRANGER.gid, follow_symlinks=False)
    with pytest.raises(SettingsFault, match=f"belongs to uid {STRANGER.uid}"):
        check(link / "state")


def test_links_in_a_circle_end(place: Path) -> None:
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    with pytest.raises(SettingsFault, match="too many symbolic links"):
        check(place / "a" / "state")


@pytest.mark.parametrize("name", ground.BELIEVED)
def test_a_planted_folder_inside(place: Path, name: str) -> None:
    """A record of an agent, a rendered configuration: privd would believe them."""
    (place / "hive.toml").write_text("")
    (place / name).mkdir()
    os.chown(place / name, STRANGER.uid, STRANGER.gid)
    with pytest.raises(SettingsFault, match=f"{name}: belongs to uid {STRANGER.uid}"):
        check(place)


@pytest.mark.whole
@pytest.mark.parametrize("planted", ["a link", "settings"])
def test_the_command_itself_refuses_before_it_reads_or_writes(place: Path, planted: str) -> None:
    victim = place / "victim"
    trap = place / "trap"
    trap.mkdir()
    match planted:
        case "a link":
            (trap / "hive.toml").symlink_to(victim)
        case "settings":
            (trap / "hive.toml").write_text(PLANTED)
    os.chown(trap, STRANGER.uid, STRANGER.gid)
    done = subprocess.run(
        [sys.executable, "-I", "-m", "hivectl", "--dir", str(trap), "up"],
        capture_output=True, text=True, timeout=60, check=False, cwd="/",
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert planted == "a link" or f"belongs to uid {STRANGER.uid}" in done.stderr
    assert not victim.exists()
    assert {path.name for path in trap.iterdir()} == {"hive.toml"}


def test_settings_are_made_unwritable_whatever_the_umask(place: Path) -> None:
    (place / "state").mkdir()
    done = subprocess.Popen(
        [sys.executable, "-I", "-m", "hivectl", "--dir", str(place / "state"), "up", "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/", umask=0,
        env={"HIVE_CAGE_ENV": "/nonexistent"},
    )  # fmt: skip
    said, _ = done.communicate(timeout=60)
    assert "no environment for cages" in said
    written = [path for path in (place / "state").rglob("*") if path.stat().st_mode & 0o022]
    assert written == []
    assert (place / "state" / "hive.toml").stat().st_mode & 0o777 == 0o644


def test_a_home_is_not_shown_to_agents_because_the_cli_lies_in_it(place: Path) -> None:
    """HIVE_CLAUDE names a program, and its whole folder is bound into every cage that runs it."""
    (place / "claude").write_text("")
    assert configuration.claude_folder(place / "claude") == place
    (place / ".ssh").mkdir()
    with pytest.raises(SettingsFault, match=r"agents would see all of it, '\.ssh' too"):
        configuration.claude_folder(place / "claude")
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "link").symlink_to(place / "claude")
    with pytest.raises(SettingsFault, match="agents would see"):
        configuration.claude_folder(place / "elsewhere" / "link")
    with pytest.raises(SettingsFault, match="cannot be read"):
        configuration.claude_folder(place / "nowhere" / "claude")
