"""`hivectl audit`: what is shown of root's record, and to whom."""

import os
import subprocess
import sys

import pytest

from hivectl.audit import Action, Report, actions, said
from tests.support.configuring import ground

STRANGER = 61_235


def action(**changes: object) -> Action:
    values: dict[str, object] = {
        "seq": 7,
        "at_ms": 0,
        "by": "operator",
        "uid": 1000,
        "op": "start_cage",
        "agent": "iris",
        "number": None,
        "frame": "ab" * 32,
        "verdict": "done",
        "took_ms": 1234,
        "detail": "",
    }
    return Action(**(values | changes))  # type: ignore[arg-type]  # what a test varies


def test_a_row_says_who_did_what_and_what_came_of_it() -> None:
    heads, row, cut_off = actions([action(), action(verdict="", took_ms=None, number=3)]).splitlines()
    assert heads.split() == ["LINE", "AGO", "BY", "UID", "WHAT", "AGENT", "N", "CAME", "TO", "TOOK", "DETAIL"]
    assert row.split()[2:] == ["operator", "1000", "start_cage", "iris", "–", "done", "1.2s"]
    assert cut_off.split()[2:] == ["operator", "1000", "start_cage", "iris", "3", "no", "end", "–"]
    assert actions([]) == "nothing was done yet"


def test_nothing_that_a_terminal_obeys_is_shown() -> None:
    shown = actions([action(detail="\x1b[2J\u202egone")])
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def report(*faults: str) -> Report:
    return Report(
        faults, ("1 begun and not ended",), (3, 9), f"9:{'ab' * 32}", 2, 5, {"click": 4, "ssh anna": 1}
    )


def test_a_whole_record_tells_its_head() -> None:
    lines = list(said(report()))
    assert lines == [
        "log: lines 3 to 9",
        "record: 2 agents, 5 generations; approved: 4 by click, 1 by ssh anna",
        "  · 1 begun and not ended",
        "the record is whole",
        f"head 9:{'ab' * 32}: noted elsewhere, --head finds out a log that was cut or written anew",
    ]


def test_a_broken_one_tells_what_is_wrong_and_no_head() -> None:
    lines = list(said(report("line 4 is missing")))
    assert lines[-2:] == ["  ✗ line 4 is missing", "the record is not as root left it"]


@pytest.mark.root
def test_it_is_its_owners_to_read() -> None:
    with ground() as hive:
        (hive / "cages").mkdir(mode=0o700)
        done = subprocess.run(
            [sys.executable, "-I", "-m", "hivectl", "--dir", str(hive), "audit", "verify"],
            capture_output=True,
            text=True,
            check=False,
            user=STRANGER,
            group=STRANGER,
            extra_groups=[],
            cwd="/",
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"belongs to uid {os.geteuid()}; do this as that user, or as root" in done.stderr
