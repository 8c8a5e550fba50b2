"""A hive with a dashboard for each test, in a short folder: socket paths have at most 107 bytes."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from privd import deploying
from tests.webd.support.hive import WebHive, web_hive


@pytest.fixture
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        yield Path(folder)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents are made by the dozen here: privd looks after a new one's health more often."""
    monkeypatch.setattr(deploying, "LOOK_S", 0.01)


@pytest.fixture
async def hive(short_folder: Path, soon: None, anyio_backend: object) -> AsyncIterator[WebHive]:
    """privd, brokerd and webd, all up, without agents."""
    async with web_hive(short_folder) as hive:
        yield hive
