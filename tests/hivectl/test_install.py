"""`hivectl install` before it touches anything: what it refuses, what it renders, and that a dry run is dry.

What it does to a server is asked of a real systemd in `tests/systemd/test_install.py`.
"""

import fcntl
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from hivectl import places as known
from hivectl.__main__ import parser
from hivectl.install import command, release, remove, settings, units
from hivectl.install.machine import Machine
from hivectl.install.release import Release
from hivectl.places import SYSTEM_RUN, SYSTEM_STATE, Places
from hivectl.up.configuration import Agents, Cages, HiveSettings, Model, Web
from protocol.problem import Problem, Refused
from protocol.settings import Runner
from runtime.settings import SettingsFault

HERE = Places(SYSTEM_STATE, SYSTEM_STATE / "run")
RELEASE = Release(Path("/opt/hyperhive/python-1"), Path("/opt/hyperhive/cage-1"), None)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that could have an installed hive: its state folder."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(command, "BOOTED", tmp_path)
    monkeypatch.setattr(command, "SYSTEM_STATE", tmp_path / "state")
    return tmp_path / "state"


def machine(said: list[str], *, dry: bool) -> Machine:
    return Machine(lambda glyph, text: said.append(f"{glyph} {text}"), dry=dry)


def test_only_root_installs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    with pytest.raises(Refused, match="needs root") as refused:
        command.check_machine(HERE)
    assert refused.value.problem is Problem.DENIED


def test_without_systemd_there_is_another_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(command, "BOOTED", tmp_path / "nothing")
    with pytest.raises(Refused, match=r"not process 1\); a hive without it: ./hive up"):
        command.check_machine(HERE)


def test_an_installed_hive_has_one_place(server: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="leave --dir away"):
        command.check_machine(Places(tmp_path / "elsewhere", tmp_path / "run"))
    command.check_machine(Places(server, server / "run"))


@pytest.mark.parametrize("name", ["up.lock", "cages/iris/lock"])
def test_a_hive_of_up_is_not_taken_over_while_it_runs(server: Path, name: str) -> None:
    lock = server / name
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="stop it first") as refused:
            command.check_machine(Places(server, server / "run"))
        assert str(lock) in refused.value.detail
    command.check_machine(Places(server, server / "run"))


def test_two_at_a_time_are_one_too_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(units, "SYSTEM", tmp_path)
    with command.alone(), pytest.raises(Refused, match="at this moment") as refused, command.alone():
        raise AssertionError("both are at work")
    assert refused.value.problem is Problem.BUSY
    with command.alone():
        assert list(tmp_path.iterdir()) == []


def test_the_real_command_refuses_in_one_line() -> None:
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs this machine: the command would install a hive")
    for word in ("install", "uninstall"):
        words = [sys.executable, "-I", "-m", "hivectl", word, *(["--systemd"] if word == "install" else [])]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (HiveSettings(cages=Cages(backend="bwrap")), "cages.backend: an installed hive has nspawn cages"),
        (HiveSettings(web=Web(port=0)), "web.port: name one"),
        (HiveSettings(agents=Agents(runner=Runner.CLAUDE)), "agents.runner: Claude Code is not installed"),
    ],
)
def test_settings_that_units_cannot_have_are_refused(given: HiveSettings, why: str) -> None:
    with pytest.raises(SettingsFault, match=why):
        settings.check(given, RELEASE, Path("hive.toml"))
    settings.check(HiveSettings(), RELEASE, Path("hive.toml"))


@pytest.mark.parametrize(
    ("host", "port", "address"), [("127.0.0.1", 7_000, "127.0.0.1:7000"), ("::1", 80, "[::1]:80")]
)
def test_the_address_is_written_as_a_socket_unit_does(host: str, port: int, address: str) -> None:
    assert settings.address(HiveSettings(web=Web(host=host, port=port))) == address


def test_a_key_is_handed_over_by_systemd(tmp_path: Path) -> None:
    key = tmp_path / "key"
    with pytest.raises(SettingsFault, match="is not there"):
        settings.secrets(HiveSettings(model=Model(key_file=str(key))))
    key.touch()
    given = settings.secrets(HiveSettings(model=Model(key_file=str(key))))
    assert given["hive-privd.service"] == {"model-key": str(key)}
    assert not given.get("hive-egressd.service")


