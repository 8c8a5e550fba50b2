"""What a person is told to type is what they can type, and a mistake is one line."""

import os
from pathlib import Path

import pytest

from hivectl.__main__ import parser
from hivectl.places import Places
from hivectl.program import typed, unreachable


def places(folder: Path) -> Places:
    return Places(folder, folder / "run")


def test_commands_are_named_as_they_were_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIVE_PROGRAM", "./hive")
    monkeypatch.setenv("HIVE_DIR", str(tmp_path))
    assert typed("login", places(tmp_path)) == "./hive login"
    assert typed("login", places(tmp_path / "a b")) == f"./hive login --dir '{tmp_path}/a b'"
    monkeypatch.delenv("HIVE_PROGRAM")
    assert typed("login", places(tmp_path)) == "hivectl login"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["frob"], "hive: there is no command 'frob'; see ./hive --help"),
        (["stat"], "hive: there is no command 'stat' (did you mean status?); see ./hive --help"),
        (["send"], "hive: the following arguments are required: to, body; see ./hive send --help"),
        (["up", "--port", "x"], "hive: argument --port: 'x' is no whole number; see ./hive up --help"),
        (
            ["status", "--dir", ""],
            "hive: argument --dir: the folder's name is empty; see ./hive status --help",
        ),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIVE_PROGRAM", "./hive")
    with pytest.raises(SystemExit) as end:
        parser().parse_args(words)
    assert end.value.code == 2
    assert capsys.readouterr().err == said + "\n"


def test_who_cannot_reach_a_hive_is_told_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no hive is in this folder; to start one: hivectl up --dir" in unreachable("x", places(tmp_path))
    (tmp_path / "hive.toml").touch()
    assert "x; is the hive up? To start it: hivectl up --dir" in unreachable("x", places(tmp_path))
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert unreachable("x", places(tmp_path)) == (
        f"x; this hive belongs to uid {owner}, and you are uid {owner + 1}"
    )
