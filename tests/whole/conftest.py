"""Fixtures that start whole hives; one is shared by the tests of a module."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hive import RunningHive, hive

ORDINARY_UID = 61_234
UNHURRIED = "[guards]\nmessages_per_minute = 100000\npair_messages_per_minute = 100000\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name: the path of a unix socket has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="hive-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def demo_hive() -> Iterator[RunningHive]:
    """A hive of demo agents hm1nd and iris, in the cages that the one who runs the tests can make.

    They may send faster than agents do: what holds them back has tests of its own.
    """
    with hive("--runner", "demo", "--agents", "iris", settings=UNHURRIED) as running:
        yield running


@pytest.fixture(scope="module", params=["root", "user"])
def any_hive(request: pytest.FixtureRequest) -> Iterator[RunningHive]:
    """The same in real nspawn cages as root, and in bubblewrap as an ordinary user."""
    if os.geteuid() != 0:
        if request.param == "root":
            pytest.skip("needs root: run ./hive test as root")
        with hive("--runner", "demo", "--agents", "iris") as running:
            yield running
        return
    with hive(
        "--runner", "demo", "--agents", "iris", uid=ORDINARY_UID if request.param == "user" else None
    ) as running:
        yield running
