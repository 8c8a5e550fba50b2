"""One lab with an installed hive for all tests that leave it as they found it."""

import shutil
from collections.abc import Iterator

import pytest

from tests.systemd.installed import Installed, installed


@pytest.fixture(scope="session")
def hive() -> Iterator[Installed]:
    with installed('name = "lab"\n') as running:
        yield running


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("systemd") and shutil.which("systemd-nspawn") is None:
        pytest.skip("systemd-nspawn is not installed: run ./hive test as root")
