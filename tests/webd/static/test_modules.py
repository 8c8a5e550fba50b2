"""The dashboard's modules that need no browser, put to Node's own test runner."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
VENDOR = HERE.parents[2] / "webd" / "static" / "vendor"
FILES = sorted(HERE.glob("*.test.mjs"))
RUN_S = 60


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".test.mjs"))
def test_module(file: Path) -> None:
    node = shutil.which("node")
    assert node, "node is missing: ./hive sets it up"
    assert VENDOR.is_dir(), "webd/static/vendor is missing: ./hive fills it"
    done = subprocess.run(
        [node, "--test", "--test-reporter=spec", str(file)],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_modules_to_test() -> None:
    assert len(FILES) > 4
