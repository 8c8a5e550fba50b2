"""What whoever takes over brokerd, webd or egressd of an embedded hive has in hand: a uid, and nothing beside it."""

import subprocess
from pathlib import Path

import pytest

from tests.security.peers import User
from tests.support.hive import RunningHive

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

DAEMONS = {"brokerd": "broker", "webd": "web", "egressd": "egress"}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_is_its_uid_and_nothing_else(
    secure_hive: RunningHive, users: dict[str, User], daemon: str
) -> None:
    pid, me = secure_hive.daemon_pid(daemon), users[DAEMONS[daemon]]
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert set(status["Uid"].split()) == {str(me.uid)}
    assert set(status["Gid"].split()) == {str(me.gid)}
    assert status["Groups"].split() == []
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert "Max core file size        0                    0" in limits


def test_the_broker_has_no_network(secure_hive: RunningHive) -> None:
    pid = secure_hive.daemon_pid("brokerd")
    assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    links = subprocess.run(
        ["nsenter", "--target", str(pid), "--net", "cat", "/proc/net/dev", "/proc/net/route", "/proc/net/if_inet6"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    names = [line.split(":")[0].strip() for line in links.splitlines() if ":" in line]
    assert names == ["lo"]
    assert len([line for line in links.splitlines() if line.startswith("lo\t")]) == 0, "a route"


@pytest.mark.parametrize("daemon", [*DAEMONS, "privd"])
def test_a_daemon_holds_nothing_open_that_is_not_its_own(secure_hive: RunningHive, daemon: str) -> None:
    """Its log, its settings' neighbours, its sockets: no database, log or lock of another leaked into it."""
    pid = secure_hive.daemon_pid(daemon)
    own = {"brokerd": "broker/", "webd": "web/", "privd": "audit."}.get(daemon, "-/")
    state = str(secure_hive.places.state)
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = str(entry.readlink())
        if target.startswith(state):
            inside = target.removeprefix(state).lstrip("/")
            assert inside == f"log/{daemon}.log" or inside.startswith(own), inside


def test_the_lifeline_cannot_be_written_by_a_daemon(secure_hive: RunningHive, users: dict[str, User]) -> None:
    """All daemons wait for the end of one pipe: whoever could write to it, or close it for others, would stop root."""
    for daemon, name in DAEMONS.items():
        pipe = f"/proc/{secure_hive.daemon_pid(daemon)}/fd/0"
        done = subprocess.run(
            ["/usr/bin/python3", "-I", "-S", "-c", "import sys; open(sys.argv[1], 'wb', 0).write(b'x')", pipe],
            capture_output=True, text=True, check=False, user=users[name].uid, group=users[name].gid, extra_groups=[],
        )  # fmt: skip
        assert "PermissionError" in done.stderr
