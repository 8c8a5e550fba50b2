"""What every cage is, asked from inside a container of the nixos backend: what others answer too, and its own.

The container is systemd-nspawn's, told what the real unit's script and our conf tell it; only the system inside is a
stand-in, and the host's systemd is made up.
"""

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.privd.cages.hive import INIT, STAND_IN, Hive, Inside
from tests.privd.cages.test_conformance import TestNetwork, TestSystemCalls
from tests.support.nixos.host import FakeHost

__all__ = ["TestNetwork", "TestSystemCalls"]

pytestmark = [pytest.mark.cage, pytest.mark.root]


@pytest.fixture(scope="module")
def shared_hive(cage_environment: Path) -> Iterator[Hive]:
    if os.geteuid() != 0 or shutil.which("systemd-nspawn") is None:
        pytest.skip("needs root and systemd-nspawn")
    with Hive("nixos", cage_environment) as hive:
        fake = FakeHost(hive.folder / "host")
        fake.make(" ".join((*INIT, *STAND_IN)), cage_environment)
        fake.deploy("iris")
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.bind(str(fake.folder / "daemon-socket" / "socket"))
            daemon.listen()
            yield hive


@pytest.fixture(scope="module")
def inside(shared_hive: Hive) -> Inside:
    return shared_hive.enter()


class TestIdentity:
    def test_the_broker_sees_the_uid_that_the_backend_named(self, shared_hive: Hive, inside: Inside) -> None:
        identity = shared_hive.driver.do("identity", agent="iris")
        assert (inside.peer_uid, inside.peer_gid) == (identity["harness_uid"], identity["harness_gid"])

    def test_no_process_is_of_a_user_of_the_host(self, shared_hive: Hive, inside: Inside) -> None:
        """S-281, S-282: root inside is the first uid of the cage's own range."""
        base = shared_hive.layout.uid_base("iris")
        leader = shared_hive.record()["leader"]["pid"]
        for pid in (leader, *map(int, Path(f"/proc/{leader}/task/{leader}/children").read_text().split())):
            fields = Path(f"/proc/{pid}/status").read_text().split("Uid:")[1].split()[:4]
            assert all(base <= int(uid) < base + 65_536 for uid in fields), fields

    def test_what_the_agent_makes_belongs_to_it_on_the_host(self, shared_hive: Hive, inside: Inside) -> None:
        """S-283, S-341: the same path in and out, owned by the agent's own uid."""
        identity = shared_hive.driver.do("identity", agent="iris")
        inside.agent("open('/agents/iris/state/made', 'w').write('x')")
        made = shared_hive.folder / "agents/iris/state/made"
        assert (made.stat().st_uid, made.stat().st_gid) == (identity["agent_uid"], identity["agent_gid"])


