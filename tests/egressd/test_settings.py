"""Settings that cannot be meant are refused with file, key and reason."""

from pathlib import Path

import pytest

from egressd.policy.site import KeyKind
from egressd.policy.target import Target, parse_target
from egressd.settings import EgressSettings
from runtime.settings import SettingsFault, load_settings, parse_settings


def test_by_default_the_model_api_and_nothing_else() -> None:
    settings = parse_settings('run = "/run/hyperhive"', EgressSettings, origin="egressd.toml")
    assert settings.model_scope().admits(parse_target("api.anthropic.com:443"))
    assert len(settings.model_scope().rules) == 1
    assert settings.private_targets() == frozenset()


def test_the_operators_lists() -> None:
    text = 'run = "/r"\nmodel_hosts = []\nallow_private = ["127.0.0.1:8443", "[::1]:9", "Registry.lan"]'
    settings = parse_settings(text, EgressSettings, origin="egressd.toml")
    assert settings.model_scope().rules == ()
    assert settings.private_targets() == {
        Target("127.0.0.1", 8443),
        Target("::1", 9),
        Target("registry.lan", 443),
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('model_hosts = ["example.org:0"]', r"model_hosts: 'example.org:0': the port is a number"),
        ('allow_private = ["*.lan"]', "allow_private: a wildcard is not taken here"),
        ('allow_private = ["127.1:80"]', "allow_private: '127.1:80': the host is an address, but"),
        ('model_hosts = "example.org"', "model_hosts: expected a list"),
        ('allow_hosts = ["example.org"]', "unknown key `allow_hosts`"),
        (
            '[accounts.a]\nkey_file = "/k"\nbase_url = "http://a.example"',
            "accounts.*base_url: a key goes to https:// addresses only",
        ),
        (
            '[accounts.a]\nkey_file = "/k"\nkind = "password"',
            "accounts.*kind.*: invalid enum value 'password'",
        ),
        ('[accounts.a]\nkind = "oauth"', "accounts.*: the key `key_file` is missing"),
        ('[accounts.A]\nkey_file = "/k"', "accounts.*: expected a model account: lowercase letters"),
        ('broker_uid = "hive-broker"', "broker_uid: expected a whole number"),
        ('log_level = "loud"', "log_level: invalid enum value 'loud'"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "egressd.toml"
    path.write_text(f'run = "/run/hyperhive"\n{line}\n')
    with pytest.raises(SettingsFault, match=said) as caught:
        load_settings(path, EgressSettings)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_accounts() -> None:
    text = (
        'run = "/r"\n[accounts.default]\nkey_file = "/k"\n[accounts.two]\nkey_file = "/t"\nkind = "oauth"\n'
    )
    given = parse_settings(
        text + 'base_url = "https://a.example:8443/x"', EgressSettings, origin="egressd.toml"
    )
    assert {name: account.site().target for name, account in given.accounts.items()} == {
        "default": Target("api.anthropic.com", 443),
        "two": Target("a.example", 8443),
    }
    assert [account.kind for account in given.accounts.values()] == [KeyKind.API_KEY, KeyKind.OAUTH]


def test_the_runtime_folder_must_be_said() -> None:
    with pytest.raises(SettingsFault, match="the key `run` is missing"):
        parse_settings("", EgressSettings, origin="egressd.toml")
