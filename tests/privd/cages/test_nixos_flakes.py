"""The flake of one agent on disk: there whole, or not; aimed at, or not; and what it pins."""

from pathlib import Path

import pytest

from privd.cages.nixos_flakes import SOURCE, Flakes
from privd.policy.flakes import Ground, Pin, base_of, flake
from privd.policy.nar import Content, nar_hash
from protocol.problem import Refused

FIRST = {"agent.toml": Content(b"x = 1\n"), "bin/run": Content(b"#!/bin/sh\n", executable=True)}
HASH, OTHER = f"sha256-{'A' * 43}=", f"sha256-{'B' * 43}="
GROUND = Ground(Pin("/nix/store/h", HASH), Pin("/nix/store/n", HASH), "x86_64-linux")
NEWER = Ground(Pin("/nix/store/h2", OTHER), Pin("/nix/store/n", HASH), "x86_64-linux")


def test_a_flake_is_named_after_what_it_pins(tmp_path: Path) -> None:
    flakes = Flakes(tmp_path)
    first = flakes.write("iris", FIRST, GROUND)
    assert flakes.write("iris", dict(FIRST), GROUND) == first
    others = {
        first,
        flakes.write("iris", FIRST, NEWER),
        flakes.write("iris", {**FIRST, "a": Content(b"")}, GROUND),
    }
    assert len(others) == 3
    assert nar_hash(FIRST) in (first / "flake.lock").read_text()
    assert (first / SOURCE / "bin/run").stat().st_mode & 0o777 == 0o755
    assert (first / SOURCE / "agent.toml").stat().st_mode & 0o777 == 0o644


def test_aiming_lets_the_others_go(tmp_path: Path) -> None:
    flakes = Flakes(tmp_path)
    assert flakes.aimed("iris") is None
    assert flakes.base("iris") == {}
    first, second = flakes.write("iris", FIRST, GROUND), flakes.write("iris", FIRST, NEWER)
    flakes.aim("iris", first)
    assert (flakes.aimed("iris"), second.exists()) == (first, False)
    assert flakes.base("iris") == GROUND.base()


def test_a_new_ground_keeps_the_configuration(tmp_path: Path) -> None:
    flakes = Flakes(tmp_path)
    flakes.aim("iris", flakes.write("iris", FIRST, GROUND))
    flakes.renew("iris", NEWER)
    aimed = flakes.aimed("iris")
    assert aimed is not None
    assert flakes.base("iris") == NEWER.base() != GROUND.base()
    assert nar_hash(FIRST) in (aimed / "flake.lock").read_text()
    assert (aimed / SOURCE / "bin/run").read_bytes() == FIRST["bin/run"].data
    flakes.renew("moth", NEWER)
    assert flakes.aimed("moth") is None


def test_what_a_crash_left_is_made_again(tmp_path: Path) -> None:
    flakes = Flakes(tmp_path)
    place = flakes.write("iris", FIRST, GROUND)
    half = place.with_name(f"{place.name}.new")
    place.rename(half)
    (half / SOURCE / "agent.toml").write_text("half")
    assert flakes.write("iris", FIRST, GROUND) == place
    assert (place / SOURCE / "agent.toml").read_bytes() == FIRST["agent.toml"].data
    flakes.forget("iris")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["/a b", '/a"', "/${x}", "/a\n", "relative", "/a?rev=1", "/a#b", "/a\\"])
def test_a_place_that_nix_would_read_otherwise_is_refused(place: str) -> None:
    with pytest.raises(Refused, match="cannot be an input"):
        flake(GROUND, {"iris": Pin(place, HASH)})


def test_the_lock_says_the_base() -> None:
    files = flake(NEWER, {name: Pin("/x", HASH) for name in ("iris", "ada")})
    assert base_of(files["flake.lock"]) == {"hyperhive": "B" * 12, "nixpkgs": "A" * 12}
    text = files["flake.nix"].decode()
    assert text.index("agent-ada") < text.index("agent-iris")
