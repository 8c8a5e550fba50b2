"""Init as the first process of a real pid namespace, without the rest of a cage (that is tests/privd/cages)."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import init
from privd.cages.syscalls import program

CHECKOUT = Path(__file__).parents[2]
DEADLINE_S = 60.0
ORDINARY_UID = 54_321
LOSE_SPAWNER = "sleep 0.2; kill -9 $(pgrep -f '[h]arness.spawner')"

pytestmark = [
    pytest.mark.cage,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may read, with the filter in it."""
    with tempfile.TemporaryDirectory(prefix="hive-init-") as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "filter").write_bytes(program() or b"")
        yield Path(folder)


class Cage:
    """A box with init in it."""

    def __init__(
        self,
        folder: Path,
        *harness: str,
        output: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.ready, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ready.settimeout(DEADLINE_S)
        variables = {
            "HIVE_AGENT": "iris",
            "HIVE_INIT_READY_FD": str(theirs.fileno()),
            "PATH": "/usr/bin:/bin",
        }
        variables |= environment or {}
        with theirs:
            self.process = subprocess.Popen(
                [
                    "bwrap", "--unshare-all", "--unshare-user", "--as-pid-1", "--uid", "1000", "--gid", "1000",
                    "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run",
                    "--chdir", str(CHECKOUT), "--clearenv",
                    *(word for name, value in variables.items() for word in ("--setenv", name, value)), "--",
                    sys.executable, "-m", "harness.init", "--filter", str(folder / "filter"), "--", *harness,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if output is None else output,
                stderr=subprocess.STDOUT if output is None else subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                user=ORDINARY_UID if os.geteuid() == 0 else None,
                group=ORDINARY_UID if os.geteuid() == 0 else None,
                extra_groups=[] if os.geteuid() == 0 else None,
            )  # fmt: skip

    def init(self) -> int:
        """Host pid of init, once it is up."""
        assert self.ready.recv(64) == b"up"
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def end(self) -> tuple[int, list[str]]:
        """Exit code and everything in the journal."""
        output, complaints = self.process.communicate(timeout=DEADLINE_S)
        self.ready.close()
        return self.process.returncode, (output or complaints or b"").decode("utf-8", "replace").splitlines()


def shell(script: str) -> tuple[str, str, str]:
    return "/bin/sh", "-c", script


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_it_ends_as_the_harness_ends(place: Path, script: str, code: int) -> None:
    found, lines = Cage(place, *shell(script)).end()
    assert found == code
    assert lines[0] == "init: one user only: harness and agent are not separated"
    assert lines[-1].startswith("init: the harness ended ")


def test_it_reports_once_it_is_up(place: Path) -> None:
    cage = Cage(place, *shell("sleep 1000"))
    os.kill(cage.init(), signal.SIGKILL)
    assert cage.end()[0] == 137


def test_sigterm_reaches_the_harness(place: Path) -> None:
    cage = Cage(place, *shell("trap 'echo finishing; exit 4' TERM; echo here; while :; do sleep 0.02; done"))
    pid = cage.init()
    assert cage.process.stdout is not None
    while cage.process.stdout.readline() != b"here\n":
        pass
    os.kill(pid, signal.SIGTERM)
    code, lines = cage.end()
    assert code == 4
    assert lines == [
        "init: stopping: the harness may end its turn",
        "finishing",
        "init: the harness ended with code 4",
    ]


def test_what_was_printed_last_is_not_lost(place: Path) -> None:
    _, lines = Cage(
        place, *shell("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; printf end")
    ).end()
    assert [line for line in lines if line.startswith(("line", "end"))] == [
        *(f"line {i}" for i in range(3000)),
        "end",
    ]


def test_orphans_are_reaped(place: Path) -> None:
    script = "for i in 1 2 3 4 5; do (sleep 0.01 & ) ; done; sleep 0.3; ps -A -o stat= | grep -c Z; exit 0"
    _, lines = Cage(place, *shell(script)).end()
    assert "0" in lines


def test_a_lost_spawner_ends_the_cage(place: Path) -> None:
    script = f"trap 'echo told; exit 0' TERM; {LOSE_SPAWNER}; while :; do sleep 0.02; done"
    code, lines = Cage(place, *shell(script)).end()
    assert code == 70
    assert "told" in lines
    assert any(line.startswith("init: the spawner was lost") for line in lines)


def test_a_harness_that_does_not_mind_its_lost_spawner_is_ended(place: Path) -> None:
    script = f"trap '' TERM; {LOSE_SPAWNER}; while :; do sleep 0.1; done"
    code, _ = Cage(place, *shell(script)).end()
    assert code == 70


def test_a_spawner_that_ends_because_the_harness_let_go_is_no_fault(place: Path) -> None:
    source = "import os, time; os.close(int(os.environ['HIVE_SPAWNER_FD'])); time.sleep(0.5); os._exit(3)"
    code, lines = Cage(place, "/usr/bin/python3", "-I", "-c", source).end()
    assert code == 3
    assert not [line for line in lines if "lost" in line]


def test_a_program_that_is_not_there(place: Path) -> None:
    code, lines = Cage(place, "/nowhere/harness").end()
    assert code == 71
    assert any(line.startswith("init: cannot run /nowhere/harness") for line in lines)


@pytest.mark.parametrize("content", [None, b"", b"no filter"])
def test_without_a_good_filter_nothing_starts(place: Path, content: bytes | None) -> None:
    (place / "filter").unlink()
    if content is not None:
        (place / "filter").write_bytes(content)
    code, lines = Cage(place, *shell("echo started")).end()
    assert code == 1
    assert "started" not in lines


def test_nothing_starts_where_another_folder_is_shown(place: Path) -> None:
    """A name of the host was made to lead elsewhere while the cage was made."""
    found = place.stat()
    meant = {"HIVE_INIT_SAME": f"{found.st_dev}:{found.st_ino}:{place}"}
    assert "started" in Cage(place, *shell("echo started"), environment=meant).end()[1]
    for other in (f"{found.st_dev}:{found.st_ino + 1}:{place}", f"{found.st_dev}:{found.st_ino}:/usr"):
        code, lines = Cage(place, *shell("echo started"), environment={"HIVE_INIT_SAME": other}).end()
        assert code == 71
        assert "started" not in lines
        assert lines[0].endswith("is another folder than the cage was to show: nothing is started")


def test_limits_are_put_on_everything(place: Path) -> None:
    bounds = {"HIVE_INIT_FILES_MAX": "99", "HIVE_INIT_TASKS_MAX": "55"}
    _, lines = Cage(place, "/bin/bash", "-c", "ulimit -n; ulimit -u; ulimit -c", environment=bounds).end()
    assert lines[1:4] == ["99", "55", "0"]


def test_a_limit_that_is_lower_already_stays(place: Path) -> None:
    _, lines = Cage(place, *shell("ulimit -n"), environment={"HIVE_INIT_FILES_MAX": "1000000000"}).end()
    assert 0 < int(lines[1]) < 1_000_000_000


def test_nothing_speaks_to_the_harness_that_speaks_to_init(place: Path) -> None:
    given = {
        "LISTEN_FDS": "1",
        "NOTIFY_SOCKET": "/x",
        "container": "x",
        "HIVE_INIT_FILES_MAX": "99",
        "KEPT": "yes",
    }
    _, lines = Cage(place, *shell("env; ls /proc/self/fd | wc -l"), environment=given).end()
    names = {line.partition("=")[0] for line in lines if "=" in line}
    assert {"KEPT", "HIVE_AGENT", "HIVE_SPAWNER_FD", "HOME", "PATH"} <= names
    assert not names & set(given) - {"KEPT"}
    assert lines[-2].strip() == "5", "three streams, the spawner's channel, and ls's own"


def test_a_full_disk_does_not_stop_the_cage(place: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    cage = Cage(
        place, *shell("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exit 6"), output=full
    )
    os.close(full)
    assert cage.end()[0] == 6


def test_what_a_full_disk_lost_is_counted(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    kept = os.dup(1)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    init.write_journal(b"123456789")
    init.write_journal(b"123456789")
    os.dup2(kept, 1)
    init.write_journal(b"next")
    init.write_journal(b"last")
    for descriptor in (kept, full):
        os.close(descriptor)
    assert capfd.readouterr().out == "init: 20 bytes of output were lost, the disk refused them\nnext\nlast\n"


@pytest.mark.parametrize(
    ("words", "understood"),
    [
        ([], (init.FILTER_PATH, [])),
        (["--"], (init.FILTER_PATH, [])),
        (["--", "run", "--filter", "x"], (init.FILTER_PATH, ["run", "--filter", "x"])),
        (["--filter", "/f"], ("/f", [])),
        (["--filter", "/f", "--", "run"], ("/f", ["run"])),
    ],
)
def test_what_it_is_told(words: list[str], understood: tuple[str, list[str]]) -> None:
    assert init.arguments(words) == understood


@pytest.mark.parametrize("words", [["run"], ["--filter"], ["--filter", "/f", "run"], ["--help"]])
def test_what_it_does_not_understand_ends_it(words: list[str]) -> None:
    with pytest.raises(SystemExit, match="is not understood"):
        init.arguments(words)