class TestPrivilege:
    @pytest.mark.parametrize("who", ["harness", "agent"])
    def test_no_capability_no_new_privilege_and_a_filter(self, inside: Inside, who: str) -> None:
        text = inside.ask(**{who: "value = open('/proc/self/status').read()"})["value"]
        found = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        assert {int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")

    def test_init_cannot_reach_the_network_s_or_the_kernel_s_settings(
        self, shared_hive: Hive, inside: Inside
    ) -> None:
        text = Path(f"/proc/{shared_hive.record()['leader']['pid']}/status").read_text()
        bounding = int(text.split("CapBnd:\t")[1].split()[0], 16)
        for number in (
            12,
            13,
            16,
            17,
            25,
            27,
            34,
            39,
        ):  # NET_ADMIN NET_RAW SYS_MODULE SYS_RAWIO SYS_TIME MKNOD SYSLOG BPF
            assert not bounding >> number & 1, number

    def test_a_setuid_program_gives_nothing(self, inside: Inside) -> None:
        source = "import os, shutil, subprocess\nshutil.copy('/usr/bin/id', '/tmp/id')\nos.chmod('/tmp/id', 0o6755)\n"
        source += "value = subprocess.run(['/tmp/id', '-u'], capture_output=True, text=True).stdout.strip()"
        assert inside.agent(source) == "1000"

    def test_devices_cannot_be_made(self, inside: Inside) -> None:
        source = (
            "import os, stat; os.mknod('/agents/iris/state/disk', stat.S_IFBLK | 0o666, os.makedev(254, 0))"
        )
        assert inside.refused("agent", source).startswith("PermissionError")


class TestFiles:
    @pytest.mark.parametrize(
        "place", ["/usr", "/opt/hive/env", "/etc/hyperhive", "/", "/agents/iris", "/etc"]
    )
    def test_neither_user_writes_elsewhere(self, inside: Inside, place: str) -> None:
        for who in ("harness", "agent"):
            answer = inside.ask(**{who: f"open({place!r} + '/planted', 'w')"})
            assert answer["errno"] in {errno.EROFS, errno.EACCES}, answer

    def test_the_socket_folder_is_read_only_but_connects(self, inside: Inside) -> None:
        source = "import os; os.unlink('/run/hive/broker/broker.sock')"
        assert inside.ask(harness=source)["errno"] == errno.EROFS

    def test_the_agent_cannot_reach_the_broker(self, inside: Inside) -> None:
        source = "import socket; socket.socket(socket.AF_UNIX).connect('/run/hive/broker/broker.sock')"
        assert inside.ask(agent=source)["errno"] == errno.EACCES

    def test_settings_are_those_that_were_deployed(self, inside: Inside) -> None:
        assert (
            inside.agent("import json; value = json.load(open('/etc/hyperhive/agent.json'))['name']")
            == "iris"
        )

    def test_the_host_s_nix_daemon_is_covered(self, inside: Inside) -> None:
        """Root's daemon would take container root for root."""
        for who in ("harness", "agent"):
            assert (
                inside.ask(**{who: "import os; value = os.listdir('/nix/var/nix/daemon-socket')"})["value"]
                == []
            )
            answer = inside.ask(**{who: "open('/nix/var/nix/profiles/planted', 'w')"})
            assert answer["errno"] == errno.EACCES

    def test_the_covers_cannot_be_taken_off(self, shared_hive: Hive, inside: Inside) -> None:
        """Not even by a root of the container that has kept everything that its init has."""
        leader = shared_hive.record()["leader"]["pid"]
        for place in ("daemon-socket", "profiles", "gcroots"):
            target = f"/nix/var/nix/{place}"
            mounted = [line.split()[4] for line in Path(f"/proc/{leader}/mountinfo").read_text().splitlines()]
            assert mounted.count(target) == 2, "the unit's bind, and our cover over it"
        assert list((shared_hive.folder / "host" / "profiles" / "h-iris").glob("planted")) == []

    def test_its_root_is_gone_with_it(self, shared_hive: Hive, inside: Inside) -> None:
        """S-177, S-214: whatever is put into the system does not outlive the cage; what it may write does."""
        leader = shared_hive.record()["leader"]["pid"]
        table = Path(f"/proc/{leader}/mountinfo").read_text().splitlines()
        assert [line for line in table if line.split()[4] == "/" and " - overlay overlay " in line]
        root = shared_hive.folder / "host" / "roots" / "h-iris"
        assert not [path for path in root.rglob("*") if path.is_file() and path.stat().st_size > 0]

    def test_the_host_name_is_the_agent(self, inside: Inside) -> None:
        assert inside.agent("import os; value = os.uname().nodename") == "iris"

    def test_of_agents_only_itself_is_seen(self, inside: Inside) -> None:
        assert inside.agent("import os; value = os.listdir('/agents')") == ["iris"]

    def test_open_files_are_bounded(self, inside: Inside) -> None:
        source = "import resource; value = resource.getrlimit(resource.RLIMIT_NOFILE)[1]"
        assert inside.agent(source) == 128


def test_a_graceful_stop_reaches_the_harness(shared_hive: Hive, inside: Inside) -> None:
    """S-097: the last one here, because it ends the cage that the others ask."""
    inside.ask(on_stop="finish")
    assert shared_hive.driver.do("stop", agent="iris", grace_s=20) == {"how": "exit", "code": 7}
    assert "stand-in: finished" in shared_hive.journal()
