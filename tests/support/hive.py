"""A whole hive for tests: `hivectl up` in a folder of its own, its daemons found by name, all ended at the end.

Plain blocking code, so that trio tests and browser tests share it. Only processes that this hive started are ended.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hivectl.places import Places

READY_S = 60.0
STOP_S = 60.0
LOOK_S = 0.02
CAGE_ENVIRONMENT = Path(__file__).parents[2] / ".hive" / "cage"
"""What ./hive prepared, for a test that is run by hand."""
LINK = re.compile(r"https?://\S+/login#code=\S+")
DEFECTS = ("the daemon ended by a defect", "met a defect")


class RunningHive:
    """One hive that is up."""

    def __init__(self, process: subprocess.Popen[str], places: Places) -> None:
        self.process = process
        self.places = places
        self.lines: list[str] = []
        self.link = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def await_link(self) -> str:
        """The login link that `up` prints; an AssertionError with its whole output when it does not come."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            for line in tuple(self.lines):
                found = LINK.search(line)
                if found:
                    self.link = found.group()
                    return self.link
            if self.process.poll() is not None:
                break
            time.sleep(LOOK_S)
        raise AssertionError("hivectl up printed no link:\n" + "\n".join([*self.lines, *self.logs()]))

    @property
    def base_url(self) -> str:
        return self.link.split("/login")[0]

    def socket(self, daemon: str) -> Path:
        return self.places.socket(daemon)

    def logs(self) -> list[str]:
        """The last lines of every daemon's log."""
        lines = []
        for path in sorted(self.places.logs.glob("*.log")):
            lines += [f"--- {path.name}", *path.read_text(errors="replace").splitlines()[-15:]]
        return lines

    def defects(self) -> list[str]:
        """What the daemons' logs say of defects: not refusals, nor a daemon that was killed."""
        lines = (
            line
            for path in self.places.logs.glob("*d.log")
            for line in path.read_text(errors="replace").splitlines()
        )
        return [line for line in lines if any(mark in line for mark in DEFECTS)]

    def daemon_pid(self, name: str) -> int:
        """The pid of one daemon of this hive."""
        for pid in children(self.process.pid):
            words = command_line(pid)
            if b"-m" in words and words[words.index(b"-m") + 1] == name.encode():
                return pid
        raise AssertionError(f"{name} does not run")

    def kill_daemon(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to one daemon; the pid it had."""
        pid = self.daemon_pid(name)
        os.kill(pid, number)
        return pid

    def hivectl(self, *words: str) -> Any:
        """Run one command against this hive with --json; its answer. An AssertionError shows what it said instead."""
        done = self.hivectl_raw("--json", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def hivectl_raw(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-I", "-m", "hivectl", "--dir", str(self.places.state), *words],
            capture_output=True,
            text=True,
            timeout=READY_S,
            check=False,
            cwd="/",
        )

    def stop(self) -> int:
        """Ask `up` to stop everything, wait, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(
                "hivectl up did not stop:\n" + "\n".join([*self.lines, *self.logs()])
            ) from None
        self._reader.join(STOP_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


def command_line(pid: int) -> list[bytes]:
    """The words a process was started with; none when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def children(parent: int) -> tuple[int, ...]:
    """Direct children of a process, whichever of its threads started them."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent:
            found.append(int(entry.name))
    return tuple(found)


def start_hive(
    *options: str,
    folder: Path | None = None,
    settings: str = "",
    environment: dict[str, str] | None = None,
    uid: int | None = None,
) -> RunningHive:
    """Start a hive on a free port without waiting for it. `folder` is made when None is given."""
    state = folder or Path(tempfile.mkdtemp(prefix="hive-", dir="/tmp"))
    state.chmod(0o711)
    if settings:
        (state / "hive.toml").write_text(settings)
    if uid is not None:
        for path in (state, *state.iterdir()):
            os.chown(path, uid, uid)
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "hivectl", "--dir", str(state), "up", "--port", "0", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        env={
            "HIVE_CAGE_ENV": str(CAGE_ENVIRONMENT),
            **os.environ,
            **(environment or {}),
            **({"HOME": str(state)} if uid is not None else {}),
        },
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
    )
    return RunningHive(process, Places(state, state / "run"))


@contextmanager
def hive(*options: str, **how: Any) -> Iterator[RunningHive]:
    """A hive that is up inside the block, stopped and deleted after it."""
    running = start_hive(*options, **how)
    try:
        running.await_link()
        yield running
    finally:
        running.stop()
        defects = running.defects()
        remove(running.places.state)
    assert not defects, defects  # a daemon that ended is started again, and nobody would notice


def remove(folder: Path) -> None:
    """Delete a hive's folder."""
    shutil.rmtree(folder)
