"""What daemons are given: logs that strangers can make grow, and files that agents can hold open."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from hivectl.up.supervisor import FILES_MAX, Daemon, Supervisor, cut_log
from tests.support.waiting import until


def test_a_log_past_its_bound_is_moved_aside_under_its_writer(tmp_path: Path) -> None:
    log = tmp_path / "egressd.log"
    with log.open("ab") as writer:
        writer.write(b"x" * 101)
        writer.flush()
        cut_log(log, 100)
        assert (tmp_path / "egressd.log.1").read_bytes() == b"x" * 101
        writer.write(b"next\n")
        writer.flush()
        assert log.read_bytes() == b"next\n"


def test_a_log_within_its_bound_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "egressd.log"
    cut_log(log, 100)
    log.write_bytes(b"x" * 100)
    cut_log(log, 100)
    assert log.read_bytes() == b"x" * 100
    assert [path.name for path in tmp_path.iterdir()] == ["egressd.log"]


def test_on_a_full_disk_the_bound_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "egressd.log"
    log.write_bytes(b"x" * 101)

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match="No space"):
        cut_log(log, 100)
    assert log.stat().st_size == 0


def test_daemons_may_hold_as_many_files_as_the_machine_allows() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    script = (
        "import resource; from hivectl.up.supervisor import raise_file_limit; raise_file_limit();"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run(
        ["sh", "-c", 'ulimit -Sn 256; exec "$0" -c "$1"', sys.executable, script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(min(most, FILES_MAX)), str(most)]


def a_daemon(folder: Path, script: str) -> tuple[Daemon, Supervisor, list[str]]:
    (folder / "stand_in.py").write_text(script)
    daemon = StandIn("egressd", folder / "stand_in.py", None, folder / "egressd.log")
    said: list[str] = []
    return daemon, Supervisor((daemon,), said.append), said


class StandIn(Daemon):
    def command(self) -> list[str]:
        return [sys.executable, "-I", str(self.settings)]


@pytest.mark.anyio
async def test_wrong_settings_fail_at_once_and_leave_the_telling_to_whoever_waits(tmp_path: Path) -> None:
    script = "import sys\nsys.stderr.write('egressd: bad\\n')\nsys.exit(78)\n"
    daemon, supervisor, said = a_daemon(tmp_path, script)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        with trio.fail_after(20):
            await daemon.fails.wait()
        nursery.cancel_scope.cancel()
    supervisor.close()
    assert daemon.why == "exit code 78, egressd: bad"
    assert said == []


@pytest.mark.anyio
async def test_a_daemon_that_goes_on_ending_is_told_three_times(tmp_path: Path) -> None:
    daemon, supervisor, said = a_daemon(tmp_path, "raise SystemExit('no')\n")
    daemon.was_up = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await until(lambda: daemon.ends >= 4, what="the fourth end")
        nursery.cancel_scope.cancel()
    supervisor.close()
    assert [line.partition(";")[0] for line in said] == ["egressd ended: exit code 1, no"] * 3
    assert said[-1].endswith(f"without a word; log: {daemon.log}")