def test_a_dry_run_says_what_it_would_do_and_does_nothing(said: list[str], tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    dry = machine(said, dry=True)
    dry.write(tmp_path / "file", "content")
    dry.link(tmp_path / "link", "there")
    dry.remove(tmp_path / "there")
    assert said == [f"+ {tmp_path}/file", f"+ {tmp_path}/link → there", f"- {tmp_path}/there"]
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_what_is_as_it_should_be_is_left_alone_and_not_told(said: list[str], tmp_path: Path) -> None:
    first, second = (machine(said, dry=False) for _ in range(2))
    for real in (first, second):
        real.write(tmp_path / "file", "content", 0o600)
        real.link(tmp_path / "link", "file")
        real.remove(tmp_path / "nothing")
    assert said == [f"+ {tmp_path}/file", f"+ {tmp_path}/link → file"]
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert second.changed == set()


def test_a_file_is_never_written_through_a_link(said: list[str], tmp_path: Path) -> None:
    other, place = tmp_path / "other", tmp_path / "file"
    other.write_text("another's")
    place.symlink_to(other)
    machine(said, dry=False).write(place, "ours")
    assert (other.read_text(), place.is_symlink(), place.read_text()) == ("another's", False, "ours")


@pytest.mark.anyio
async def test_a_folder_that_was_half_made_is_made_anew(said: list[str], tmp_path: Path) -> None:
    half = tmp_path / ".folder.new"
    half.mkdir()
    (half / "old").touch()

    async def fill(fresh: Path) -> None:
        fresh.mkdir()
        (fresh / "new").touch()

    await machine(said, dry=False).make(tmp_path / "folder", fill)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]
    assert not half.exists()


@pytest.mark.anyio
async def test_a_command_that_fails_is_quoted(said: list[str]) -> None:
    with pytest.raises(Refused, match=r"ended with 2: .*No such file"):
        await machine(said, dry=False).run("ls", "/nothing/here")


def test_a_release_is_named_after_what_is_in_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "privd").mkdir()
    (tmp_path / "privd" / "__init__.py").write_text("a")
    monkeypatch.setattr(release, "OURS", tmp_path)
    monkeypatch.setattr(release, "_third_party", list)
    first = release._python_hash()
    assert release._python_hash() == first
    (tmp_path / "privd" / "__init__.py").write_text("b")
    assert release._python_hash() != first


def test_every_package_of_ours_is_released_but_the_cages() -> None:
    folders = {path.parent.name for path in release.OURS.glob("*/__init__.py")} - {
        "tests",
        "bench",
        "docs",
        "house",
    }
    assert set(release.PACKAGES) == folders - {"harness"}


def test_purging_asks_for_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with pytest.raises(Refused, match="add --confirm my-hive"):
        remove._confirm("my-hive", None)
    with pytest.raises(Refused, match="'other' is not this hive's name"):
        remove._confirm("my-hive", "other")
    remove._confirm("my-hive", "my-hive")


def test_an_installed_hive_is_found_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(known, "SYSTEM_SETTINGS", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HIVE_DIR", raising=False)
    assert known.places(None).state == tmp_path / "home" / "hyperhive"
    (tmp_path / "privd.toml").touch()
    found = known.places(None)
    assert (found.state, found.run, found.is_installed) == (SYSTEM_STATE, SYSTEM_RUN, True)
    assert found.settings == tmp_path / "hive.toml"
    (tmp_path / "home" / "hyperhive").mkdir(parents=True)
    (tmp_path / "home" / "hyperhive" / "hive.toml").touch()
    assert not known.places(None).is_installed, "somebody's own hive comes first"


def test_units_are_shipped_with_the_package() -> None:
    assert {f"hive-{daemon}.service" for daemon in units.DAEMONS} <= set(units.names())
    assert units.HTTP_SOCKET in units.sockets()


def test_the_flag_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["install"])
    assert "--systemd" in capsys.readouterr().err
    values: Namespace = parser().parse_args(["install", "--systemd", "--dry-run", "--admin", "ada"])
    assert (values.dry_run, values.admin) == (True, ["ada"])
