"""hive.toml and what is rendered from it."""

import tomllib
from pathlib import Path

import pytest

from brokerd.policy.guards import Guards
from brokerd.policy.retention import Retention
from brokerd.settings import BrokerSettings
from hivectl.places import Places
from hivectl.up import configuration
from hivectl.up.configuration import HiveSettings, ids, render, to_toml
from privd.settings import PrivdSettings
from runtime.settings import SettingsFault, load_settings, parse_settings


def test_the_template_is_valid_and_says_only_defaults(tmp_path: Path) -> None:
    path = tmp_path / "hive.toml"
    path.write_text(configuration.TEMPLATE.format(name="x", port=7000))
    assert load_settings(path, HiveSettings) == HiveSettings()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[web]\nport = 'x'", r"hive\.toml: web\.port: expected a whole number, got text"),
        ("[web]\nprot = 1", r"hive\.toml: web: unknown key `prot`"),
        ("[web", r"hive\.toml: not TOML"),
        ("[agents]\nfirst = ['Iris']", r"hive\.toml: agents\.first"),
    ],
)
def test_a_mistake_names_file_and_key(text: str, fault: str) -> None:
    with pytest.raises(SettingsFault, match=fault):
        parse_settings(text, HiveSettings, origin="hive.toml")


def test_without_a_cage_environment_it_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIVE_CAGE_ENV", str(tmp_path))
    with pytest.raises(SettingsFault, match=r"\./hive up"):
        configuration.cage_environment()


def test_rendered_settings_are_what_privd_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    monkeypatch.setenv("HIVE_CAGE_ENV", str(tmp_path))
    tables = render(HiveSettings(), Places(tmp_path, tmp_path / "run"), 1_000_000, ids(1_000_000))
    settings = parse_settings(to_toml(tables["privd"]), PrivdSettings, origin="privd.toml")
    assert settings.state == str(tmp_path)


def test_guards_of_hive_toml_are_what_brokerd_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "cage_environment", lambda: tmp_path)
    given = parse_settings("[guards]\nhops_max = 7\n", HiveSettings, origin="hive.toml")
    tables = render(given, Places(tmp_path, tmp_path / "run"), 1_000_000, ids(1_000_000))
    settings = parse_settings(to_toml(tables["brokerd"]), BrokerSettings, origin="brokerd.toml")
    assert settings.guards == Guards(hops_max=7)


def test_retention_of_hive_toml_is_what_brokerd_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "cage_environment", lambda: tmp_path)
    given = parse_settings("[retention]\nmessages_days = 7\n", HiveSettings, origin="hive.toml")
    tables = render(given, Places(tmp_path, tmp_path / "run"), 1_000_000, ids(1_000_000))
    settings = parse_settings(to_toml(tables["brokerd"]), BrokerSettings, origin="brokerd.toml")
    assert settings.retention == Retention(messages_days=7)


def test_toml_round_trips_awkward_text() -> None:
    table = {"text": 'a"b\\c\u00e9', "list": ["x"], "flag": True, "inner": {"number": 3}}
    assert tomllib.loads(to_toml(table)) == table
