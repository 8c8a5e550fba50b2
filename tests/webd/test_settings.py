"""Settings: what the dashboard is called, and what is refused with its place."""

import pytest

from runtime.settings import SettingsFault, parse_settings
from webd.settings import WebSettings

PLACES = 'run = "/run/hive"\nstate = "/var/lib/hive/web"\n'


def settings(text: str = "") -> WebSettings:
    return parse_settings(PLACES + text, WebSettings, origin="webd.toml")


@pytest.mark.parametrize(
    ("text", "hosts", "address"),
    [
        ("", {"127.0.0.1:7000", "localhost:7000"}, "http://127.0.0.1:7000"),
        ("port = 80", {"127.0.0.1", "localhost"}, "http://127.0.0.1"),
        ('host = "::1"', {"[::1]:7000", "localhost:7000"}, "http://[::1]:7000"),
        ('host = "0.0.0.0"', {"127.0.0.1:7000", "localhost:7000"}, "http://127.0.0.1:7000"),
        ('host = "192.0.2.7"', {"192.0.2.7:7000"}, "http://192.0.2.7:7000"),
        (
            'hosts = ["hive.example", "other:8443"]\nhttps = true',
            {"127.0.0.1:7000", "localhost:7000", "hive.example", "other:8443"},
            "https://hive.example",
        ),
    ],
)
def test_names(text: str, hosts: set[str], address: str) -> None:
    given = settings(text)
    assert given.names().hosts == hosts
    assert given.address() == address


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("port = 0", "port"),
        ("port = 70000", "port"),
        ('host = "example.com"', "host"),
        ('hosts = ["Hive.example"]', r"hosts\[0\]|hosts\[\.\.\.\]"),
        ('hosts = ["http://x"]', "hosts"),
        ('hosts = ["x/y"]', "hosts"),
        ("body_s = 0", "body_s"),
        ('log_level = "loud"', "log_level"),
        ("prot = 1", "unknown key `prot`"),
    ],
)
def test_faults_name_their_place(text: str, place: str) -> None:
    with pytest.raises(SettingsFault, match=place):
        settings(text)
