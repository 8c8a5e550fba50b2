"""What an agent.nix names, as far as its text says it; and that no text takes long to look at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privd.policy.capabilities import CHANGES_MAX, changes
from privd.policy.configuration import Ground, read
from privd.policy.system_text import named
from privd.templates import files
from protocol.settings import AgentSettings

TEXT = """
{ pkgs, lib, ... }:
{
  hyperhive.packages = with pkgs; [ ripgrep python3Packages.numpy ] ++ [ pkgs.jq ];
  services.postgresql.enable = true;
  services.postgresql = { package = pkgs.postgresql_16; };
  systemd.services."tracker".serviceConfig.ExecStart = "${pkgs.hello}/bin/hello";
  networking.firewall.allowedTCPPorts = lib.mkForce [ 80 ];
  environment.etc."x".source = builtins.fetchurl "https://example.org/x";
}
"""


def test_packages_options_and_words_are_named() -> None:
    found = named(TEXT)
    packages = {name.removeprefix("package ") for name in found if name.startswith("package ")}
    assert packages == {"ripgrep", "python3Packages.numpy", "jq", "postgresql_16", "hello"}
    options = {name.removeprefix("system option ") for name in found if name.startswith("system option ")}
    assert options == {
        "hyperhive.packages",
        "services.postgresql",
        'systemd.services."tracker"',
        "networking.firewall",
        "environment.etc",
    }
    assert {name for name in found if name.startswith("agent.nix says")} == {
        "agent.nix says mkForce",
        "agent.nix says builtins.fetchurl",
    }


def test_the_operator_sees_what_comes_and_goes() -> None:
    settings = AgentSettings("iris")
    after = TEXT.replace("postgresql", "redis")
    found = {each.subject: each for each in changes(settings, settings, (), (TEXT, after))}
    assert found["agent.nix"].notable
    assert (found["system option services.redis"].notable, found["system option services.redis"].before) == (
        True,
        None,
    )
    assert found["system option services.postgresql"].after is None
    assert not found["system option services.postgresql"].notable
    assert not found["package redis_16"].notable
    assert "package jq" not in found
    assert changes(settings, settings, (), (TEXT, TEXT)) == ()


def test_a_module_beside_agent_nix_is_judged_with_it() -> None:
    """It may be imported, and its name may be the last of two hundred."""
    ground = Ground("iris", nixos=True)
    here = {"agent.toml": b"", "agent.nix": b"{ imports = [ ./z.nix ]; }\n", "z.nix": b"{ }\n"}
    there = here | {"z.nix": b"{ security.sudo.enable = true; }\n"}
    before, after = read(here, ground), read(there, ground)
    found = {
        each.subject: each.notable
        for each in changes(before.settings, after.settings, (), (before.system, after.system))
    }
    assert found == {"agent.nix": True, "system option security.sudo": True, "agent.nix says sudo": True}
    assert read({"agent.toml": b"", "z.nix": b"{ }\n"}, ground).system == ""


def test_what_names_nothing_is_notable_all_the_same() -> None:
    settings = AgentSettings("iris")
    (only,) = changes(settings, settings, (), ("", "{ ... }: import ./other.nix\n"))
    assert (only.subject, only.notable) == ("agent.nix", True)


def test_a_text_that_names_much_is_cut() -> None:
    text = "\n".join(f"services.s{number}.enable = true;" for number in range(1_000))
    found = changes(None, AgentSettings("iris"), (), ("", text))
    assert len(found) == CHANGES_MAX
    assert "more changes" in (found[-1].after or "")


@pytest.mark.parametrize(
    "text",
    [
        "with pkgs; [" * 20_000,
        "a." * 120_000,
        '"' * 250_000,
        "services." * 25_000 + "=",
        " " * 250_000 + "=",
        "pkgs." * 50_000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    """Each of these is looked at in milliseconds; a rule that goes back and forth would not end."""
    assert isinstance(named(text), dict)


@given(st.text(alphabet="pkgs.with;[]=\"${} \nabc-_'", max_size=200))
def test_any_text_can_be_looked_at(text: str) -> None:
    named(text)


def test_where_systems_are_not_built_it_is_left_out_and_said() -> None:
    content = {"agent.toml": b"", "agent.nix": TEXT.encode()}
    reading = read(content, Ground("iris"))
    assert reading.system == ""
    assert reading.warnings == ("agent.nix: left out: the cages of this hive are not NixOS containers",)
    reading = read(content, Ground("iris", nixos=True))
    assert (reading.system, reading.warnings) == (TEXT, ())


def test_a_template_has_one_where_systems_are_built() -> None:
    assert "agent.nix" not in files("iris", "")
    made = files("iris", "backend", nixos=True)
    assert {"agent.toml", "agent.nix", "role.md"} <= set(made)
    assert named(made["agent.nix"].decode()) == {"system option hyperhive.packages": "set in agent.nix"}


def test_a_secret_in_it_is_refused_as_anywhere() -> None:
    content = {"agent.toml": b"", "agent.nix": b'{ environment.variables.K = "sk-' + b"a" * 30 + b'"; }'}
    with pytest.raises(Exception, match="looks like an API key"):
        read(content, Ground("iris", nixos=True))
