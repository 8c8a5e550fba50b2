"""The nixos backend under a real systemd and machined: conf, drop-in, limits, stop and crash of a `container@` unit.

The unit is written after NixOS's own; `nixos-container` and Nix are made up (tests/support/nixos), nspawn is real.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.systemd.installed import PYTHON
from tests.systemd.lab import CHECKOUT, Lab, lab

pytestmark = [pytest.mark.systemd, pytest.mark.root, pytest.mark.cage]

HIVE = "/opt/nixos-hive"
HOST = f"{HIVE}/host"
UNIT = "container@h-iris.service"
TEMPLATE = f"""[Service]
Environment=root={HOST}/roots/%i INSTANCE=%i
EnvironmentFile=-{HOST}/etc/%i.conf
ExecStart={HOST}/start
Type=notify
TimeoutStartSec=1min
Restart=on-failure
RestartForceExitStatus=133
SuccessExitStatus=133
Slice=machine.slice
Delegate=true
KillMode=mixed
KillSignal=TERM
DevicePolicy=closed
"""
START = f"""#!/bin/bash
set -eu
mkdir -p "$root/usr/bin" "$root/etc" "$root/var/lib" {HOST}/gcroots/"$INSTANCE"
touch "$root/etc/os-release" "$root/etc/machine-id"
if [ "$COPY_RESOLV_CONF" = 1 ]; then cp /etc/resolv.conf "$root/etc/"; fi
flags=(--private-network --private-users="$PRIVATE_USERS")
exec systemd-nspawn --keep-unit -M "$INSTANCE" -D "$root" "${{flags[@]}}" --kill-signal=SIGRTMIN+3 \\
  --bind-ro={HOST}/store:{HOST}/store:idmap --bind-ro={HOST}/daemon-socket:/nix/var/nix/daemon-socket:idmap \\
  --bind={HOST}/profiles/"$INSTANCE":/nix/var/nix/profiles:idmap --bind-ro=/usr --bind-ro=/usr/bin:/bin \\
  --bind-ro=/usr/lib:/lib --bind-ro=/usr/lib64:/lib64 --link-journal=try-guest $EXTRA_NSPAWN_FLAGS "$SYSTEM_PATH/init"
"""
MAKE = f"""
import os
from pathlib import Path
from tests.support.nixos.host import FakeHost
fake = FakeHost(Path("{HOST}"))
fake.make("/usr/bin/sleep infinity")
fake.deploy("iris")
for name in ("systemctl", "machinectl"):
    (fake.folder / "bin" / name).unlink()
    (fake.folder / "bin" / name).symlink_to("/usr/bin/" + name)
os.rmdir(fake.folder / "units")
(fake.folder / "units").symlink_to("/run/systemd/system")
"""


@pytest.fixture(scope="module")
def nixos() -> Iterator[Lab]:
    with lab() as running:
        made = running.as_unit("sh", "-c", f"cd {CHECKOUT} && exec {PYTHON} -c '{MAKE}'")
        assert made.returncode == 0, made.stderr
        running.path(f"{HOST}/start").write_text(START)
        running.path(f"{HOST}/start").chmod(0o755)
        running.path("/etc/systemd/system/container@.service").write_text(TEMPLATE)
        running.systemctl("daemon-reload")
        yield running


def driver(running: Lab, *requests: dict[str, Any]) -> list[Any]:
    """What a privd of a few lines answers, one after the other; it then ends, as privd may."""
    lines = "\n".join(json.dumps(request) for request in requests)
    running.path(f"{HIVE}/requests").write_text(lines + "\n")
    words = f"cd {CHECKOUT} && exec {PYTHON} -m tests.privd.cages.driver nixos {HIVE} /usr <{HIVE}/requests"
    done = running.as_unit("sh", "-c", words)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_life_under_systemd(nixos: Lab) -> None:
    (started,) = driver(nixos, {"do": "start", "agent": "iris"})
    assert "problem" not in started, started
    shown = nixos.shown(
        UNIT, "ActiveState", "Restart", "RestartForceExitStatus", "TasksMax", "MemoryMax", "MainPID"
    )
    assert (shown["ActiveState"], shown["Restart"], shown["RestartForceExitStatus"]) == ("active", "no", "")
    assert (shown["TasksMax"], shown["MemoryMax"]) == ("48", str(192 * 1024 * 1024))
    held, lacks = started["value"]["held"], started["value"]["degraded"]
    assert {"memory", "tasks", "cpu"} == set(held), (held, lacks)
    machine = nixos.run("machinectl", "show", "h-iris", "--property=Leader", "--value").strip()
    assert started["value"]["leader"] == int(machine)

    adopted, stopped = driver(
        nixos, {"do": "adopt", "agent": "iris"}, {"do": "stop", "agent": "iris", "grace_s": 30}
    )
    assert adopted["value"]["leader"] == int(machine), "the same cage, found again by another privd"
    assert stopped["value"]["how"] == "exit", stopped
    assert nixos.shown(UNIT, "ActiveState")["ActiveState"] in ("inactive", "failed")


def test_a_crash_is_left_to_privd(nixos: Lab) -> None:
    (started,) = driver(nixos, {"do": "start", "agent": "iris"})
    nixos.run("kill", "-KILL", str(started["value"]["leader"]))
    nixos.run("sh", "-c", f"while systemctl is-active -q {UNIT}; do sleep 0.05; done")
    assert nixos.shown(UNIT, "NRestarts")["NRestarts"] == "0"
    told, again, removed = driver(
        nixos,
        {"do": "adopt", "agent": "iris"},
        {"do": "adopt", "agent": "iris"},
        {"do": "remove", "agent": "iris"},
    )
    assert told["value"]["how"] in ("exit", "signal"), told
    assert again["value"] is None
    assert removed["value"] == []
    assert not nixos.path(f"/run/systemd/system/{UNIT}.d").exists()
