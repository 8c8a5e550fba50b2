"""The NixOS modules over a stand-in for nixpkgs: units, settings that the daemons take, options named as agent.toml's.

What nixpkgs itself would say of them only a host can tell: `nix flake check`.
"""

import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brokerd.settings import BrokerSettings
from egressd.settings import EgressSettings
from hivectl.install.units import SHIPPED
from hivectl.up.configuration import Web, passkey_origins
from privd.cages.identity import block_of
from privd.policy.configuration import AgentFile
from privd.settings import PrivdSettings
from runtime.settings import load_settings
from webd.settings import WebSettings

NIX = Path(__file__).parents[2] / "nix"
SETTINGS: dict[str, type[msgspec.Struct]] = {
    "privd": PrivdSettings,
    "brokerd": BrokerSettings,
    "webd": WebSettings,
    "egressd": EgressSettings,
}
PYTHON = "/opt/hyperhive/python/bin/python"
ELSEWHERE = {"hive-cage@.service"}
"""Units of an installed hive that a NixOS one has no use for."""

pytestmark = pytest.mark.skipif(
    shutil.which("nix-instantiate") is None, reason="needs nix-instantiate (package nix-bin)"
)


def evaluate(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ("nix-instantiate", "--eval", "--strict", "--json", "--readonly-mode", *words),
        env=os.environ | {"NIX_REMOTE": "dummy://"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def cases(part: str, *words: str) -> dict[str, Any]:
    done = evaluate("-A", part, *words, str(NIX / "tests" / "cases.nix"))
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def refused(part: str, *words: str) -> str:
    """What an evaluation says that must not work."""
    done = evaluate("-A", part, *words, str(NIX / "tests" / "cases.nix"))
    assert done.returncode != 0, done.stdout
    return done.stderr


# ------------------------------------------------------------------------------------------------------ the stand-in


def test_the_stand_in_does_as_nixpkgs_does() -> None:
    """What the cases came to with nixpkgs' own library was recorded; the stand-in must say the same."""
    library = NIX / "tests" / "stub-nixpkgs" / "lib.nix"
    done = evaluate("-E", f"import {NIX}/tests/conformance.nix {{ lib = import {library}; }}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((NIX / "tests" / "conformance.json").read_text())


# ---------------------------------------------------------------------------------------------------------- the host


@pytest.fixture(scope="module")
def host() -> dict[str, Any]:
    return cases("host")


class TestHost:
    @pytest.mark.parametrize("daemon", SETTINGS)
    def test_each_daemon_takes_its_settings(self, host: dict[str, Any], daemon: str, tmp_path: Path) -> None:
        text = host["settings"][f"hyperhive/{daemon}.toml"]
        (tmp_path / "settings.toml").write_text(text)
        load_settings(tmp_path / "settings.toml", SETTINGS[daemon])

    def test_everybody_knows_everybody_by_the_same_uid(self, host: dict[str, Any]) -> None:
        users = {name: user["uid"] for name, user in host["users"].items()}
        tables = {name: tomllib.loads(host["settings"][f"hyperhive/{name}.toml"]) for name in SETTINGS}
        peers = tables["privd"]["peers"]
        assert (peers["broker_uid"], peers["web_uid"], peers["egress_uid"]) == (
            users["hive-broker"],
            users["hive-web"],
            users["hive-egress"],
        )
        assert len(set(users.values())) == 3
        assert {table.get("admin_gid", peers["admin_gid"]) for table in tables.values()} == {
            host["groups"]["hive-admin"]["gid"]
        }
        assert tables["privd"]["uid_first"] == block_of(tables["privd"]["state"])

    def test_what_systems_are_built_from_is_pinned(self, host: dict[str, Any]) -> None:
        settings = msgspec.toml.decode(host["settings"]["hyperhive/privd.toml"], type=PrivdSettings)
        assert settings.nixos is not None
        assert settings.nixos.nixpkgs.path == "/nix/store/nixpkgs"
        assert settings.nixos.hyperhive.nar_hash.startswith("sha256-B")

    @pytest.mark.parametrize(
        "web",
        [
            Web(),
            Web(port=80),
            Web(port=443, https=True),
            Web(hosts=("hive.example", "10.0.0.7:7000", "[::1]:7000")),
        ],
    )
    def test_passkeys_count_where_they_count_on_any_server(self, web: Web) -> None:
        hosts = " ".join(f'"{each}"' for each in web.hosts)
        said = f"port = {web.port}; https = {str(web.https).lower()}; hosts = [ {hosts} ];"
        found = cases("host.settings", "--arg", "more", f"{{ services.hyperhive.web = {{ {said} }}; }}")
        settings = msgspec.toml.decode(found["hyperhive/privd.toml"], type=PrivdSettings)
        assert list(settings.passkey_origins) == passkey_origins(web, web.port)

    def test_its_units_are_those_of_any_server(self, host: dict[str, Any]) -> None:
        """Line by line what `hivectl install` puts there, but for the interpreter, and what is added behind."""
        assert set(host["units"]) == {path.name for path in SHIPPED.iterdir()} - ELSEWHERE
        for name, unit in host["units"].items():
            shipped = (SHIPPED / name).read_text().splitlines()
            lines = unit["text"].splitlines()[: len(shipped)]
            for ours, theirs in zip(lines, shipped, strict=True):
                if PYTHON in theirs:
                    assert ours.partition("=")[0] == theirs.partition("=")[0]
                    assert ours.endswith(theirs.partition(PYTHON)[2])
                    assert "=/nix/store/" in ours
                else:
                    assert ours == theirs
            assert PYTHON not in unit["text"]

    def test_only_root_s_part_gets_more(self, host: dict[str, Any]) -> None:
        longer = {
            name
            for name, unit in host["units"].items()
            if len(unit["text"].splitlines()) > len((SHIPPED / name).read_text().splitlines())
        }
        assert longer == {"hive-privd.service", "hive-webd-http.socket"}
        assert [name for name, unit in host["units"].items() if unit["wantedBy"]] == ["hyperhive.target"]

    def test_systemd_understands_every_unit(self, host: dict[str, Any], tmp_path: Path) -> None:
        if shutil.which("systemd-analyze") is None:
            pytest.skip("needs systemd-analyze")
        for name, unit in host["units"].items():
            lines = [
                f"{line.partition('=')[0]}=/bin/true"
                if line.startswith(("ExecStart=", "ExecStop="))
                else line
                for line in unit["text"].splitlines()
            ]
            (tmp_path / name).write_text("\n".join([*lines, ""]))
        done = subprocess.run(
            ("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *map(str, tmp_path.iterdir())),
            env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        told = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "hive" in line]
        assert told == []

    def test_choices_reach_the_daemons(self) -> None:
        more = """{ services.hyperhive = {
            runner = "claude"; claude = "/nix/store/claude"; rebuildStale = false; modelKeyFile = "/etc/key";
            limits.memory_mib_max = 512; admins = [ "ada" ]; web = { port = 81; hosts = [ "hive.example.org" ]; };
        }; }"""
        host = cases("host", "--arg", "more", more)
        privd = msgspec.toml.decode(host["settings"]["hyperhive/privd.toml"], type=PrivdSettings)
        assert (privd.rebuild_stale, privd.limits.memory_mib_max, privd.runner) == (False, 512, "claude")
        assert privd.model_api.key_file == "/run/credentials/hive-privd.service/model-key"
        assert "LoadCredential=model-key:/etc/key\n" in host["units"]["hive-privd.service"]["text"]
        assert "ListenStream=127.0.0.1:81\n" in host["units"]["hive-webd-http.socket"]["text"]
        assert tomllib.loads(host["settings"]["hyperhive/webd.toml"])["hosts"] == ["hive.example.org"]
        assert host["groups"]["hive-admin"]["members"] == ["ada"]

    def test_the_short_name_does_as_the_long_one(self, host: dict[str, Any]) -> None:
        """S-206."""
        more = "{ lib, ... }: { services.hyperhive.enable = lib.mkForce false; hyperhive.enable = %s; }"
        assert cases("host", "--arg", "more", more % "true") == host
        assert cases("host", "--arg", "more", more % "false")["units"] == {}

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ('{ services.hyperhive.web.host = "0.0.0.0"; }', "not loopback"),
            ('{ services.hyperhive.runner = "claude"; }', "say which package"),
            ('{ nix.settings.trusted-users = [ "hive-web" ]; }', "trusted user of Nix"),
        ],
    )
    def test_what_would_be_unsafe_is_said(self, more: str, words: str) -> None:
        (failed,) = cases("host", "--arg", "more", more)["failed"]
        assert words in failed

    @pytest.mark.parametrize(
        "more",
        [
            "{ services.hyperhive.web.port = 99999; }",
            "{ services.hyperhive.wbe.port = 1; }",
            '{ services.hyperhive.runner = "gpt"; }',
            "{ services.hyperhive.limits.memory_mib_max = 0; }",
        ],
    )
    def test_what_is_mistyped_is_an_error(self, more: str) -> None:
        refused("host", "--arg", "more", more)


# ---------------------------------------------------------------------------------------------------------- an agent


AGENT = """
model = "opus"
role_prompt = "role.md"
allowed_recipients = ["manager"]
allowed_commands = ["git *"]
[egress]
hosts = ["packages.example:443"]
[limits]
memory_mib_max = 512
disk_mib_max = "unlimited"
[environment]
EDITOR = "vi"
[mcp_servers.tracker]
command = ["tracker", "--stdio"]
[[reminders]]
name = "look"
body = "look around"
every_s = 3600
"""


def folder(place: Path, toml: str = AGENT, nix: str = "") -> tuple[str, ...]:
    (place / "agent.toml").write_text(toml)
    if nix:
        (place / "agent.nix").write_text(nix)
    return "--arg", "source", str(place)


class TestAgent:
    def test_without_a_word_it_is_what_every_agent_is(self, tmp_path: Path) -> None:
        """S-060: the model is haiku unless something else is said."""
        agent = cases("agent", *folder(tmp_path, ""))
        assert (agent["failed"], agent["toplevel"], agent["name"]) == ([], True, "iris")
        assert (agent["options"]["model"], agent["options"]["allowedRecipients"]) == ("haiku", None)
        assert agent["users"] == {"agent": 1000, "harness": 1001}
        assert agent["unit"]["ExecStart"].endswith("-m harness.init --filter /etc/hyperhive/syscalls.bpf")
        assert not agent["claude"]

    def test_every_key_of_agent_toml_is_an_option_of_the_same_name(self, tmp_path: Path) -> None:
        """S-059 to S-064, S-208 to S-212."""
        agent = cases("agent", *folder(tmp_path))
        assert set(agent["options"]) == {*AgentFile.__struct_fields__, "allowedRecipients"}
        for table, kind in (("egress", "egress"), ("limits", "limits")):
            fields = type(getattr(AgentFile(), kind)).__struct_fields__
            assert set(agent["options"][table]) == set(fields)
        said = tomllib.loads(AGENT)
        for key, value in said.items():
            seen = agent["options"][key]
            assert (seen | value if isinstance(value, dict) else value) == seen
        assert agent["environment"]["HIVE_DEFAULT_MODEL"] == "opus"
        assert agent["options"]["allowedRecipients"] == ["manager"]

    def test_agent_nix_adds_packages_and_services(self, tmp_path: Path) -> None:
        nix = """{ pkgs, config, ... }: {
            hyperhive.packages = [ pkgs.findutils ];
            hyperhive.model = "opus";
            systemd.services.tracker = { wantedBy = [ "multi-user.target" ]; script = config.hyperhive.model; };
        }"""
        agent = cases("agent", *folder(tmp_path, nix=nix))
        assert agent["failed"] == []
        assert set(agent["packages"]) >= {"findutils", "bash"}

    @pytest.mark.parametrize(
        "setting",
        [
            'model = "haiku"',
            "allowed_recipients = null",
            "allowedRecipients = [ ]",
            'egress.hosts = [ "packages.example:443" "evil.example:443" ]',
            "limits.memory_mib_max = 4096",
            'environment.EDITOR = "emacs"',
        ],
    )
    def test_what_agent_nix_says_otherwise_is_refused(self, tmp_path: Path, setting: str) -> None:
        """The operator is shown what agent.toml changes: nothing may say otherwise behind it."""
        nix = f"{{ ... }}: {{ hyperhive.{setting}; }}"
        words = refused("agent", *folder(tmp_path, nix=nix))
        assert "otherwise than agent.toml" in words

    def test_an_option_that_is_mistyped_is_an_error(self, tmp_path: Path) -> None:
        refused("agent", *folder(tmp_path, nix="{ ... }: { hyperhive.modle = 1; }"))

    def test_claude_comes_with_whoever_is_driven_by_it(self, tmp_path: Path) -> None:
        assert cases("agent", *folder(tmp_path, 'runner = "claude"\n'))["claude"]


def test_what_a_host_checks_can_be_evaluated() -> None:
    """S-155: `nix flake check` there builds these, with nixpkgs itself."""
    checks = cases("checks")
    assert {"host-evaluates", "agent-evaluates", "lib-conformance", "privd-closure", "privd"} <= set(checks)
    assert all(checks.values())
