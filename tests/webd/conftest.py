"""A hive with a dashboard for each test, in a short folder: socket paths have at most 107 bytes."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.webd.support.hive import WebHive, web_hive


@pytest.fixture
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        yield Path(folder)


@pytest.fixture
async def hive(short_folder: Path, anyio_backend: object) -> AsyncIterator[WebHive]:
    """privd, brokerd and webd, all up, without agents."""
    async with web_hive(short_folder) as hive:
        yield hive
