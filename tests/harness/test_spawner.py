"""The spawner as its own process: starts, ends and reports, and answers nonsense with a reason."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.spawner import OOM_SCORE, PACKET_BYTES_MAX, PROGRAMS_MAX

CHECKOUT = Path(__file__).parents[2]
DEADLINE_S = 60.0
NULL = Path("/dev/null")


class Harness:
    """The other side of the pair."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(DEADLINE_S)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "harness.spawner"],
                cwd=CHECKOUT,
                env={
                    "HIVE_SPAWNER_FD": str(theirs.fileno()),
                    "PATH": "/usr/bin:/bin",
                    "SECRET": "of the spawner",
                },
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
            )

    def send(self, packet: bytes, descriptors: tuple[int, ...] = ()) -> None:
        socket.send_fds(self.channel, [packet], descriptors)

    def hear(self) -> dict[str, Any]:
        packet = self.channel.recv(PACKET_BYTES_MAX)
        assert packet, "the spawner is gone"
        answer: dict[str, Any] = json.loads(packet)
        return answer

    def start(
        self, *argv: str, env: dict[str, str] | None = None, cwd: str = "/", stdin: bytes = b""
    ) -> tuple[Any, int]:
        """The answer, and the reading end of the program's output."""
        given = os.memfd_create("stdin")
        os.write(given, stdin)
        os.lseek(given, 0, os.SEEK_SET)
        reading, writing = os.pipe()
        order = {"argv": argv, "env": {"PATH": "/usr/bin:/bin"} if env is None else env, "cwd": cwd}
        self.send(json.dumps(order).encode(), (given, writing, writing))
        os.close(given)
        os.close(writing)
        return self.hear(), reading

    def run(self, *argv: str, **options: Any) -> tuple[int, str]:
        """Exit code and output of a program."""
        answer, reading = self.start(*argv, **options)
        assert set(answer) == {"pid"}, answer
        with os.fdopen(reading, "rb") as output:
            said = output.read().decode()
        end = self.hear()
        assert end["exit"] == answer["pid"]
        return end["code"], said

    def fails(self, *argv: str, **options: Any) -> str:
        answer, reading = self.start(*argv, **options)
        os.close(reading)
        return str(answer["error"])

    def still_serves(self) -> bool:
        return self.run("/bin/echo", "yes") == (0, "yes\n")

    def descriptors(self) -> int:
        """How many the spawner has open (root may look; otherwise the kernel refuses and nothing is counted)."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def close(self) -> bytes:
        self.channel.close()
        _, complaints = self.process.communicate(timeout=DEADLINE_S)
        return complaints


@pytest.fixture
def harness() -> Iterator[Harness]:
    fresh = Harness()
    yield fresh
    assert fresh.close() == b""
    assert fresh.process.returncode == 0


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while alive(pid):
        assert time.monotonic() < deadline, f"{pid} does not end"
        time.sleep(0.01)


class TestSize:
    def size(self, harness: Harness, path: Path | str) -> dict[str, Any]:
        harness.send(json.dumps({"size": str(path)}).encode())
        return harness.hear()

    def test_of_a_file(self, harness: Harness, tmp_path: Path) -> None:
        (tmp_path / "notes.md").write_bytes(b"x" * 4_321)
        assert self.size(harness, tmp_path / "notes.md") == {"size": 4_321}

    @pytest.mark.parametrize("kind", ["link", "fifo", "folder", "nothing", "nul"])
    def test_of_anything_else(self, harness: Harness, tmp_path: Path, kind: str) -> None:
        place = tmp_path / "notes.md"
        (tmp_path / "secret").write_text("a secret")
        match kind:
            case "link":
                place.symlink_to(tmp_path / "secret")
            case "fifo":
                os.mkfifo(place)
            case "folder":
                place.mkdir()
            case "nul":
                place = Path("a\0b")
        assert set(self.size(harness, place)) == {"error"}
        assert harness.still_serves()

    def test_answers_come_in_the_order_of_the_orders(self, harness: Harness, tmp_path: Path) -> None:
        (tmp_path / "notes.md").write_bytes(b"12345")
        assert harness.run("/bin/echo", "one") == (0, "one\n")
        assert self.size(harness, tmp_path / "notes.md") == {"size": 5}
        assert harness.run("/bin/echo", "two") == (0, "two\n")


class TestStart:
    def test_output_and_exit_code(self, harness: Harness) -> None:
        assert harness.run("/bin/sh", "-c", "cat; echo out; echo err >&2; exit 5", stdin=b"in\n") == (
            5,
            "in\nout\nerr\n",
        )

    def test_death_by_a_signal(self, harness: Harness) -> None:
        assert harness.run("/bin/sh", "-c", "kill -9 $$")[0] == -9

    def test_environment_and_folder_are_exactly_as_ordered(self, harness: Harness, tmp_path: Path) -> None:
        code, said = harness.run("/usr/bin/env", env={"ONLY": "this"})
        assert (code, said) == (0, "ONLY=this\n")
        assert harness.run("/bin/pwd", cwd=str(tmp_path)) == (0, f"{tmp_path}\n")

    def test_a_program_is_found_on_the_path_that_was_given(self, harness: Harness, tmp_path: Path) -> None:
        (tmp_path / "greet").write_text("#!/bin/sh\necho hello\n")
        (tmp_path / "greet").chmod(0o755)
        assert harness.run("greet", env={"PATH": str(tmp_path)}) == (0, "hello\n")

    def test_it_has_three_descriptors_and_a_session_of_its_own(self, harness: Harness) -> None:
        code, said = harness.run("/bin/sh", "-c", "ls /proc/$$/fd; ps -o pid=,pgid=,sid= -p $$")
        *descriptors, ids = said.splitlines()
        assert (code, descriptors) == (0, ["0", "1", "2"])
        assert len(set(ids.split())) == 1

    def test_signals_are_as_a_shell_expects_them(self, harness: Harness) -> None:
        _, said = harness.run("/bin/cat", "/proc/self/status")
        masks = [line for line in said.splitlines() if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
        assert [line.split(":")[1].strip() for line in masks] == ["0" * 16] * 3

    def test_the_kernel_ends_it_before_its_harness(self, harness: Harness) -> None:
        own = int(Path("/proc/self/oom_score_adj").read_text())
        assert harness.run("/bin/cat", "/proc/self/oom_score_adj") == (0, f"{min(1000, own + OOM_SCORE)}\n")

    @pytest.mark.parametrize("argv", [("no-such-program",), ("/etc/passwd",), ("/",), ("",), ("a\0b",)])
    def test_what_cannot_be_started_is_told(self, harness: Harness, argv: tuple[str, ...]) -> None:
        assert harness.fails(*argv).startswith("cannot start ")
        assert harness.still_serves()

    def test_a_folder_that_is_not_there(self, harness: Harness) -> None:
        assert "nowhere" in harness.fails("/bin/true", cwd="/nowhere")

    def test_many_at_once_and_one_too_many(self, harness: Harness) -> None:
        pids = []
        for _ in range(PROGRAMS_MAX):
            answer, reading = harness.start("/bin/sleep", "1000")
            os.close(reading)
            pids.append(answer["pid"])
        assert "end one first" in harness.fails("/bin/true")
        for pid in pids:
            harness.send(json.dumps({"kill": pid, "signal": 15}).encode())
        ends = [harness.hear() for _ in pids]
        assert {end["exit"] for end in ends} == set(pids)
        assert {end["code"] for end in ends} == {-15}
        assert harness.still_serves()


class TestKill:
    def test_a_signal_goes_to_the_whole_group(self, harness: Harness) -> None:
        script = "sleep 1000 & echo $!; trap 'exit 9' INT; wait; wait"
        answer, reading = harness.start("/bin/sh", "-c", script)
        with os.fdopen(reading) as output:
            child = int(output.readline())
            harness.send(json.dumps({"kill": answer["pid"], "signal": int(signal.SIGTERM)}).encode())
            assert harness.hear() == {"exit": answer["pid"], "code": -15}
        until_gone(child)

    def test_what_a_program_left_behind_can_still_be_ended(self, harness: Harness) -> None:
        answer, reading = harness.start("/bin/sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
        with os.fdopen(reading) as output:
            child = int(output.readline())
        assert harness.hear() == {"exit": answer["pid"], "code": 0}
        assert alive(child)
        harness.send(json.dumps({"kill": answer["pid"], "signal": 9}).encode())
        until_gone(child)

    def test_strangers_are_left_alone(self, harness: Harness) -> None:
        stranger = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
        try:
            for pid in (stranger.pid, -1, 0, 1, os.getpid(), 2**31, 2**70):
                harness.send(json.dumps({"kill": pid, "signal": 9}).encode())
            assert harness.still_serves()
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()

    def test_a_number_that_is_no_signal(self, harness: Harness) -> None:
        answer, reading = harness.start("/bin/sleep", "1000")
        os.close(reading)
        for number in (0, 65, -9, 10**30):
            harness.send(json.dumps({"kill": answer["pid"], "signal": number}).encode())
        harness.send(json.dumps({"kill": answer["pid"], "signal": 9}).encode())
        assert harness.hear() == {"exit": answer["pid"], "code": -9}


class TestEnd:
    def test_all_goes_with_the_harness(self) -> None:
        harness = Harness()
        answer, reading = harness.start("/bin/sh", "-c", "sleep 1000 & wait")
        assert harness.close() == b""
        assert harness.process.returncode == 0
        until_gone(answer["pid"])
        os.close(reading)

    def test_a_report_that_nobody_takes_ends_it_quietly(self) -> None:
        harness = Harness()
        _, reading = harness.start("/bin/sleep", "0.1")
        os.close(reading)
        harness.channel.shutdown(socket.SHUT_RD)
        assert harness.process.wait(DEADLINE_S) == 0
        assert harness.close() == b""


NONSENSE = [
    b"", b"{}", b"[]", b"7", b"null", b"not json", b"\xff\xfe", b"[" * 20_000, b'{"argv": []}', b'{"kill": 7}',
    b'{"argv": ["/bin/true"], "env": {}, "cwd": 7}', b'{"argv": [7], "env": {}, "cwd": "/"}',
    b'{"argv": ["/bin/true", null], "env": {}, "cwd": "/"}', b'{"argv": ["/bin/true"], "env": {"A": 7}, "cwd": "/"}',
    b'{"argv": ["/bin/true"], "env": {}, "cwd": "/", "uid": 0}', b'{"kill": "7", "signal": 9}',
    b'{"argv": "/bin/true", "env": {}, "cwd": "/"}', b'{"kill": 7, "signal": 9, "argv": ["/bin/true"]}',
]  # fmt: skip


class TestNonsense:
    @pytest.mark.parametrize("packet", NONSENSE[1:])
    def test_it_is_told_and_goes_on(self, harness: Harness, packet: bytes) -> None:
        with NULL.open("r+b") as null:
            harness.send(packet, (null.fileno(),) * 3)
        assert set(harness.hear()) == {"error"}
        assert harness.still_serves()

    @pytest.mark.parametrize("count", [0, 1, 2, 4, 9])
    def test_a_start_has_three_descriptors(self, harness: Harness, count: int) -> None:
        order = json.dumps({"argv": ["/bin/true"], "env": {}, "cwd": "/"}).encode()
        with NULL.open("r+b") as null:
            harness.send(order, (null.fileno(),) * count)
        assert "descriptors" in harness.hear()["error"]
        assert harness.still_serves()

    def test_a_packet_has_a_bound(self, harness: Harness) -> None:
        order = {"argv": ["/bin/echo", "x" * PACKET_BYTES_MAX], "env": {}, "cwd": "/"}
        with NULL.open("r+b") as null:
            harness.send(json.dumps(order).encode(), (null.fileno(),) * 3)
        assert str(PACKET_BYTES_MAX) in harness.hear()["error"]
        assert harness.still_serves()

    @pytest.mark.root
    def test_nothing_leaks(self, harness: Harness) -> None:
        assert harness.still_serves()
        before = harness.descriptors()
        with NULL.open("r+b") as null:
            for packet in NONSENSE[1:]:
                for count in (0, 3, 4):
                    harness.send(packet, (null.fileno(),) * count)
                    harness.hear()
        for _ in range(5):
            assert harness.still_serves()
        assert harness.descriptors() == before

    @given(packets=st.lists(st.binary(min_size=1, max_size=200), max_size=5))
    @settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_bytes(self, harness: Harness, packets: list[bytes]) -> None:
        for packet in packets:
            harness.send(packet)
            assert set(harness.hear()) == {"error"}
        assert harness.still_serves()


def test_it_closes_itself_to_others(harness: Harness) -> None:
    """Its memory and its descriptors belong to nobody but root, though it shares a user with what it starts."""
    assert harness.still_serves()
    assert Path(f"/proc/{harness.process.pid}/fd").stat().st_uid == 0
    assert Path(f"/proc/{harness.process.pid}/mem").stat().st_uid == 0
