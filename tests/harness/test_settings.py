"""What the harness is told at its start: agent.json and a few variables."""

from pathlib import Path

import msgspec
import pytest

from harness.settings import GRACE_MARGIN_S, load_settings, stop_grace_s
from protocol.limits import STOP_GRACE_S
from protocol.settings import AgentSettings
from runtime.settings import SettingsFault


def test_settings_come_back_as_privd_wrote_them(tmp_path: Path) -> None:
    settings = AgentSettings("iris", role_prompt="Sweep. é", environment={"TZ": "UTC"})
    (tmp_path / "agent.json").write_bytes(msgspec.json.format(msgspec.json.encode(settings)))
    assert load_settings(tmp_path / "agent.json") == settings


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"", "truncated"),
        (b"\xff", "agent.json: "),
        (b'{"name": "Iris"}', "$.name"),
        (b'{"name": "iris\\n"}', "$.name"),
        (b'{"name": "iris", "colour": 1}', "colour"),
        (b'{"name": "iris", "runner": "gpt"}', "$.runner"),
    ],
)
def test_settings_that_cannot_be_used_say_file_and_key(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "agent.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsFault) as fault:
        load_settings(path)
    assert str(path) in str(fault.value)
    assert words in str(fault.value)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("2.5", 2.5), ("3600", 3600.0)])
def test_the_grace_of_a_stop(text: str, seconds: float) -> None:
    assert stop_grace_s({"HIVE_STOP_GRACE_S": text}) == seconds


def test_without_a_word_the_grace_leaves_a_margin() -> None:
    assert stop_grace_s({}) == STOP_GRACE_S - GRACE_MARGIN_S


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "inf", "3601", "1\n2"])
def test_a_grace_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsFault, match="HIVE_STOP_GRACE_S"):
        stop_grace_s({"HIVE_STOP_GRACE_S": text})
