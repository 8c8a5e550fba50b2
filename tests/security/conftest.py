"""One real hive for the whole folder, started by `hivectl up`, with a model key planted in its settings."""

import json
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security import population
from tests.security.peers import User
from tests.support.hive import RunningHive, hive

PLANTED_KEY = f"sk-ant-planted-{secrets.token_hex(8)}"
"""Of this run alone: what another run on the machine holds is none of ours."""


@pytest.fixture(scope="session")
def secure_hive() -> Iterator[RunningHive]:
    """Agents hm1nd and iris in real cages. Tests may bring agents of their own; they leave the daemons running."""
    with tempfile.TemporaryDirectory(prefix="hive-key-") as folder:
        key_file = Path(folder) / "key"
        key_file.write_text(PLANTED_KEY)
        settings = f"[model]\nkey_file = {json.dumps(str(key_file))}\n"
        with hive("--runner", "demo", "--agents", "iris", settings=settings) as running:
            yield running


@pytest.fixture(scope="session")
def users(secure_hive: RunningHive) -> dict[str, User]:
    return population.users(secure_hive)
