"""What the harness's tests share."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.claude_hive import HOST, Hive
from tests.support.certificates import Certificate, make_certificate
from tests.support.scripted_api import ScriptedApi


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name: the path of a unix socket has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="hive-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), HOST)


@pytest.fixture
def api(certificate: Certificate) -> Iterator[ScriptedApi]:
    with ScriptedApi(certificate=certificate.certificate, key=certificate.key) as running:
        yield running


@pytest.fixture
def hive(place: Path, api: ScriptedApi, certificate: Certificate) -> Hive:
    return Hive(place, api, certificate)
