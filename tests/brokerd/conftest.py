"""A hive of three agents: the manager, iris and atlas."""

import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from trio.testing import MockClock

from brokerd.policy.guards import Guards
from brokerd.store import wal
from protocol.names import MANAGER_NAME
from tests.brokerd.hive import UNHURRIED, Hive, Privd, cage
from tests.support.quiet import stores_known

MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 512 * 1024 * 1024


@pytest.fixture(autouse=True)
def stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So that a test may wait until all is `settled`."""
    with stores_known(monkeypatch):
        yield


@pytest.fixture
def clock() -> MockClock:
    """Time that runs as ever and can be moved on: `clock.jump(600)`. With threads at work it may not jump by itself."""
    return MockClock(rate=1.0)


@dataclass
class Wall:
    """The wall clock, which can be set."""

    set_by_s: float = 0.0


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    """Goes as ever until a test sets it: `wall.set_by_s += 3_600`. Timers are trio's and do not notice."""
    made, real = Wall(), time.time_ns
    monkeypatch.setattr("runtime.clock.time.time_ns", lambda: real() + round(made.set_by_s * 1_000_000_000))
    return made


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    """Trio, on the test's own clock if it asks for one."""
    options = {"clock": request.getfixturevalue("clock")} if "clock" in request.fixturenames else {}
    return "trio", options


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Paths of sockets have at most 107 bytes; pytest's own folders come close.

    In memory where there is room: no test here cuts the power, and a disk that others use makes them slow.
    """
    memory = MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES_MIN else None
    with tempfile.TemporaryDirectory(prefix="hive-", dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the write-ahead log is grown at a start changes nothing but the time that takes."""
    monkeypatch.setattr(wal, "STEPS", 1)


@pytest.fixture
def guards() -> Guards:
    """What brokerd's settings say; a test that wants others gives them: `parametrize("guards", [Guards(…)])`."""
    return UNHURRIED


@pytest.fixture
async def unserved(short_folder: Path, small_log: None, guards: Guards) -> AsyncIterator[Hive]:
    """The hive with privd, but without brokerd."""
    hive = Hive(short_folder, Privd(short_folder), guards=guards)
    for name in (MANAGER_NAME, "iris", "atlas"):
        hive.privd.change(cage(name))
    async with hive.privd.serving():
        yield hive
    await hive.forget_connections()


@pytest.fixture
async def hive(unserved: Hive) -> AsyncIterator[Hive]:
    async with unserved.broker():
        yield unserved
