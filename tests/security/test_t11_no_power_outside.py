"""T11: what is made inside a cage has no power outside it, and whoever lives there has none inside either."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.security.inside import HARNESS_UID, leader, run_inside
from tests.security.peers import User, run_as
from tests.security.population import NOBODY
from tests.support.hive import RunningHive, children

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

HOME = "/agents/iris/state"
PLANT = r"""
import shutil
home = "/agents/iris/state"
os.chmod(home, 0o777)
for place in (home, "/shared"):
    shutil.copyfile("/usr/bin/id", f"{place}/suid")
    os.chmod(f"{place}/suid", 0o6755)
open(f"{home}/everybodys", "w").close()
os.chmod(f"{home}/everybodys", 0o666)
print(json.dumps({
    "disk": attempt(lambda: os.mknod(f"{home}/disk", 0o60666, os.makedev(8, 0))),
    "null": attempt(lambda: os.mknod(f"{home}/null", 0o20666, os.makedev(1, 3))),
    "owned by root": attempt(lambda: os.chown(f"{home}/everybodys", 0, 0)),
    "capability": attempt(lambda: os.setxattr(f"{home}/suid", "security.capability",
                                              struct.pack("<IIIII", 0x02000001, 0xffffffff, 0, 0xffffffff, 0))),
}))
"""
CLEAR = r"""
for file in ("/agents/iris/state/suid", "/agents/iris/state/everybodys", "/shared/suid"):
    os.unlink(file)
os.chmod("/agents/iris/state", 0o750)
print("null")
"""
RUN_IT = r"""
def run(path):
    return subprocess.run([path, "-u"], capture_output=True, text=True, check=True).stdout.strip()
print(json.dumps({place: attempt(lambda: run(f"{place}/suid")) for place in ("/agents/iris/state", "/shared")}))
"""
EXECUTE = """
import os, sys
try:
    os.execv(sys.argv[1], [sys.argv[1], "-u"])
except OSError as error:
    print(type(error).__name__)
"""
POWER = r"""
WITHIN = ("/tmp", "/shared", "/dev/shm", "/agents/iris/claude", "/agents/iris/state")

def write(path, text="x"):
    with open(path, "w") as f:
        f.write(text)
    return "written"

def of(uid):
    return [p for p in os.listdir("/proc") if p.isdigit() and os.stat(f"/proc/{p}").st_uid == uid]

harness, init = of(1001)[0], "1"
spawner = next(p for p in of(os.getuid()) if b"spawner" in open(f"/proc/{p}/cmdline", "rb").read())
read = lambda path: attempt(lambda: len(open(path, "rb").read(64)))
tries = {
    "root": lambda: write("/planted"), "usr": lambda: write("/usr/planted"),
    "settings": lambda: write("/etc/hyperhive/agent.json"), "filter": lambda: write("/etc/hyperhive/syscalls.bpf"),
    "environment": lambda: write("/opt/hive/env/planted"), "config": lambda: write("/agents/iris/config/planted"),
    "sysctl": lambda: write("/proc/sys/kernel/hostname"),
    "core pattern": lambda: write("/proc/sys/kernel/core_pattern"),
    "sysrq": lambda: write("/proc/sysrq-trigger", "h"), "sys": lambda: write("/sys/kernel/mm/ksm/run"),
    "broker's folder": lambda: write("/run/hive/broker/x"), "egress's folder": lambda: write("/run/hive/egress/x"),
    "egress's socket": lambda: os.unlink("/run/hive/egress/egress.sock"),
    "tools' folder": lambda: write("/run/harness/x"), "tools' socket": lambda: os.unlink("/run/harness/mcp.sock"),
    "tools' settings": lambda: write("/run/harness/mcp.json"),
    "role": lambda: os.rename("/run/harness/role.md", "/tmp/x"),
    "harness's files": lambda: os.listdir("/agents/iris/harness"), "shadow": lambda: open("/etc/shadow").read(),
    "kernel memory": lambda: open("/proc/kcore", "rb").read(1), "kernel log": lambda: open("/dev/kmsg").read(1),
    "mount": lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None), "chroot": lambda: os.chroot("/tmp"),
    "user namespace": lambda: call("unshare", 0x10000000), "harness's namespace": lambda: os.setuid(0),
    "kill the harness": lambda: os.kill(int(harness), 9),
    "trace the harness": lambda: call("ptrace", 16, int(harness), 0, 0),
    "trace the spawner": lambda: call("ptrace", 16, int(spawner), 0, 0),
    "io_uring": lambda: call("syscall", 425, 1, 0),
}
if os.uname().machine == "x86_64":
    numbers = {"module": 175, "keys": 250, "bpf": 321, "memory of others": 311, "faults": 323, "counters": 298}
    tries |= {name: lambda number=number: call("syscall", number, 0, 0, 0, 0, 0) for name, number in numbers.items()}
found = {name: attempt(act) for name, act in tries.items()}
for who, pid in (("init", init), ("harness", harness), ("spawner", spawner)):
    for name in ("mem", "environ", "maps", "auxv"):
        found[f"{name} of the {who}"] = read(f"/proc/{pid}/{name}")
    found[f"files of the {who}"] = attempt(lambda: os.listdir(f"/proc/{pid}/fd"))
    found[f"root of the {who}"] = attempt(lambda: os.listdir(f"/proc/{pid}/root"))
