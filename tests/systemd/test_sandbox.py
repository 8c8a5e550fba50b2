"""What a taken-over daemon could do: a probe runs in each unit's own sandbox, as its user, under its limits, and tries.

Every attempt succeeds in a plain service of the same lab (`test_all_of_it_is_allowed_without_a_sandbox`), so a "no"
here is the sandbox's. Not asked, because a lab cannot hold it: IPAddressDeny (namespaces without network hold instead).
"""

from typing import Any, Final

import pytest

from tests.systemd.installed import Installed, probed

pytestmark = [pytest.mark.systemd, pytest.mark.root]

DAEMONS: Final = ("brokerd", "webd", "egressd", "privd")
UNPRIVILEGED: Final = ("brokerd", "webd", "egressd")
BROKER, WEB = "/var/lib/hyperhive/broker", "/var/lib/hyperhive/web"
FOLDERS: Final = (
    "/", "/usr", "/etc", "/etc/hyperhive", "/opt", "/var", "/var/lib", "/var/lib/hyperhive", BROKER, WEB, "/run",
    "/run/hyperhive", "/run/hyperhive/agents", "/home", "/root", "/srv", "/mnt",
)  # fmt: skip
PRIVATE: Final = ("/tmp", "/var/tmp", "/dev/shm")
READ: Final = (
    "/etc/shadow", "/root", "/home", BROKER, WEB, "/var/lib/hyperhive/cages", "/var/lib/hyperhive/agents",
    "/proc/1/environ", "/proc/kallsyms",
)  # fmt: skip
OPERATORS: Final = tuple(
    f"/run/hyperhive/{daemon}/operator.sock" for daemon in ("privd", "brokerd", "webd", "egressd")
)
CONNECT: Final = (
    *OPERATORS, "/run/hyperhive/privd/swarm.sock", "/run/hyperhive/privd/egress.sock",
    "/run/hyperhive/privd/box.sock", "/run/hyperhive/egressd/swarm.sock", "/run/dbus/system_bus_socket",
    "/run/systemd/private",
)  # fmt: skip
MAY_WRITE: Final = {
    "brokerd": {BROKER},
    "webd": {WEB},
    "egressd": set[str](),
    "privd": {"/var/lib/hyperhive", BROKER, WEB, "/run/hyperhive", "/run/hyperhive/agents"},
}
"""brokerd and egressd write below /run/hyperhive/agents, too: in the folder that privd gave them for an agent."""
MAY_READ: Final = {"brokerd": {BROKER}, "webd": {WEB}, "egressd": set[str]()}
MAY_CONNECT: Final = {
    "brokerd": {"/run/hyperhive/privd/swarm.sock", "/run/hyperhive/egressd/swarm.sock"},
    "webd": set(OPERATORS),
    "egressd": {"/run/hyperhive/privd/egress.sock"},
}
MAY_SPEAK: Final = {
    "brokerd": {"AF_UNIX"},
    "webd": {"AF_UNIX"},
    "egressd": {"AF_UNIX", "AF_INET", "AF_INET6"},
    "privd": {"AF_UNIX"},
}
TASKS_MAX: Final = {"brokerd": 64, "webd": 64, "egressd": 128}
CAPABILITIES: Final = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5}
DEVICES: Final = {
    "char", "fd", "full", "hugepages", "log", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
    "stdout", "tty", "urandom", "zero",
}  # fmt: skip
BARE: Final = "[Service]\nExecStart=/bin/true\n"


def order(daemon: str) -> dict[str, Any]:
    own = {"brokerd": BROKER, "webd": WEB}.get(daemon, "/tmp")
    return {
        "write": (*FOLDERS, *PRIVATE),
        "read": READ,
        "connect": CONNECT,
        "own": own,
        "fork": daemon in TASKS_MAX,
    }


def allowed(answers: dict[str, str]) -> set[str]:
    return {name for name, answer in answers.items() if answer == "ok"}


@pytest.fixture(scope="module")
def seen(hive: Installed) -> dict[str, dict[str, Any]]:
    """What the probe says, by daemon."""
    (hive.lab.root / "home/somebody").mkdir()
    return {daemon: hive.probed(f"hive-{daemon}.service", **order(daemon)) for daemon in DAEMONS}


def test_all_of_it_is_allowed_without_a_sandbox(hive: Installed) -> None:
    bare = probed(hive.lab, "bare.service", BARE, **order("bare"))
    assert set(FOLDERS) - allowed(bare["written"]) == {"/usr"}, "the lab's /usr is this machine's"
    assert allowed(bare["read"]) == set(READ)
    assert allowed(bare["connected"]) == set(CONNECT)
    assert allowed(bare["families"]) == {
        "AF_UNIX",
        "AF_INET",
        "AF_INET6",
        "AF_NETLINK",
        "AF_PACKET",
        "AF_VSOCK",
    }
    for kind in ("namespaces", "system_calls"):
        assert set(bare[kind].values()) == {"ok"}
    assert (bare["memory_both_ways"], bare["set_user_id_bit"], bare["made_device"]) == ("ok", "ok", "ok")
    assert 1 in bare["processes_seen"]
    assert bare["no_new_privileges"] == "0"


