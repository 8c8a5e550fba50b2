"""Log lines of our programs are shown as sentences; other lines as they are, but printable."""

import json
from pathlib import Path

import pytest

from hivectl import records

GROUP = """  + Exception Group Traceback (most recent call last):
  | ExceptionGroup: Exceptions from Trio nursery (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    | webd.http.port.PortFault: cannot listen
    +------------------------------------"""


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            {"daemon": "harness", "turn": 2, "detail": "", "event": "turn ended", "level": "info"},
            "turn ended (turn 2)",
        ),
        ({"event": "away", "level": "warning"}, "⚠ away"),
        ({"event": "a\x1b[2Jb", "level": "info"}, "a\\x1b[2Jb"),
        (
            {"event": "ended", "level": "critical", "exception": GROUP},
            "✗ ended: webd.http.port.PortFault: cannot listen",
        ),
    ],
)
def test_a_record_is_a_sentence(record: dict[str, object], said: str) -> None:
    assert records.in_words(json.dumps(record)) == said


def test_a_record_with_a_time_begins_with_it() -> None:
    said = records.in_words('{"event": "ready", "at": "2026-11-20T17:52:06.834164Z"}')
    assert said.endswith(":52:06  ready")


@pytest.mark.parametrize("line", ["plain", "{", "[1]", '{"event": 3}', "null", '{"level": "info"}'])
def test_any_other_line_stays(line: str) -> None:
    assert records.in_words(line) == line


def test_the_last_words_are_those_since_it_started(tmp_path: Path) -> None:
    log = tmp_path / "webd.log"
    log.write_text("before\n")
    size = log.stat().st_size
    assert records.last_words(log, size) == ""
    with log.open("a") as file:
        file.write('{"event": "one"}\nwebd: hive.toml: port\n\n')
    assert records.last_words(log, size) == "webd: hive.toml: port"
    log.write_text("cut\n")
    assert records.last_words(log, size) == "cut"
