"""What every cage is, asked from inside a real one: the same questions for nspawn and bubblewrap.

Where a cage has one user only, what then cannot hold is asserted not to be claimed: `degraded` names it.
"""

import errno
import json
import os
import socket
from pathlib import Path

import pytest

from privd.cages.bwrap import ONE_USER
from protocol.settings import AgentSettings
from tests.privd.cages.hive import LIMITS, Hive, Inside, until

pytestmark = [pytest.mark.cage, pytest.mark.root]

MIB = 1024 * 1024
CHILDREN = {"spawner": b"harness.spawner", "harness": b"stand_in.py"}
SYSCALL = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nresult = libc.syscall({call})\n"
SYSCALL += "if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\nvalue = result"


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def everybody(hive: Hive) -> dict[str, int]:
    """Host pids of the cage's three processes, once init's children have become what they are."""
    init = hive.record()["leader"]["pid"]

    def children() -> dict[str, int] | None:
        found = {"init": init}
        for pid in map(int, Path(f"/proc/{init}/task/{init}/children").read_text().split()):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"harness.init" not in command:
                found |= {name: pid for name, mark in CHILDREN.items() if mark in command}
        return found if len(found) == 1 + len(CHILDREN) else None

    answer: dict[str, int] = until(children, "harness and spawner")
    return answer


class TestIdentity:
    def test_the_broker_sees_the_uid_that_the_backend_named(self, shared_hive: Hive, inside: Inside) -> None:
        identity = shared_hive.driver.do("identity", agent="iris")
        assert (inside.peer_uid, inside.peer_gid) == (identity["harness_uid"], identity["harness_gid"])

    def test_each_process_has_its_user(self, shared_hive: Hive, inside: Inside) -> None:
        identity = shared_hive.driver.do("identity", agent="iris")
        uids = {name: int(status(pid)["Uid"].split()[1]) for name, pid in everybody(shared_hive).items()}
        assert uids == {
            "init": identity["init_uid"],
            "spawner": identity["agent_uid"],
            "harness": identity["harness_uid"],
        }

    def test_no_process_is_root_on_the_host(self, shared_hive: Hive, inside: Inside) -> None:
        for name, pid in everybody(shared_hive).items():
            assert "0" not in (status(pid)["Uid"].split() + status(pid)["Gid"].split()), name

    def test_names_inside(self, shared_hive: Hive, inside: Inside) -> None:
        who = "import os, pwd; value = [os.getuid(), os.getgid(), os.getgroups(), pwd.getpwuid(os.getuid()).pw_name]"
        harness, agent = (1001, "harness") if shared_hive.separated else (1000, "agent"), (1000, "agent")
        for expected, found in ((harness, inside.harness(who)), (agent, inside.agent(who))):
            assert (found[0], found[3]) == expected
            assert found[1] == found[0]
            assert set(found[2]) <= {found[1]}

    def test_what_the_agent_makes_belongs_to_it_on_the_host(self, shared_hive: Hive, inside: Inside) -> None:
        identity = shared_hive.driver.do("identity", agent="iris")
        inside.agent("open('/agents/iris/state/made', 'w').write('x')")
        made = shared_hive.folder / "agents/iris/state/made"
        assert (made.stat().st_uid, made.stat().st_gid) == (identity["agent_uid"], identity["agent_gid"])

    def test_one_user_for_all_is_said(self, shared_hive: Hive, inside: Inside) -> None:
        assert (ONE_USER in shared_hive.record()["degraded"]) is not shared_hive.separated