@pytest.mark.parametrize("daemon", DAEMONS)
def test_writes_nowhere_but_in_its_own_folders(seen: dict[str, dict[str, Any]], daemon: str) -> None:
    assert allowed(seen[daemon]["written"]) == MAY_WRITE[daemon] | set(PRIVATE)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_temporary_folders_are_its_own(hive: Installed, seen: dict[str, dict[str, Any]], daemon: str) -> None:
    marker = hive.lab.path("/tmp/of-the-machine")
    marker.touch()
    probe = hive.probed(f"hive-{daemon}.service", read=["/tmp/of-the-machine"])
    marker.unlink()
    assert probe["read"] == {"/tmp/of-the-machine": "ENOENT"}


@pytest.mark.parametrize("daemon", UNPRIVILEGED)
def test_reads_no_files_of_others(seen: dict[str, dict[str, Any]], daemon: str) -> None:
    assert allowed(seen[daemon]["read"]) == MAY_READ[daemon]


@pytest.mark.parametrize("daemon", UNPRIVILEGED)
def test_reaches_the_sockets_that_are_for_it(seen: dict[str, dict[str, Any]], daemon: str) -> None:
    assert allowed(seen[daemon]["connected"]) == MAY_CONNECT[daemon]


@pytest.mark.parametrize("daemon", DAEMONS)
def test_speaks_in_no_other_family(seen: dict[str, dict[str, Any]], daemon: str) -> None:
    assert allowed(seen[daemon]["families"]) == MAY_SPEAK[daemon]


@pytest.mark.parametrize("daemon", UNPRIVILEGED)
def test_has_no_capability_and_can_get_none(seen: dict[str, dict[str, Any]], daemon: str) -> None:
    probe = seen[daemon]
    assert set(probe["capabilities"].values()) == {"0000000000000000"}
    assert probe["no_new_privileges"] == "1"
    assert 0 not in probe["uid"]


def test_root_keeps_the_capabilities_that_are_argued_for(seen: dict[str, dict[str, Any]]) -> None:
    probe = seen["privd"]
    wanted = f"{sum(1 << number for number in CAPABILITIES.values()):016x}"
    held = probe["capabilities"]
    assert (held["CapEff"], held["CapBnd"], held["CapInh"], held["CapAmb"]) == (
        wanted,
        wanted,
        "0" * 16,
        "0" * 16,
    )
    assert probe["no_new_privileges"] == "1"


@pytest.mark.parametrize("daemon", DAEMONS)
def test_makes_no_namespace(seen: dict[str, dict[str, Any]], daemon: str) -> None:
    assert set(seen[daemon]["namespaces"].values()) == {"EPERM"}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_calls_of_the_kernel_that_it_does_not_need_are_refused(
    seen: dict[str, dict[str, Any]], daemon: str
) -> None:
    assert set(seen[daemon]["system_calls"].values()) == {"EPERM"}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_memory_is_written_or_run_never_both(seen: dict[str, dict[str, Any]], daemon: str) -> None:
    assert seen[daemon]["memory_both_ways"] == "EPERM"


@pytest.mark.parametrize("daemon", DAEMONS)
def test_no_file_takes_its_owner_along(seen: dict[str, dict[str, Any]], daemon: str) -> None:
    assert seen[daemon]["set_user_id_bit"] == "EPERM"


@pytest.mark.parametrize("daemon", DAEMONS)
def test_has_no_devices_but_the_harmless_ones(seen: dict[str, dict[str, Any]], daemon: str) -> None:
    assert set(seen[daemon]["devices"]) <= DEVICES
    assert seen[daemon]["made_device"] == "EPERM"


@pytest.mark.parametrize("daemon", UNPRIVILEGED)
def test_sees_nobody_else_in_proc(hive: Installed, seen: dict[str, dict[str, Any]], daemon: str) -> None:
    own = {hive.lab.main_pid(f"hive-{daemon}.service")}
    others = set(seen[daemon]["processes_seen"]) - own
    assert len(others) == 1, "the probe itself"
    assert seen[daemon]["read"]["/proc/1/environ"] == "ENOENT"


@pytest.mark.parametrize("daemon", ["webd", "egressd"])
def test_sees_nothing_else_in_proc(seen: dict[str, dict[str, Any]], daemon: str) -> None:
    assert set(seen[daemon]["proc_entries"]) == {"self", "thread-self"}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_changes_nothing_of_the_kernel(seen: dict[str, dict[str, Any]], daemon: str) -> None:
    assert seen[daemon]["kernel_tunable"] in {"EROFS", "EACCES", "ENOENT"}
    assert seen[daemon]["control_groups"] in {"EROFS", "EACCES", "ENOENT"}


@pytest.mark.parametrize("daemon", ["brokerd", "webd", "privd"])
def test_is_alone_in_its_network(hive: Installed, daemon: str) -> None:
    own, lab = (
        hive.lab.path(f"/proc/{pid}/ns/net").readlink()
        for pid in (hive.lab.main_pid(f"hive-{daemon}.service"), 1)
    )
    assert own != lab


@pytest.mark.parametrize("daemon", TASKS_MAX)
def test_cannot_multiply(seen: dict[str, dict[str, Any]], daemon: str) -> None:
    assert 0 < seen[daemon]["processes"] < TASKS_MAX[daemon]


@pytest.mark.parametrize("daemon", DAEMONS)
def test_leaves_no_core_file(seen: dict[str, dict[str, Any]], daemon: str) -> None:
    assert seen[daemon]["core_bytes"] == 0