devices, writable = [], []
for place, folders, files in os.walk("/"):
    if place in ("/proc", "/usr", *WITHIN):
        folders.clear()
        continue
    for path in (f"{place.rstrip('/')}/{name}" for name in folders + files):
        node = os.lstat(path)
        if node.st_mode & 0o170000 in (0o20000, 0o60000) and node.st_rdev:
            devices.append((os.major(node.st_rdev), os.minor(node.st_rdev)))
        if not os.path.islink(path) and os.access(path, os.W_OK):
            writable.append(path)
print(json.dumps({"tries": found, "devices": devices, "writable": writable,
                  "mounts": open("/proc/self/mountinfo").read().splitlines()}))
"""
DEVICES = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200)}
"""null zero full random urandom tty ptmx, and tun, which is root's and useless without CAP_NET_ADMIN."""
WRITABLE = {
    "/shared", "/tmp", "/agents/iris/claude", "/agents/iris/state", "/dev/mqueue", "/dev/shm", "/dev/tty",
    "/dev/urandom", "/dev/random", "/dev/full", "/dev/zero", "/dev/null", "/dev/pts/ptmx", "/run/harness/mcp.sock",
}  # fmt: skip


@pytest.fixture(scope="module")
def planted(secure_hive: RunningHive) -> Iterator[dict[str, Any]]:
    """An agent that opens its folder to everybody and puts a setuid program there."""
    yield run_inside(secure_hive, "iris", PLANT)
    run_inside(secure_hive, "iris", CLEAR)


@pytest.fixture(scope="module")
def power(secure_hive: RunningHive) -> dict[str, Any]:
    found: dict[str, Any] = run_inside(secure_hive, "iris", POWER)
    return found


def test_t11_no_device_and_no_foreign_owner_can_be_made(planted: dict[str, Any]) -> None:
    assert {name: found.get("errno") for name, found in planted.items()} == dict.fromkeys(planted, "EPERM")


def test_t11_a_setuid_program_of_an_agent_is_out_of_reach_on_the_host(
    secure_hive: RunningHive, users: dict[str, User], planted: dict[str, Any]
) -> None:
    """Whoever could run it outside would be the agent's uid there, with the host's network and that agent's key."""
    state = secure_hive.places.state
    for place in (state / "agents" / "iris" / "state", state / "shared" / "files"):
        program = place / "suid"
        found = program.stat()
        assert (found.st_uid, found.st_mode & 0o6777) == (users["iris agent"].uid, 0o6755)
        assert run_as(NOBODY, EXECUTE, str(program)).strip() == "PermissionError"


def test_t11_a_folder_opened_to_everybody_is_closed_on_the_host(
    secure_hive: RunningHive, planted: dict[str, Any]
) -> None:
    file = secure_hive.places.state / "agents" / "iris" / "state" / "everybodys"
    assert file.stat().st_mode & 0o666 == 0o666
    with pytest.raises(AssertionError, match="PermissionError"):
        run_as(NOBODY, "import sys; open(sys.argv[1], 'w')", str(file))


def test_t11_setuid_does_nothing_inside(secure_hive: RunningHive, planted: dict[str, Any]) -> None:
    ran = run_inside(secure_hive, "iris", RUN_IT, uid=HARNESS_UID)
    assert ran == {"/agents/iris/state": {"did": str(HARNESS_UID)}, "/shared": {"did": str(HARNESS_UID)}}


def test_t11_every_mount_ignores_setuid_and_devices(power: dict[str, Any]) -> None:
    for line in power["mounts"]:
        before, _, after = line.partition(" - ")
        place, options, kind = before.split()[4], before.split()[5].split(","), after.split()[0]
        if place in ("/run/host/incoming", "/run/host/os-release"):
            continue  # nspawn's own: an empty folder and one text file, both of them the host's root's
        assert "nosuid" in options, line
        if not place.startswith("/dev") and kind not in {"proc", "sysfs", "cgroup", "cgroup2"}:
            assert "nodev" in options, line


def test_t11_no_device_of_the_host_is_there(power: dict[str, Any]) -> None:
    assert {tuple(device) for device in power["devices"]} <= DEVICES


def test_t11_what_it_may_write_is_this_and_no_more(power: dict[str, Any]) -> None:
    assert set(power["writable"]) == WRITABLE


def test_t11_nothing_that_is_not_its_own(power: dict[str, Any]) -> None:
    assert {name for name, found in power["tries"].items() if "did" in found} == set()


def test_t11_every_process_of_a_cage_is_without_power(
    secure_hive: RunningHive, users: dict[str, User]
) -> None:
    """The real ones: init, harness and spawner, as the host sees them."""
    init = leader(secure_hive, "iris")
    family = (init, *children(init))
    owners = set()
    for pid in family:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[name], 16) == 0, (pid, name)
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        owners |= {int(uid) for uid in status["Uid"].split()}
        assert status["Groups"].split() in ([], [str(users["iris init"].gid)])
    assert owners == {users[f"iris {who}"].uid for who in ("init", "agent", "harness")}
