"""Log records: one line each whatever is in them, and no line that cannot be written ends the writer."""

import json
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from runtime import log

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def configured() -> Iterator[None]:
    log.configure("debug")
    yield
    structlog.reset_defaults()


def written(capfd: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


@pytest.mark.usefixtures("configured")
def test_a_record_is_one_json_object(capfd: pytest.CaptureFixture[str]) -> None:
    log.logger("brokerd").bind(agent="iris").warning("a thing happened", count=3, path=Path("/x"))
    (record,) = written(capfd)
    assert str(record.pop("at")).endswith("Z")
    assert record == {
        "daemon": "brokerd",
        "agent": "iris",
        "level": "warning",
        "event": "a thing happened",
        "count": 3,
        "path": "/x",
    }


@given(
    text=st.text(max_size=40)
    | st.sampled_from(["\n", "\x1b[2J", "\u202e", "\x7f", "\x9b", "\ud800", "\u2028", "\0"])
)
def test_no_text_forges_a_record_or_hides_in_one(text: str) -> None:
    seen: list[str] = []

    class Caught(log.Lines):
        def msg(self, line: str) -> None:
            seen.append(line)

        warning = msg

    log.configure("debug")
    try:
        structlog.configure(logger_factory=lambda *_: Caught())
        log.logger("x").warning(text, value=text, nested={"key": [text]})
    finally:
        structlog.reset_defaults()
    (line,) = seen
    assert line.isascii()
    assert not [one for one in line if unicodedata.category(one).startswith("C")]
    record = json.loads(line)
    assert record["event"] == record["value"] == text
    assert record["nested"] == {"key": [text]}


@pytest.mark.usefixtures("configured")
def test_a_long_value_is_cut(capfd: pytest.CaptureFixture[str]) -> None:
    log.logger("x").info("said", body="x" * 100_000)
    (record,) = written(capfd)
    assert record["body"] == "x" * log.VALUE_CHARS_MAX + "…"


@pytest.mark.usefixtures("configured")
def test_a_defect_stands_with_its_trace(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        raise ZeroDivisionError("who divides by zero")
    except ZeroDivisionError as defect:
        log.logger("x").error("a request met a defect", exc_info=defect)
    (record,) = written(capfd)
    assert "test_a_defect_stands_with_its_trace" in str(record["exception"])
    assert "ZeroDivisionError: who divides by zero" in str(record["exception"])


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_a_level_hides_what_is_below(level: str, shown: int, capfd: pytest.CaptureFixture[str]) -> None:
    log.configure(level)
    try:
        logger = log.logger("x")
        logger.debug("1")
        logger.info("2")
        logger.warning("3")
        logger.error("4")
    finally:
        structlog.reset_defaults()
    assert len(written(capfd)) == shown


FULL_DISK = """
import os, sys
from runtime import log
log.configure()
logger = log.logger("x")
kept = os.dup(2)
full = os.open("/dev/full", os.O_WRONLY)
os.dup2(full, 2)
logger.warning("lost")
logger.exception("lost too")
os.dup2(kept, 2)
logger.info("heard")
logger.info("and this")
"""


def test_a_disk_that_is_full_ends_nobody_and_is_told_afterwards() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert [record["event"] for record in records] == ["log lines were lost", "heard", "and this"]
    assert records[0]["lost"] == 2
