"""`hivectl install --systemd` on a server that had no hive, again on one that has, and `uninstall`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.systemd.installed import LINK, PREPARED, PYTHON, Installed, install
from tests.systemd.lab import CHECKOUT, HOUSE, Lab, LabFault, lab, until

pytestmark = [pytest.mark.systemd, pytest.mark.root, pytest.mark.cage]

KEY: Final = Path("/root", "sk-of-the-lab")
SETTINGS: Final = f"""
name = "lab"
[web]
port = 7100
[model]
credential = "egress"
key_file = "{KEY}"
"""
LEFT: Final = ("/var/lib/hyperhive", "/etc/hyperhive", "/var/lib/hyperhive-blocks")
NOT_OURS: Final = re.compile(
    r"^/(?:proc|sys|dev|tmp|run/(?:systemd|user|log|host)|var/log|var/lib/systemd|var/tmp|usr/(?!local)|etc/(?:\.pwd\.lock|(?:passwd|group|g?shadow)-?$))"
)
"""What changes while a machine runs."""
AGAIN: Final = ("/usr/local/bin/hivectl", "install", "--systemd")
WHOLE: Final = (str(PYTHON), "-I", "-m", "hivectl")


def files(machine: Lab) -> set[str]:
    skipped = [
        word for place in ("/usr", str(CHECKOUT), str(HOUSE)) for word in ("-path", place, "-prune", "-o")
    ]
    listed = machine.raw("find", "/", "-xdev", *skipped, "-print").stdout.splitlines()
    local = machine.raw("find", "/usr/local", "/run").stdout.splitlines()
    return {path for path in (*listed, *local) if not NOT_OURS.match(path)}


def accounts(machine: Lab) -> str:
    return machine.run("cat", "/etc/passwd", "/etc/group")


@pytest.fixture(scope="module")
def server() -> Iterator[Lab]:
    """A server with a key and settings, and no hive."""
    with lab() as running:
        (running.root / "etc/hyperhive").mkdir()
        (running.root / "etc/hyperhive/hive.toml").write_text(SETTINGS)
        key = running.root / KEY.relative_to("/")
        key.write_text("sk-ant-secret\n")
        key.chmod(0o600)
        yield running


def refused(machine: Lab, *words: str) -> str:
    done = machine.as_unit(*WHOLE, *words, environment=PREPARED)
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_a_dry_run_says_everything_and_does_nothing(server: Lab) -> None:
    before, people = files(server), accounts(server)
    said = install(server, "--dry-run")
    assert "nothing was done" in said
    for told in (
        "/etc/systemd/system/hive-privd.service",
        "/opt/hyperhive/python",
        "systemd-sysusers",
        "daemon-reload",
    ):
        assert told in said
    assert (files(server), accounts(server)) == (before, people)


def test_refuses_a_port_that_somebody_holds(server: Lab) -> None:
    server.run(
        "systemd-run", "--unit=holder", "/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "7100"
    )
    listening = ("/usr/bin/python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 7100))")
    until(lambda: server.raw(*listening).returncode == 0, "somebody else's server")
    assert "cannot listen at 127.0.0.1:7100: Address already in use" in refused(
        server, "install", "--systemd"
    )
    server.systemctl("stop", "holder.service")
    assert not server.path("/opt/hyperhive").exists()


def test_refuses_while_a_hive_of_up_runs_there(server: Lab) -> None:
    server.run("mkdir", "/var/lib/hyperhive")
    server.run(
        "systemd-run",
        "--unit=holder",
        "flock",
        "--no-fork",
        "/var/lib/hyperhive/up.lock",
        "sleep",
        "infinity",
    )
    until(
        lambda: server.raw("flock", "--nonblock", "/var/lib/hyperhive/up.lock", "true").returncode != 0,
        "the lock is held",
    )
    assert "a hive that was started by `up` runs" in refused(server, "install", "--systemd")
    server.systemctl("stop", "holder.service")
    server.run("rm", "-r", "/var/lib/hyperhive")


def test_a_hive_that_does_not_come_up_says_why_and_can_be_removed(server: Lab) -> None:
    before, place = files(server), server.root / "etc/hyperhive/hive.toml"
    place.write_text('[model]\nhosts = ["https://x/y"]\n')
    said = refused(server, "install", "--systemd")
    assert "egressd did not come up: its unit does not start" in said
    assert "model_hosts" in said
    hive = Installed(server, said)
    hive.uninstall("--purge", "--confirm", server.run("uname", "--nodename").strip())
    assert files(server) - before == set()
    assert "no hive is installed" in refused(server, "uninstall")
    place.parent.mkdir(exist_ok=True)
    place.write_text(SETTINGS)


def test_installs_installs_again_and_leaves_nothing(server: Lab) -> None:
    """One story, because each part stands on the one before."""
    before, people = files(server), accounts(server)
    said = install(server)
    hive = Installed(server, said)
    assert LINK.search(said)
    assert "127.0.0.1:7100" in said
    _holds_the_key_out_of_sight(hive)
    _is_told_to_start_at_boot(hive)
    _is_there_again_after_a_reboot(hive)
    _again_changes_nothing(hive)
    _settings_apply_by_installing_again(hive)
    _a_new_program_restarts_daemons_and_no_cage(hive)
    assert "hello" in hive.answer("iris", "hello again")["body"]
    _uninstall_keeps_state(hive, people)
    _comes_back_with_its_state(hive)
    _purge_leaves_nothing(hive)
    assert accounts(server) == people
    assert files(server) - before == set()


def test_takes_over_what_a_hive_of_up_left(server: Lab) -> None:
    """Its agents with their uids, notes and messages, under other users for the daemons."""
    given = [f"--setenv={name}={value}" for name, value in PREPARED.items()]
    server.run("systemd-run", "--unit=up", "--property=KillMode=mixed", *given, "--", *WHOLE, "up")
    before = Installed(server, "", command=(*WHOLE,))
    until(lambda: LINK.search(server.journal("up.service")), "the hive is up")
    before.answer("iris", "remember what was")
    server.systemctl("stop", "up.service")
    hive = Installed(server, install(server))
    assert "remember what was" in json.dumps(hive.hivectl("messages"))
    assert server.run("stat", "--format=%U:%a", "/var/lib/hyperhive/broker").strip() == "hive-broker:700"
    assert "what was" in server.run("grep", "--recursive", "what was", "/var/lib/hyperhive/agents/iris/state")
    assert "hello" in hive.answer("iris", "hello in another house")["body"]
    hive.uninstall("--purge", "--confirm", server.run("uname", "--nodename").strip())


def _holds_the_key_out_of_sight(hive: Installed) -> None:
    """The service manager handed a file of root's to egressd, and to nobody else."""
    told = hive.lab.run("cat", "/etc/hyperhive/egressd.toml")
    place = "/run/credentials/hive-egressd.service/account-default"
    assert place in told
    assert hive.lab.run("cat", place) == "sk-ant-secret\n"
    for user in ("hive-broker", "hive-web", "nobody"):
        assert hive.lab.raw("setpriv", f"--reuid={user}", "--clear-groups", "cat", place).returncode != 0