class TestPrivilege:
    @pytest.mark.parametrize("name", ["init", "spawner", "harness"])
    def test_no_capability_is_left(self, shared_hive: Hive, inside: Inside, name: str) -> None:
        found = status(everybody(shared_hive)[name])
        sets = {key: int(found[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        assert sets == dict.fromkeys(sets, 0)

    @pytest.mark.parametrize("name", ["init", "spawner", "harness"])
    def test_no_new_privileges_and_a_filter(self, shared_hive: Hive, inside: Inside, name: str) -> None:
        found = status(everybody(shared_hive)[name])
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")

    def test_a_program_of_the_agent_has_no_more(self, inside: Inside) -> None:
        lines = inside.agent("value = open('/proc/self/status').read()").splitlines()
        found = dict(line.split(":\t", 1) for line in lines if line.startswith(("Cap", "NoNew", "Seccomp:")))
        assert {key: int(value, 16) for key, value in found.items()} == {
            "CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 0, "CapAmb": 0, "NoNewPrivs": 1, "Seccomp": 2,
        }  # fmt: skip

    def test_a_setuid_program_gives_nothing(self, inside: Inside) -> None:
        source = "import os, shutil, subprocess\nshutil.copy('/usr/bin/id', '/tmp/id')\nos.chmod('/tmp/id', 0o6755)\n"
        source += "value = subprocess.run(['/tmp/id', '-u'], capture_output=True, text=True).stdout.strip()"
        assert inside.agent(source) == "1000"

    def test_devices_cannot_be_made(self, inside: Inside) -> None:
        source = (
            "import os, stat; os.mknod('/agents/iris/state/disk', stat.S_IFBLK | 0o666, os.makedev(254, 0))"
        )
        assert inside.refused("agent", source).startswith("PermissionError")

    @pytest.mark.parametrize(
        "place", ["/agents/iris/state", "/agents/iris/harness", "/shared", "/tmp", "/var", "/usr"]
    )
    def test_mounts_ignore_setuid_and_devices(self, inside: Inside, place: str) -> None:
        flags = inside.harness(f"import os; value = os.statvfs({place!r}).f_flag")
        assert flags & os.ST_NOSUID
        assert flags & os.ST_NODEV


class TestSystemCalls:
    @pytest.mark.parametrize(
        ("call", "code"),
        [
            ("272, 0x10000000", errno.EPERM),  # unshare(CLONE_NEWUSER)
            ("56, 0x10000011, 0, 0, 0, 0", errno.EPERM),  # clone(CLONE_NEWUSER | SIGCHLD)
            ("435, 0, 0", errno.ENOSYS),  # clone3
            ("308, 0, 0", errno.EPERM),  # setns
            ("101, 0, 0, 0, 0", errno.EPERM),  # ptrace(PTRACE_TRACEME)
            ("310, 1, 0, 0, 0, 0, 0", errno.EPERM),  # process_vm_readv
            ("165, 0, 0, 0, 0, 0", errno.EPERM),  # mount
            ("442, 0, 0, 0, 0, 0", errno.EPERM),  # mount_setattr
            ("321, 0, 0, 0", errno.EPERM),  # bpf
            ("250, 0, 0", errno.EPERM),  # keyctl
            ("298, 0, 0, 0, 0, 0", errno.EPERM),  # perf_event_open
            ("323, 0", errno.EPERM),  # userfaultfd
            ("425, 1, 0", errno.ENOSYS),  # io_uring_setup
            ("438, 0, 0, 0", errno.EPERM),  # pidfd_getfd
            ("41, 40, 1, 0", errno.EAFNOSUPPORT),  # socket(AF_VSOCK): would pass by the network namespace
            ("41, 17, 3, 0", errno.EAFNOSUPPORT),  # socket(AF_PACKET)
            ("16, 0, 0x5412, 0", errno.EPERM),  # ioctl(TIOCSTI)
        ],
    )
    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are x86_64's")
    def test_refused(self, inside: Inside, call: str, code: int) -> None:
        answer = inside.ask(agent=SYSCALL.format(call=call))
        assert answer["errno"] == code, answer

    def test_landlock_stays_possible(self, inside: Inside) -> None:
        assert inside.agent(SYSCALL.format(call="444, 0, 0, 1")) >= 1

    def test_threads_and_programs_start(self, inside: Inside) -> None:
        source = "import subprocess, threading\nt = threading.Thread(target=print)\nt.start()\nt.join()\n"
        source += "value = subprocess.run(['/bin/sh', '-c', 'echo $((6 * 7))'], capture_output=True, text=True).stdout"
        assert inside.agent(source) == "42\n"


class TestNetwork:
    def test_only_loopback(self, inside: Inside) -> None:
        lines = inside.agent("value = open('/proc/net/dev').read()").splitlines()[2:]
        assert [line.split(":")[0].strip() for line in lines] == ["lo"]

    def test_no_route(self, inside: Inside) -> None:
        assert len(inside.agent("value = open('/proc/net/route').read()").splitlines()) == 1

    @pytest.mark.parametrize("address", ["192.0.2.1", "169.254.169.254", "10.0.0.1"])
    def test_nothing_outside_is_reached(self, inside: Inside, address: str) -> None:
        source = f"import socket; socket.create_connection(({address!r}, 80), 2)"
        assert inside.ask(agent=source)["errno"] == errno.ENETUNREACH

    def test_loopback_is_its_own(self, inside: Inside) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            answer = inside.ask(agent=f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)")
        assert answer["errno"] == errno.ECONNREFUSED

    def test_loopback_works(self, inside: Inside) -> None:
        source = "import socket\nserver = socket.create_server(('127.0.0.1', 3128))\n"
        source += "socket.create_connection(('127.0.0.1', 3128), 2)\nvalue = True"
        assert inside.agent(source)

    def test_no_names_are_resolved(self, inside: Inside) -> None:
        assert inside.refused("agent", "import socket; socket.getaddrinfo('example.com', 80)").startswith(
            "gaierror"
        )

    def test_abstract_sockets_of_the_host_are_out_of_reach(self, inside: Inside) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(b"\0hive-cage-test")
            server.listen()
            source = "import socket; socket.socket(socket.AF_UNIX).connect(b'\\0hive-cage-test')"
            assert inside.ask(agent=source)["errno"] == errno.ECONNREFUSED


class TestFiles:
    @pytest.mark.parametrize(
        "place",
        [
            "/",
            "/usr",
            "/usr/bin",
            "/etc",
            "/etc/hyperhive",
            "/opt/hive/env",
            "/agents",
            "/agents/iris",
            "/root",
        ],
    )
    @pytest.mark.parametrize("who", ["harness", "agent"])
    def test_read_only(self, inside: Inside, who: str, place: str) -> None:
        answer = inside.ask(**{who: f"open({place!r} + '/planted', 'w')"})
        assert answer["errno"] in {errno.EROFS, errno.EACCES}, answer
        assert inside.harness(f"import os; value = os.statvfs({place!r}).f_flag") & os.ST_RDONLY

    def test_the_socket_folder_is_read_only_but_connects(self, inside: Inside) -> None:
        source = "import os, socket\nsocket.socket(socket.AF_UNIX).connect('/run/hive/broker/broker.sock')\n"
        inside.harness(source)
        assert inside.harness("import os; value = os.statvfs('/run/hive/broker').f_flag") & os.ST_RDONLY
        assert inside.ask(harness="import os; os.unlink('/run/hive/broker/broker.sock')")["errno"] in {
            errno.EROFS,
            errno.EACCES,
        }

    @pytest.mark.parametrize(("place", "most"), [("/tmp", 512), ("/var", 64), ("/dev/shm", 64)])
    def test_what_can_be_filled_is_bounded(self, inside: Inside, place: str, most: int) -> None:
        size = inside.agent(
            f"import os; found = os.statvfs({place!r}); value = found.f_blocks * found.f_frsize"
        )
        assert 0 < size <= most * MIB

    def test_the_agent_writes_where_it_may(self, inside: Inside) -> None:
        for place in ("/agents/iris/state/notes.md", "/shared/note", "/tmp/note", "/dev/shm/note"):
            inside.agent(f"open({place!r}, 'w').write('x')")

    def test_the_harness_folders(self, shared_hive: Hive, inside: Inside) -> None:
        for place in ("/agents/iris/harness/mark", "/run/harness/mark"):
            inside.harness(f"open({place!r}, 'w').write('x')")
            if shared_hive.separated:
                assert inside.refused("agent", f"open({place!r}, 'a')").startswith("PermissionError")

    def test_the_agent_may_look_but_not_write_into_run_harness(
        self, shared_hive: Hive, inside: Inside
    ) -> None:
        assert isinstance(inside.agent("import os; value = os.listdir('/run/harness')"), list)
        if shared_hive.separated:
            for source in ("open('/run/harness/mcp.sock', 'w')", "import os; os.mkdir('/run/other')"):
                assert inside.refused("agent", source).startswith("PermissionError")

    def test_the_agent_cannot_reach_the_broker(self, shared_hive: Hive, inside: Inside) -> None:
        source = "import socket; socket.socket(socket.AF_UNIX).connect('/run/hive/broker/broker.sock')"
        if shared_hive.separated:
            assert inside.ask(agent=source)["errno"] == errno.EACCES
        else:
            assert ONE_USER in shared_hive.record()["degraded"]

    def test_settings_are_there_for_reading(self, inside: Inside) -> None:
        text = inside.agent("value = open('/etc/hyperhive/agent.json').read()")
        assert json.loads(text)["name"] == AgentSettings(name="iris").name

    def test_the_host_name_is_the_agent(self, inside: Inside) -> None:
        assert inside.agent("import socket; value = socket.gethostname()") == "iris"


class TestNeighbours:
    def test_of_agents_only_itself_is_seen(self, inside: Inside) -> None:
        assert inside.agent("import os; value = os.listdir('/agents')") == ["iris"]
        assert sorted(inside.harness("import os; value = os.listdir('/agents/iris')")) == ["harness", "state"]
        assert inside.harness("import os; value = os.listdir('/run/hive')") == ["broker"]

    def test_no_path_of_the_host_leads_in(self, shared_hive: Hive, inside: Inside) -> None:
        for place in (
            shared_hive.folder,
            Path("/var/lib"),
            Path("/home/agent"),
            Path("/root", ".ssh"),
            Path("/boot"),
        ):
            assert inside.harness(f"import os; value = os.path.exists({str(place)!r})") is False

    def test_processes_of_the_host_are_not_there(self, inside: Inside) -> None:
        pids = inside.agent(
            "import os; value = [int(name) for name in os.listdir('/proc') if name.isdecimal()]"
        )
        assert 1 in pids
        assert len(pids) <= 6
        assert os.getpid() not in pids or os.getpid() < 100

    def test_the_agent_cannot_touch_its_harness(self, shared_hive: Hive, inside: Inside) -> None:
        pid = inside.harness("import os; value = os.getpid()")
        if not shared_hive.separated:
            return
        for source in (
            f"import os; os.kill({pid}, 9)",
            f"open('/proc/{pid}/mem', 'rb')",
            f"open('/proc/{pid}/environ', 'rb').read()",
            f"import os; os.listdir('/proc/{pid}/fd')",
        ):
            assert inside.refused("agent", source).startswith("PermissionError"), source

    @pytest.mark.parametrize("who", ["harness", "agent"])
    def test_nobody_inside_can_look_into_init(self, inside: Inside, who: str) -> None:
        for name in ("mem", "environ", "fd/0", "fd/1"):
            assert inside.refused(who, f"open('/proc/1/{name}', 'rb')").startswith("PermissionError"), name

    def test_nobody_inside_can_kill_init(self, shared_hive: Hive, inside: Inside) -> None:
        inside.ask(harness="import os; os.kill(1, 9)")
        inside.ask(agent="import os; os.kill(1, 9)")
        assert inside.harness("value = 1") == 1

    def test_the_agent_cannot_look_into_the_spawner(self, inside: Inside) -> None:
        spawner = "import os\npid = os.getppid()\n"
        assert inside.refused("agent", spawner + "open(f'/proc/{pid}/mem', 'rb')").startswith(
            "PermissionError"
        )
        assert inside.refused("agent", spawner + "os.listdir(f'/proc/{pid}/fd')").startswith(
            "PermissionError"
        )


class TestWhatIsHandedOn:
    OPEN = """
import os
value = {}
for name in os.listdir("/proc/self/fd"):
    try:
        value[name] = os.readlink("/proc/self/fd/" + name)
    except FileNotFoundError:  # the one that listed them
        pass
"""

    @pytest.mark.parametrize("who", ["harness", "agent"])
    def test_neither_lock_nor_journal_nor_ready_socket(
        self, shared_hive: Hive, inside: Inside, who: str
    ) -> None:
        found = inside.ask(**{who: self.OPEN})["value"]
        assert not [link for link in found.values() if "cages" in link or "journal" in link or "lock" in link]

    def test_the_harness_has_its_streams_and_the_spawner(self, inside: Inside) -> None:
        found = inside.harness(self.OPEN)
        assert found["0"] == "/dev/null"
        assert found["1"].startswith("pipe:")
        assert sum(link.startswith("socket:") for link in found.values()) == 2  # spawner, broker

    def test_the_environment_says_nothing_of_the_start(self, inside: Inside) -> None:
        found = inside.harness("import os; value = dict(os.environ)")
        assert found["HIVE_AGENT"] == "iris"
        assert found["HOME"] == "/agents/iris/harness"
        assert not [
            name for name in found if name.startswith(("HIVE_INIT_", "LISTEN_", "NOTIFY_", "container"))
        ]

    def test_what_is_printed_stands_in_the_journal(self, shared_hive: Hive, inside: Inside) -> None:
        inside.harness("import os; os.write(1, b'a line of the harness\\nwithout an end')")
        until(lambda: "a line of the harness\n" in shared_hive.journal(), "the line")
        inside.harness("import os; os.write(2, b' now\\n')")
        until(lambda: "without an end now\n" in shared_hive.journal(), "the rest")

    def test_a_long_line_is_cut_not_lost(self, shared_hive: Hive, inside: Inside) -> None:
        inside.harness("import os; os.write(1, b'y' * 50_000 + b'end\\n')")
        until(lambda: "yend\n" in shared_hive.journal(), "the end of the line")
        assert max(map(len, shared_hive.journal().splitlines())) <= 16 * 1024 + 1


class TestLimits:
    def test_what_does_not_hold_is_said(self, shared_hive: Hive, inside: Inside) -> None:
        said = [
            text for text in shared_hive.record()["degraded"] if text.startswith("no control group limits")
        ]
        assert bool(said) is (shared_hive.backend == "bwrap")

    def test_open_files(self, inside: Inside) -> None:
        assert inside.agent("import resource; value = resource.getrlimit(resource.RLIMIT_NOFILE)") == [
            LIMITS.files_max,
            LIMITS.files_max,
        ]

    def test_a_fork_bomb_stays_small(self, inside: Inside) -> None:
        source = "import os, signal, time\nvalue = 0\npids = []\ntry:\n"
        source += " while value < 200:\n  pid = os.fork()\n  if pid == 0: time.sleep(60); os._exit(0)\n"
        source += "  pids.append(pid); value += 1\nexcept BlockingIOError: pass\n"
        source += "for pid in pids: os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)"
        assert LIMITS.tasks_max is not None
        assert 0 < inside.agent(source) < LIMITS.tasks_max

    def test_memory(self, shared_hive: Hive, inside: Inside) -> None:
        """Where no group holds it, each process by itself is refused more, and not all of them together."""
        assert LIMITS.memory_mib_max is not None
        answer = inside.ask(agent=f"value = len(bytearray({LIMITS.memory_mib_max + 64} << 20))")
        if "memory" in shared_hive.record()["held"]:
            assert answer["code"] == -9, answer
        else:
            assert answer["error"].startswith("MemoryError"), answer
            assert any("no control group limits memory" in text for text in shared_hive.record()["degraded"])
        assert inside.harness("value = 'still here'") == "still here"

    def test_memory_that_is_only_reserved_is_not_counted(self, inside: Inside) -> None:
        """Node and bun reserve tens of gigabytes that they never write to."""
        reserve = "import mmap\nvalue = len(mmap.mmap(-1, 64 << 30, prot=mmap.PROT_READ, flags=NORESERVE))"
        source = reserve.replace("NORESERVE", "mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000")
        assert inside.agent(source) == 64 << 30

    def test_the_length_of_a_file(self, inside: Inside) -> None:
        assert LIMITS.disk_mib_max is not None
        longest = LIMITS.disk_mib_max << 20
        assert (
            inside.agent("import resource; value = resource.getrlimit(resource.RLIMIT_FSIZE)")
            == [longest] * 2
        )
        answer = inside.ask(
            agent=f"import os\nwith open('/tmp/long', 'wb') as f: os.truncate(f.fileno(), {longest + 1})"
        )
        assert answer["errno"] == errno.EFBIG, answer

    def test_what_holds_the_disk_or_that_nothing_does(self, shared_hive: Hive, inside: Inside) -> None:
        record = shared_hive.record()
        said = [text for text in record["degraded"] if text.startswith("nothing limits the disk: ")]
        assert ("disk" in record["held"]) is (not said)

    def test_what_the_kernel_refused_is_counted(self, shared_hive: Hive, inside: Inside) -> None:
        """The bombs of the tests above; a user without control groups has nobody who counts."""
        bomb = "import os, time\nwhile True:\n if os.fork() == 0: time.sleep(1); os._exit(0)"
        inside.refused("agent", bomb)
        inside.ask(agent=f"value = len(bytearray({(LIMITS.memory_mib_max or 0) + 64} << 20))")
        counts = shared_hive.driver.do("counts", agent="iris")
        held = shared_hive.record()["held"]
        assert (counts["tasks_refused"] > 0) is ("tasks" in held)
        assert (counts["ended_for_memory"] > 0) is ("memory" in held)

    def test_the_kernel_ends_the_agent_first(self, shared_hive: Hive, inside: Inside) -> None:
        own = int(Path("/proc/self/oom_score_adj").read_text())
        scores = {
            name: int(Path(f"/proc/{pid}/oom_score_adj").read_text())
            for name, pid in everybody(shared_hive).items()
        }
        assert own < scores["harness"] < scores["spawner"]


def test_a_second_cage_is_refused(shared_hive: Hive, inside: Inside) -> None:
    answer = shared_hive.driver.ask("start", agent="iris")
    assert answer["problem"] == "conflict"
    other = shared_hive.new_driver()
    try:
        assert other.ask("start", agent="iris")["problem"] == "conflict"
    finally:
        other.die()
    assert inside.harness("value = 1") == 1


def test_neighbouring_cages_do_not_meet(shared_hive: Hive, inside: Inside) -> None:
    other = shared_hive.enter("damocles")
    assert other.harness("import os; value = os.listdir('/agents')") == ["damocles"]
    if shared_hive.backend != "bwrap":
        assert other.peer_uid != inside.peer_uid
    assert len(other.harness("import os; value = [n for n in os.listdir('/proc') if n.isdecimal()]")) <= 5
    shared_hive.driver.do("kill", agent="damocles")
