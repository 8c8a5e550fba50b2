"""The units as files: systemd understands every line, and what it counts as exposure stays within a budget.

The score says only what is written. What holds is asked by `test_sandbox.py`.
"""

from typing import Final

import pytest

from hivectl.install import units
from tests.systemd.installed import Installed

pytestmark = [pytest.mark.systemd, pytest.mark.root]

EXPOSURE_MAX: Final = {
    "hive-brokerd.service": 0.5,
    "hive-webd.service": 0.5,
    "hive-egressd.service": 1.5,
    "hive-privd.service": 1.5,
    "hive-box@.service": 2.5,
    "hive-cages.service": 0.7,
}
EVERYWHERE: Final = frozenset(
    {
        "AmbientCapabilities=", "DevicePolicy=closed", "KeyringMode=private", "LimitCORE=0",
        "LockPersonality=yes", "MemoryDenyWriteExecute=yes", "NoNewPrivileges=yes", "PrivateDevices=yes",
        "PrivateIPC=yes", "PrivateMounts=yes", "PrivateTmp=yes", "ProtectClock=yes", "ProtectControlGroups=yes",
        "ProtectHome=yes", "ProtectHostname=yes", "ProtectKernelLogs=yes", "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes", "ProtectProc=invisible", "ProtectSystem=strict", "RemoveIPC=yes",
        "RestrictNamespaces=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "SystemCallArchitectures=native",
        "SystemCallErrorNumber=EPERM", "Restart=always", "WatchdogSec=30", "Type=notify",
    }
)  # fmt: skip
"""Of every daemon. Several of them change no score: without this list, one that is lost would not be missed."""
UNPRIVILEGED: Final = frozenset({"CapabilityBoundingSet=", "UMask=0077"})
WITHOUT_NETWORK: Final = frozenset(
    {"PrivateNetwork=yes", "IPAddressDeny=any", "RestrictAddressFamilies=AF_UNIX"}
)
SOCKETS: Final = {
    "privd/operator.sock": ("root", "hive-admin", "660"),
    "privd/swarm.sock": ("root", "hive-broker", "660"),
    "privd/egress.sock": ("root", "hive-egress", "660"),
    "privd/box.sock": ("root", "root", "600"),
    "brokerd/operator.sock": ("root", "hive-admin", "660"),
    "webd/operator.sock": ("root", "hive-admin", "660"),
    "egressd/operator.sock": ("root", "hive-admin", "660"),
    "egressd/swarm.sock": ("root", "hive-broker", "660"),
}


def lines(unit: str) -> set[str]:
    return {line.strip() for line in (units.SHIPPED / unit).read_text().splitlines()}


@pytest.mark.parametrize("unit", units.SERVICES)
def test_no_protection_is_lost(unit: str) -> None:
    wanted = EVERYWHERE
    if unit != "hive-privd.service":
        wanted |= UNPRIVILEGED
    if unit != "hive-egressd.service":
        wanted |= WITHOUT_NETWORK
    assert wanted - lines(unit) == set()


def test_every_service_has_a_budget_but_the_cage() -> None:
    services = {name for name in units.names() if name.endswith(".service")}
    assert services - EXPOSURE_MAX.keys() == {"hive-cage@.service"}


def test_systemd_understands_every_line(hive: Installed) -> None:
    files = [str(units.SYSTEM / name.replace("@.", "@iris.")) for name in units.names()]
    done = hive.lab.raw("systemd-analyze", "verify", "--recursive-errors=yes", "--man=no", *files)
    ours = [line for line in done.stderr.splitlines() if "hive" in line]
    assert (done.returncode, ours) == (0, [])


def test_a_misspelt_line_would_be_seen(hive: Installed) -> None:
    place = hive.lab.root / "etc/systemd/system/misspelt.service"
    place.write_text("[Service]\nExecStart=/bin/true\nProtectHme=yes\n")
    done = hive.lab.raw("systemd-analyze", "verify", "--recursive-errors=yes", "--man=no", "misspelt.service")
    place.unlink()
    assert done.returncode == 1
    assert "ProtectHme" in done.stderr


@pytest.mark.parametrize("unit", EXPOSURE_MAX)
def test_exposure_stays_within_its_budget(hive: Installed, unit: str) -> None:
    threshold = f"--threshold={round(EXPOSURE_MAX[unit] * 10)}"
    path = str(units.SYSTEM / unit)
    done = hive.lab.raw("systemd-analyze", "security", "--offline=true", "--no-pager", threshold, path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SOCKETS)
def test_a_socket_belongs_to_whom_it_is_for(hive: Installed, name: str) -> None:
    shown = hive.lab.run("stat", "--format=%F:%U:%G:%a", f"/run/hyperhive/{name}").strip()
    assert shown == ":".join(("socket", *SOCKETS[name]))


def test_no_socket_is_left_out_of_the_table(hive: Installed) -> None:
    there = hive.lab.run(
        "find", "/run/hyperhive", "-type", "s", "-not", "-path", "*/agents/*", "-printf", "%P\\n"
    )
    assert set(there.split()) == set(SOCKETS)


def test_folders_of_sockets_can_be_passed_and_not_listed(hive: Installed) -> None:
    shown = hive.lab.run("find", "/run/hyperhive", "-maxdepth", "1", "-type", "d", "-printf", "%u:%g:%m\\n")
    assert set(shown.split()) == {"root:root:711"}
