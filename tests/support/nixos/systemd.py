"""`systemctl` and `machinectl` of a made-up host, and the service manager of its `container@` units.

A unit runs a real systemd-nspawn with the words of the real unit's script, split and globbed as its shell does. It is
started again after a failure unless its drop-in says otherwise, and ends where a variable it reads is not set.
Standard library only.
"""

import fcntl
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import NoReturn

from tests.support.nixos.place import (
    CONFS,
    GCROOTS,
    HOST,
    PROFILES,
    ROOTS,
    STATE,
    STORE,
    UNITS,
    die,
    knobs,
    run,
    unit_state,
    until,
    write_state,
)

REGISTERED = ("/usr", "/bin", "/lib", "/lib64", "/etc/alternatives")


def drop_in(name: str) -> dict[str, str]:
    """What systemd read of it when it last read its units."""
    try:
        text = (STATE / f"{name}.drop-in").read_text()
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def systemctl(words: list[str]) -> None:
    verb, unit = words[0], words[-1]
    name = unit.removeprefix("container@").removesuffix(".service")
    match verb:
        case "show" if knobs().get("systemctl_silent"):
            die("Failed to connect to bus: Connection refused", 1)
        case "show":
            with one_at_a_time():
                show(name)
        case "daemon-reload":
            with one_at_a_time():
                reload_units()
        case "start" if unit_state(name)["active"] != "active":
            begin(name)
        case "stop":
            end(name, signal.SIGTERM, wait=True)
        case "kill":
            end(name, signal.SIGKILL, wait=False)
        case "reload":
            (STATE / f"{name}.reloaded").touch()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """As the real manager, which has one thread: nobody sees units that are half read."""
    with (STATE / "manager.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def reload_units() -> None:
    for read in STATE.glob("*.drop-in"):
        read.unlink()
    for folder in UNITS.glob("container@*.service.d"):
        container = folder.name.removeprefix("container@").removesuffix(".service.d")
        text = "".join(each.read_text() for each in sorted(folder.glob("*.conf")))
        (STATE / f"{container}.drop-in").write_text(text)


def show(name: str) -> None:
    state, read = unit_state(name), drop_in(name)
    files = sorted((UNITS / f"container@{name}.service.d").glob("*.conf"))
    same = (
        dict(line.split("=", 1) for file in files for line in file.read_text().splitlines() if "=" in line)
        == read
    )
    print(f"Result={state['result']}\nExecMainStatus={state['status']}\nActiveState={state['active']}")
    print(f"MainPID={state['main']}\nExecMainCode={state['code']}\nInvocationID={state['id']}\nControlGroup=")
    print(f"Restart={read.get('Restart', 'on-failure')}\nNeedDaemonReload={'no' if same else 'yes'}")


def environment_file(name: str) -> dict[str, str]:
    values = {}
    for line in (CONFS / f"{name}.conf").read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals:
            values[key] = value.removeprefix('"').removesuffix('"')
    return values


def start_script(name: str, conf: dict[str, str]) -> list[str]:
    """The command that the unit's script comes to; it ends where a variable it reads is not set."""
    root, profile = ROOTS / name, PROFILES / name
    for folder in (root / "usr/bin", root / "etc", root / "var/lib", root / "root", profile, GCROOTS / name):
        folder.mkdir(parents=True, exist_ok=True)
    for file in ("os-release", "machine-id"):
        (root / "etc" / file).touch()
    if "COPY_RESOLV_CONF" not in conf:
        die("COPY_RESOLV_CONF: unbound variable", 1)
    if conf.get("FLAKE") and not (profile / "system").exists():
        run("nixos-container", "update", name)
    words = ["systemd-nspawn", "--keep-unit", "-M", name, "-D", str(root)]
    if conf.get("PRIVATE_NETWORK") == "1":
        words.append("--private-network")
    users = conf.get("PRIVATE_USERS", "")
    if users:
        words.append(f"--private-users={users}")
    idmap = ":idmap" if users == "pick" or (users.isdecimal() and int(users) > 0) else ""
    if any(conf.get(key) for key in ("HOST_ADDRESS", "LOCAL_ADDRESS", "HOST_ADDRESS6", "LOCAL_ADDRESS6")):
        words.append("--network-veth")
    words += [f"--port={port}" for port in conf.get("HOST_PORT", "").split(",") if port]
    words += [f"--network-interface={each}" for each in conf.get("INTERFACES", "").split()]
    words += [
        "--kill-signal=SIGRTMIN+3",
        f"--bind-ro={STORE}:{STORE}{idmap}",
        f"--bind-ro={HOST}/daemon-socket:/nix/var/nix/daemon-socket{idmap}",
        f"--bind={profile}:/nix/var/nix/profiles{idmap}",
        f"--bind={GCROOTS / name}:/nix/var/nix/gcroots{idmap}",
        "--link-journal=try-guest",
    ]
    for word in conf.get("EXTRA_NSPAWN_FLAGS", "").split():
        words += glob(word) or [word]  # noqa: PTH207 - the word may be no path at all
    # Of this machine instead of a closure: no machined to register with, programs from /usr.
    words += ["--register=no", "--quiet", f"--bind-ro={(HOST / 'environment').resolve()}:/opt/hive/env"]
    words += [f"--bind-ro={place}" for place in REGISTERED if Path(place).exists()]
    return [*words, f"{conf.get('SYSTEM_PATH') or profile / 'system'}/init"]


def begin(name: str) -> None:
    """Start the unit and wait until its container is up, as the start job does."""
    (STATE / f"{name}.job").unlink(missing_ok=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            supervise(name)
        os._exit(0)
    os.wait()
    until((STATE / f"{name}.job").exists, "the start job")
    if unit_state(name)["active"] != "active":
        die(f"Job for container@{name}.service failed.", 1)


def supervise(name: str) -> NoReturn:
    """Be the service manager for one unit, until it stays ended."""
    while True:
        read = drop_in(name)
        output = os.open(
            read.get("StandardOutput", "append:/dev/null").removeprefix("append:"),
            os.O_WRONLY | os.O_APPEND | os.O_CREAT,
        )
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = one_life(name)
        state = unit_state(name)
        again = read.get("Restart", "on-failure") == "on-failure" and code != 0 and not state.get("stopping")
        if not again:
            os._exit(0)
        (STATE / f"{name}.restarted").touch()


def one_life(name: str) -> int:
    job = STATE / f"{name}.job"
    try:
        words = start_script(name, environment_file(name))
        if knobs().get("start_hangs_up"):
            words = ["systemd-nspawn", "--no-such-option"]
    except SystemExit:
        write_state(name, active="failed", result="exit-code", code=1, status=1)
        job.touch()
        return 1
    notify = STATE / f"{name}.notify"
    notify.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(notify))
        listener.settimeout(0.1)
        path = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "NOTIFY_SOCKET": str(notify)}
        nspawn = subprocess.Popen(words, stdin=subprocess.DEVNULL, env=path)
        write_state(
            name, active="activating", main=nspawn.pid, leader=0, stopping=False, id=os.urandom(16).hex()
        )
        while nspawn.poll() is None:
            try:
                told = listener.recv(4096).decode()
            except TimeoutError:
                continue
            found = re.search(r"X_NSPAWN_LEADER_PID=(\d+)", told)
            if found:
                write_state(name, leader=int(found[1]))
            if "READY=1" in told:
                write_state(name, active="active")
                job.touch()
    code = nspawn.returncode
    write_state(
        name,
        active="failed" if code else "inactive",
        result="success" if not code else "exit-code" if code > 0 else "signal",
        main=0,
        code=1 if code >= 0 else 2,
        status=abs(code),
    )
    job.touch()
    return code


def end(name: str, number: signal.Signals, *, wait: bool) -> None:
    state = unit_state(name)
    if not state["main"]:
        if number == signal.SIGKILL:
            die(f"Failed to kill unit container@{name}.service: Unit not loaded.", 1)
        return
    if wait:
        write_state(name, stopping=True)
    victims = [state["leader"], state["main"]] if number == signal.SIGKILL else [state["main"]]
    for pid in victims:
        if pid:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
    if wait:
        until(lambda: unit_state(name)["active"] in ("inactive", "failed"), "the end of the unit")


def machinectl(words: list[str]) -> None:
    state = unit_state(words[-1])
    if state["active"] != "active" or knobs().get("machinectl_silent"):
        die("Could not get path to machine: No machine known", 1)
    if words[0] == "show":
        print(state["leader"] if "--value" in words else f"Leader={state['leader']}")
    elif words[0] == "terminate":
        end(words[-1], signal.SIGKILL, wait=False)
