"""An installed hive at work: a message is answered from a nested cage, and every daemon is restarted, killed or hung.

The cages live on.
"""

import http.client
import json
from typing import Final

import pytest

from hivectl.install import units
from tests.systemd.installed import LINK, Installed
from tests.systemd.lab import until

pytestmark = [pytest.mark.systemd, pytest.mark.root, pytest.mark.cage]

AGENTS: Final = {"hm1nd", "iris"}
CAGES: Final = {f"hive-cage@{agent}.service" for agent in AGENTS}
ORDERING: Final = """
import socket, time
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as call:
    call.connect("/run/hyperhive/privd/box.sock")
    time.sleep(600)
"""
ON_THE_WAY: Final = {"hive-privd.service", "hive-brokerd.service"}
"""Of a message to an agent that needs no model."""
HUNG: Final = "[Service]\nWatchdogSec=2\n"


def idle(hive: Installed) -> bool:
    status = json.loads(hive.lab.raw("hivectl", "--json", "status").stdout)
    agents = status["agents"]
    return set(agents) >= AGENTS and all(agents[name]["agent"]["activity"] == "idle" for name in AGENTS)


def units_of(hive: Installed, pattern: str) -> list[str]:
    listed = hive.lab.systemctl("list-units", "--plain", "--no-legend", pattern)
    return [line.split()[0] for line in listed.split("\n") if line]


def restarts(hive: Installed, unit: str) -> int:
    return int(hive.lab.shown(unit, "NRestarts")["NRestarts"])


def test_a_message_is_answered_from_a_cage(hive: Installed) -> None:
    assert "iris" in hive.answer("hm1nd", "tell iris hello")["body"]


def test_an_agents_files_are_read_in_a_box_that_is_a_unit(hive: Installed) -> None:
    """An installed privd has lost the power to make a box, and openat2, by which a box keeps to its folder."""
    hive.answer("iris", "remember the lab")
    assert "notes.md" in hive.lab.run("hivectl", "files", "iris")
    assert "the lab" in hive.lab.run("hivectl", "cat", "iris", "notes.md")
    assert hive.lab.journal("hive-box@*").count("Started hive-box@") >= 1
    until(lambda: not units_of(hive, "hive-box@*"), "the box is gone")


def test_a_box_goes_with_the_privd_that_ordered_it(hive: Installed) -> None:
    call = hive.lab.raw("systemd-run", "--unit=ordering", "/usr/bin/python3", "-I", "-c", ORDERING)
    assert call.returncode == 0, call.stderr
    until(lambda: units_of(hive, "hive-box@*"), "a box")
    hive.lab.systemctl("kill", "--signal=SIGKILL", "ordering.service")
    until(lambda: not units_of(hive, "hive-box@*"), "the box is gone")
    hive.lab.raw("systemctl", "reset-failed", "ordering.service")


def test_cages_are_units_with_limits_and_without_a_network(hive: Installed) -> None:
    leaders = hive.leaders()
    assert set(leaders) == AGENTS
    for agent in AGENTS:
        shown = hive.lab.shown(f"hive-cage@{agent}.service", "MemoryMax", "TasksMax", "Slice", "Restart")
        assert shown["Slice"] == "hyperhive-cages.slice"
        assert shown["Restart"] == "no"
        assert int(shown["MemoryMax"]) > 0
        assert int(shown["TasksMax"]) > 0


def test_the_dashboard_answers_at_the_port_that_systemd_holds(hive: Installed) -> None:
    script = (
        "import http.client; c = http.client.HTTPConnection('127.0.0.1', 7000); c.request('GET', '/login');"
        "print(c.getresponse().status)"
    )
    assert hive.lab.run("/usr/bin/python3", "-I", "-c", script).strip() == str(http.client.OK)
    assert LINK.search(hive.said)
    assert hive.hivectl("login")["url"].startswith("http://127.0.0.1:7000/login#code=")


