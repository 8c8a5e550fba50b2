"""hive.toml and what is rendered from it."""

import os
import stat
import tomllib
from pathlib import Path

import pytest

from brokerd.policy.guards import Guards
from brokerd.policy.retention import Retention
from brokerd.settings import BrokerSettings
from egressd.settings import EgressSettings
from hivectl.places import Places
from hivectl.up import configuration, credentials
from hivectl.up.configuration import HiveSettings, ids, render, to_toml
from privd.settings import PrivdSettings
from protocol.settings import Credential
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


EGRESS = """
[model]
credential = "egress"
key_file = "{folder}/key"
ca_file = "{folder}/authority"
kind = "oauth"
[accounts.two]
key_file = "{folder}/key2"
base_url = "https://two.example/x"
"""


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HiveSettings:
    """A hive whose keys egressd holds."""
    monkeypatch.setattr(configuration, "cage_environment", lambda: tmp_path)
    for name in ("key", "key2", "authority"):
        (tmp_path / name).write_text(f"the {name}")
    return parse_settings(EGRESS.format(folder=tmp_path), HiveSettings, origin="hive.toml")


def rendered(given: HiveSettings, folder: Path) -> tuple[PrivdSettings, EgressSettings]:
    tables = render(given, Places(folder, folder / "run"), 1_000_000, ids(1_000_000))
    return (
        parse_settings(to_toml(tables["privd"]), PrivdSettings, origin="privd.toml"),
        parse_settings(to_toml(tables["egressd"]), EgressSettings, origin="egressd.toml"),
    )


def test_a_key_goes_to_egressd_or_to_cages(tmp_path: Path, keys: HiveSettings) -> None:
    privd, egressd = rendered(keys, tmp_path)
    assert privd.credential is Credential.EGRESS
    assert privd.model_api.key_file is None
    assert {name: (each.key_file, each.kind, each.base_url) for name, each in egressd.accounts.items()} == {
        "default": (f"{tmp_path}/egress/default.key", "oauth", "https://api.anthropic.com"),
        "two": (f"{tmp_path}/egress/two.key", "api_key", "https://two.example/x"),
    }
    assert egressd.ca_file == f"{tmp_path}/egress/ca.pem"
    assert egressd.broker_uid == ids(1_000_000).broker
    in_cages = parse_settings(f"[model]\nkey_file = '{tmp_path}/key'\n", HiveSettings, origin="hive.toml")
    privd, egressd = rendered(in_cages, tmp_path)
    assert privd.credential is Credential.CAGE
    assert privd.model_api.key_file == f"{tmp_path}/key"
    assert egressd.accounts == {}
    assert egressd.ca_file is None


def test_keys_are_handed_over_as_files_that_nobody_else_reads(tmp_path: Path, keys: HiveSettings) -> None:
    places, who = Places(tmp_path, tmp_path / "run"), ids(1_000_000)
    for _ in range(2):  # a second start replaces them
        credentials.hand_over(keys, places, who)
    held = {path.name: path for path in places.egress.iterdir()}
    assert {name: path.read_text() for name, path in held.items()} == {
        "default.key": "the key",
        "two.key": "the key2",
        "ca.pem": "the authority",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in held.values()} == {0o400}
    assert {path.stat().st_uid for path in held.values()} == {who.egress}
    folder = places.egress.stat()
    expected = (0o710, 0, who.egress) if who.separate else (0o700, os.geteuid(), folder.st_gid)
    assert (stat.S_IMODE(folder.st_mode), folder.st_uid, folder.st_gid) == expected
    credentials.hand_over(HiveSettings(), places, who)
    assert list(places.egress.iterdir()) == []


def test_a_planted_link_is_not_followed(tmp_path: Path, keys: HiveSettings) -> None:
    places = Places(tmp_path, tmp_path / "run")
    precious = tmp_path / "precious"
    precious.write_text("precious")
    places.egress.mkdir()
    for name in (".default.key.new", "default.key"):
        (places.egress / name).symlink_to(precious)
    credentials.hand_over(keys, places, ids(1_000_000))
    assert precious.read_text() == "precious"
    assert not (places.egress / "default.key").is_symlink()


def test_a_key_that_is_not_there_is_said_by_its_path(tmp_path: Path, keys: HiveSettings) -> None:
    (tmp_path / "key2").unlink()
    with pytest.raises(SettingsFault, match=r"/key2: cannot be read: No such file"):
        credentials.hand_over(keys, Places(tmp_path, tmp_path / "run"), ids(1_000_000))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "[model]\ncredential = 'egress'",
            r"model: key_file: with credential = .egress. the hive needs the key",
        ),
        (
            "[model]\ncredential = 'egress'\nkey_file = '/k'\nbase_url = 'http://a'",
            "egressd sends a key to https:// addresses only",
        ),
        ("[model]\ncredential = 'both'", "model.credential: invalid enum value 'both'"),
        ("[accounts.default]\nkey_file = '/k'", "accounts.default: that account is .model. itself"),
        ("[accounts.two]\nkey_file = '/k'\nbase_url = 'http://a'", "egressd sends a key to https://"),
    ],
)
def test_what_cannot_be_meant_of_keys_is_refused(text: str, fault: str) -> None:
    with pytest.raises(SettingsFault, match=fault):
        parse_settings(text, HiveSettings, origin="hive.toml")


def test_toml_round_trips_awkward_text() -> None:
    table = {
        "text": 'a"b\\c\u00e9',
        "list": ["x"],
        "flag": True,
        "inner": {"number": 3, "deep": {"a": {"x": 1}, "b-c": {"y": [2]}}},
    }
    assert tomllib.loads(to_toml(table)) == table