def _is_told_to_start_at_boot(hive: Installed) -> None:
    assert hive.lab.systemctl("is-enabled", "hyperhive.target").strip() == "enabled"
    assert "hyperhive.target" in hive.lab.shown("multi-user.target", "Wants")["Wants"]


def _is_there_again_after_a_reboot(hive: Installed) -> None:
    """Cages that ran run again, without anybody having done anything."""
    hive.answer("iris", "remember before the reboot")
    hive.lab.reboot()
    assert hive.lab.is_active("hyperhive.target")
    until(lambda: set(hive.leaders()) == {"hm1nd", "iris"}, "the cages are there")
    assert "hello" in hive.answer("iris", "hello after the reboot")["body"]
    assert "before the reboot" in json.dumps(hive.hivectl("messages"))


def _again_changes_nothing(hive: Installed) -> None:
    leaders = hive.leaders()
    done = hive.lab.as_unit(*AGAIN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if "  + " in line or "  - " in line] == []
    assert hive.leaders() == leaders


def _settings_apply_by_installing_again(hive: Installed) -> None:
    place, leaders = hive.lab.root / "etc/hyperhive/hive.toml", hive.leaders()
    place.write_text(SETTINGS.replace("7100", "7200"))
    done = hive.lab.as_unit(*AGAIN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "http://127.0.0.1:7200/login" in done.stdout
    listening = hive.lab.shown("hive-webd-http.socket", "Listen")["Listen"]
    assert listening == "127.0.0.1:7200 (Stream)"
    assert hive.leaders() == leaders


def _a_new_program_restarts_daemons_and_no_cage(hive: Installed) -> None:
    """An installation of another version: what is there bears another name, as if it were older."""
    opt = hive.lab.root / "opt/hyperhive"
    (older,) = opt.glob("python-*")
    (opt / "python").unlink()
    older.rename(opt / "python-000000000000")
    (opt / "python").symlink_to("python-000000000000")
    leaders, was = hive.leaders(), hive.lab.main_pid("hive-privd.service")
    hive.install()
    assert str((opt / "python").readlink()) != "python-000000000000"
    assert hive.lab.main_pid("hive-privd.service") != was
    assert hive.leaders() == leaders
    assert not (opt / "python-000000000000").exists()


def _uninstall_keeps_state(hive: Installed, people: str) -> None:
    said = hive.uninstall()
    assert said.splitlines()[-1] == "left where it is: " + ", ".join(LEFT)
    assert accounts(hive.lab) == people
    listed = hive.lab.systemctl("list-units", "--all", "--plain", "--no-legend", "h*").split()
    assert [word for word in listed if word.startswith(("hive-", "hyperhive"))] == []
    kept = hive.lab.run("find", "/var/lib/hyperhive/broker", "-not", "-user", "root")
    assert kept == "", "files of users that are no more"
    assert [path.name for path in (hive.lab.root / "etc/hyperhive").iterdir()] == ["hive.toml"]
    assert not hive.lab.path("/opt/hyperhive").exists()
    assert not hive.lab.path("/run/hyperhive").exists()


def _comes_back_with_its_state(hive: Installed) -> None:
    hive.install()
    told = json.dumps(hive.hivectl("messages"))
    assert "hello again" in told


def _purge_leaves_nothing(hive: Installed) -> None:
    with pytest.raises(LabFault, match="add --confirm lab"):
        hive.uninstall("--purge")
    with pytest.raises(LabFault, match="not this hive's name"):
        hive.uninstall("--purge", "--confirm", "another")
    assert hive.leaders()
    said = hive.uninstall("--purge", "--confirm", "lab")
    assert said.splitlines()[-1] == "left where it is: nothing"