def test_only_operators_come_in(hive: Installed) -> None:
    """The kernel turns everybody away but root and the members of one group."""
    hive.lab.run("useradd", "--no-create-home", "--groups", "hive-admin", "ada")
    hive.lab.run("useradd", "--no-create-home", "eve")
    as_user = ("setpriv", "--init-groups", "--reset-env")
    ada = hive.lab.raw(*as_user, "--reuid=ada", "--regid=ada", "/usr/local/bin/hivectl", "status")
    eve = hive.lab.raw(*as_user, "--reuid=eve", "--regid=eve", "/usr/local/bin/hivectl", "status")
    for name in ("ada", "eve"):
        hive.lab.run("userdel", name)
    assert ada.returncode == 0, ada.stderr
    assert "iris" in ada.stdout
    assert eve.returncode != 0
    assert "hive-admin" in eve.stdout + eve.stderr


@pytest.mark.parametrize("service", units.SERVICES)
@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_daemon_that_goes_comes_back_and_cages_stay(hive: Installed, service: str, how: str) -> None:
    leaders, was = hive.leaders(), hive.lab.main_pid(service)
    if how == "restart":
        hive.lab.systemctl("restart", service)
    else:
        hive.lab.systemctl("kill", "--signal=SIGKILL", "--kill-whom=main", service)
    until(
        lambda: hive.lab.is_active(service) and hive.lab.main_pid(service) not in (0, was),
        f"another {service}",
    )
    until(lambda: idle(hive), "the agents are there")
    assert hive.leaders() == leaders
    if how == "kill" and service in ON_THE_WAY:
        assert "hello" in hive.answer("iris", "hello, who answers?")["body"]


def test_a_daemon_that_hangs_is_replaced(hive: Installed) -> None:
    service = "hive-egressd.service"
    place = hive.lab.path(f"/run/systemd/system/{service}.d")
    place.mkdir(parents=True)
    (place / "hung.conf").write_text(HUNG)
    hive.lab.systemctl("daemon-reload")
    hive.lab.systemctl("restart", service)
    before = restarts(hive, service)
    hive.lab.systemctl("kill", "--signal=SIGSTOP", "--kill-whom=main", service)
    until(lambda: restarts(hive, service) > before and hive.lab.is_active(service), f"another {service}")
    (place / "hung.conf").unlink()
    hive.lab.systemctl("daemon-reload")
    hive.lab.systemctl("restart", service)
    assert "watchdog" in hive.lab.journal(service).lower()


def test_a_daemon_with_broken_settings_is_not_tried_for_ever(hive: Installed) -> None:
    service, place = "hive-webd.service", hive.lab.root / "etc/hyperhive/webd.toml"
    good = place.read_text()
    place.write_text("port = 'seven'\n")
    before = restarts(hive, service)
    hive.lab.raw("systemctl", "restart", service)
    until(lambda: hive.lab.shown(service, "ActiveState")["ActiveState"] == "failed", "webd gives up")
    assert restarts(hive, service) in (0, before)
    assert "port" in hive.lab.journal(service)
    place.write_text(good)
    hive.lab.systemctl("restart", service)


def active(hive: Installed) -> list[str]:
    listed = hive.lab.systemctl(
        "list-units", "--plain", "--no-legend", "--state=active,activating,deactivating", "hive-*"
    )
    return [line.split()[0] for line in listed.split("\n") if line]


def test_all_of_it_stops_in_good_order_and_comes_back(hive: Installed) -> None:
    """Cages first, by a request that lets a turn end, so that the next start knows which of them ran."""
    began = hive.lab.run("date", "+%F %T.%6N").strip()
    hive.lab.systemctl("stop", "hyperhive.target")
    until(lambda: active(hive) == [], "nothing runs")
    told = hive.lab.run("journalctl", "--no-pager", "--output=json", f"--since={began}", "_PID=1")
    records = [json.loads(line) for line in told.splitlines()]
    ended = [record["UNIT"] for record in records if "Deactivated successfully" in record["MESSAGE"]]
    assert set(ended) >= {*CAGES, *units.SERVICES}
    assert max(ended.index(cage) for cage in CAGES) < min(ended.index(service) for service in units.SERVICES)
    assert "Traceback" not in hive.lab.journal("hive-cages.service")
    hive.lab.systemctl("start", "hyperhive.target")
    until(lambda: idle(hive), "the agents are there again")
    assert set(hive.leaders()) == AGENTS


def test_nothing_of_it_failed_unseen(hive: Installed) -> None:
    failed = hive.lab.systemctl("list-units", "--plain", "--no-legend", "--state=failed").split("\n")
    assert [line for line in failed if line] == []
