"""Servers of a benchmark, ours and the references: started, waited for, and ended by their own process ids."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.measure import BUILT, CHECKOUT, SECONDS

OURS: Final = str(CHECKOUT / ".hive" / "venv" / "bin" / "python")
THEIRS: Final = str(BUILT / "venv" / "bin" / "python")
START_S: Final = 30.0
TICKS_S: Final = os.sysconf("SC_CLK_TCK")
LOAD_WARM_S: Final = 0.5
"""The load generator does not count its first half second (bench/native/load.c)."""
ON_DISK: Final = CHECKOUT / ".hive" / "bench" / "state"
"""Databases lie on the disk of the checkout, never on a tmpfs."""


@contextmanager
def folder() -> Iterator[Path]:
    """A short-named folder for sockets."""
    with tempfile.TemporaryDirectory(prefix="hb-", dir="/tmp") as name:  # paths of sockets are short
        yield Path(name)


@contextmanager
def on_disk() -> Iterator[Path]:
    """A folder for databases."""
    ON_DISK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ON_DISK) as name:
        yield Path(name)


@contextmanager
def serving(
    *command: str | Path, ready: Path | int, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, once its socket (or port) answers; ended afterwards."""
    with (log or Path(os.devnull)).open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=CHECKOUT, stdout=output, stderr=output, env=environment()
        )
    try:
        wait_until_answered(ready, process)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}


def wait_until_answered(place: Path | int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended with {process.returncode} before it answered")
        if answers(place):
            return
        time.sleep(0.02)
    raise SystemExit(f"{process.args!r} does not answer at {place}")


def answers(place: Path | int) -> bool:
    family = socket.AF_INET if isinstance(place, int) else socket.AF_UNIX
    address: Any = ("127.0.0.1", place) if isinstance(place, int) else str(place)
    with socket.socket(family) as probe:
        try:
            probe.connect(address)
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def load(
    path: Path, connections: int, request: str, *, lines: int = 1, seconds: float = SECONDS
) -> dict[str, float]:
    """Let the load generator work on a socket; its figures, calls per second among them."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".request") as template:
        template.write(request.encode())
        template.flush()
        command = [BUILT / "load", path, str(connections), str(seconds), str(lines), template.name]
        before_s = servers_cpu_s()
        done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
        spent_s = servers_cpu_s() - before_s
    figures: dict[str, float] = json.loads(done.stdout)
    if figures["problems"]:
        raise SystemExit(
            f"{figures['problems']} of {figures['calls']} answers were refusals: this measures nothing"
        )
    rate = figures["calls"] / figures["seconds"]
    return {
        "calls_per_s": rate,
        "server_us": spent_s * 1e6 / (rate * (figures["seconds"] + LOAD_WARM_S)),
        "p50_us": figures["p50_us"],
        "p99_us": figures["p99_us"],
    }


def ask(path: Path, request: bytes, *, wait_s: float = 0.5) -> bytes:
    """One answer, as bytes: to learn how long it is."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(path))
        stream.sendall(request)
        stream.settimeout(wait_s)
        said = b""
        try:
            while data := stream.recv(65536):
                said += data
        except TimeoutError:
            pass
    return said


def native(name: str) -> Path:
    """A program that bench/run has compiled."""
    path = BUILT / name
    if not path.exists():
        raise SystemExit(f"{path} is missing: run bench/run, which compiles it")
    return path


def servers_cpu_s() -> float:
    """What all processes that this one started, and theirs, have spent on a core so far; not those that ended."""
    parent_of: dict[int, int] = {}
    spent: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        process = int(stat.parent.name)
        parent_of[process], spent[process] = int(fields[1]), sum(map(int, fields[11:13])) / TICKS_S
    return sum(seconds for process, seconds in spent.items() if _is_ours(process, parent_of))


def _is_ours(process: int, parent_of: dict[int, int]) -> bool:
    while process := parent_of.get(process, 0):
        if process == os.getpid():
            return True
    return False


def has(module: str, python: str = THEIRS) -> bool:
    """Whether the references' environment holds a module."""
    if not Path(python).exists():
        return False
    return not subprocess.run([python, "-c", f"import {module}"], check=False, capture_output=True).returncode


def skip(what: str, why: str) -> None:
    print(f"  not compared: {what} ({why})", file=sys.stderr)
