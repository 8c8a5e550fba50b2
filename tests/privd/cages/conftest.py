"""Hives whose cages are real; each test that needs its own gets its own, the others share one per backend."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.privd.cages.hive import CHECKOUT, ORDINARY_UID, Hive, Inside, environment

BACKENDS = ("nspawn", "bwrap", "bwrap-as-root")
PROGRAMS = {"nspawn": "systemd-nspawn", "bwrap": "bwrap", "bwrap-as-root": "bwrap"}


def _possible(backend: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes cages as root and as another user")
    if shutil.which(PROGRAMS[backend]) is None:
        pytest.skip(f"{PROGRAMS[backend]} is not installed")
    if backend == "bwrap":
        look = [
            "setpriv",
            f"--reuid={ORDINARY_UID}",
            f"--regid={ORDINARY_UID}",
            "--clear-groups",
            "test",
            "-r",
        ]
        if subprocess.run([*look, str(CHECKOUT / "privd" / "__init__.py")], check=False).returncode:
            pytest.skip("this checkout is closed to other users, so none of them can run a hive from it")


@pytest.fixture(scope="session")
def cage_environment() -> Iterator[Path]:
    with environment() as place:
        yield place


@pytest.fixture(params=BACKENDS)
def hive(request: pytest.FixtureRequest, cage_environment: Path) -> Iterator[Hive]:
    """A hive of the test's own."""
    _possible(request.param)
    with Hive(request.param, cage_environment) as fresh:
        yield fresh


@pytest.fixture(scope="module", params=BACKENDS)
def shared_hive(request: pytest.FixtureRequest, cage_environment: Path) -> Iterator[Hive]:
    """One hive per backend and module, for tests that leave it as it is."""
    _possible(request.param)
    with Hive(request.param, cage_environment) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def inside(shared_hive: Hive) -> Inside:
    """The stand-in in the shared hive's running cage `iris`."""
    return shared_hive.enter()
