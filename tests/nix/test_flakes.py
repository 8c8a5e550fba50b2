"""The flakes that privd writes, under the real Nix: evaluated offline, locked, each agent its own system."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from privd.cages.nixos_flakes import Flakes
from privd.policy.flakes import Ground, Pin, flake
from privd.policy.nar import Content, nar_hash

CHECKOUT = Path(__file__).parents[2]
FEATURES = ("--extra-experimental-features", "nix-command flakes")
OFFLINE = (
    "--no-update-lock-file",
    *("--option", "substituters", "", "--option", "build-users-group", ""),
)

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="needs nix (package nix-bin)")


def content(folder: Path) -> dict[str, Content]:
    return {
        str(file.relative_to(folder)): Content(file.read_bytes(), executable=os.access(file, os.X_OK))
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """What systems are built from: this flake, and the stand-in for nixpkgs; in a store of the test's own."""
    place = tmp_path_factory.mktemp("ground")
    for name in ("flake.nix", "nix", "hivectl/install"):
        source, target = CHECKOUT / name, place / "hyperhive" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    shutil.copytree(CHECKOUT / "nix" / "tests" / "stub-nixpkgs", place / "nixpkgs")
    hyperhive, nixpkgs = (
        Pin(str(place / name), nar_hash(content(place / name))) for name in ("hyperhive", "nixpkgs")
    )
    return Ground(hyperhive, nixpkgs, "x86_64-linux")


def evaluate(flake_folder: Path, attribute: str, store: Path) -> "subprocess.CompletedProcess[str]":
    places = {f"NIX_{name}_DIR": str(store / name.lower()) for name in ("STORE", "STATE", "LOG", "CONF")}
    return subprocess.run(
        ("nix", *FEATURES, "eval", *OFFLINE, "--json", f"path:{flake_folder}#{attribute}"),
        env={"PATH": os.environ["PATH"], "HOME": str(store), **places},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def model_of(agent: str) -> str:
    return f'nixosConfigurations."{agent}".config.hyperhive.model'


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_one_agent_s_flake_is_its_system(ground: Ground, tmp_path: Path) -> None:
    flakes = Flakes(tmp_path / "flakes")
    files = {
        "agent.toml": Content(b'model = "opus"\n'),
        "agent.nix": Content(b"{ pkgs, ... }: { hyperhive.packages = [ pkgs.git ]; }\n"),
        "bin/run": Content(b"#!/bin/sh\n", executable=True),
    }
    place = flakes.write("iris", files, ground)
    done = evaluate(place, model_of("iris"), tmp_path / "nix")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == "opus"
    toplevel = evaluate(
        place, 'nixosConfigurations."iris".config.system.build.toplevel.drvPath', tmp_path / "nix"
    )
    assert toplevel.returncode == 0, toplevel.stderr


def test_what_was_changed_behind_the_lock_is_not_built(ground: Ground, tmp_path: Path) -> None:
    place = Flakes(tmp_path / "flakes").write("iris", {"agent.toml": Content(b"")}, ground)
    (place / "source" / "agent.toml").write_text('model = "opus"\n')
    done = evaluate(place, model_of("iris"), tmp_path / "nix")
    assert done.returncode != 0
    assert "hash mismatch" in done.stderr.lower() or "mismatch" in done.stderr


def test_the_whole_hive_is_one_flake(ground: Ground, tmp_path: Path) -> None:
    """As the meta repository records it: an input for each agent, and nobody sees another's."""
    flakes = Flakes(tmp_path / "flakes")
    pins = {}
    for agent, model in (("ada", "haiku"), ("iris", "opus")):
        files = {"agent.toml": Content(f'model = "{model}"\n'.encode())}
        flakes.aim(agent, flakes.write(agent, files, ground))
        pin = flakes.pin(agent)
        assert pin is not None
        pins[agent] = pin
    meta = written(tmp_path / "meta", flake(ground, pins))
    for agent, model in (("ada", "haiku"), ("iris", "opus")):
        done = evaluate(meta, model_of(agent), tmp_path / "nix")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == model


def test_a_configuration_cannot_be_a_flake_of_its_own(ground: Ground, tmp_path: Path) -> None:
    """Its flake.nix is a file like any other: no inputs, no settings of Nix's."""
    files = {
        "agent.toml": Content(b""),
        "flake.nix": Content(
            b'{ inputs.evil.url = "path:/etc"; nixConfig.sandbox = false; outputs = _: throw "read"; }'
        ),
    }
    place = Flakes(tmp_path / "flakes").write("iris", files, ground)
    done = evaluate(place, model_of("iris"), tmp_path / "nix")
    assert (done.returncode, done.stdout.strip()) == (0, '"haiku"'), done.stderr


@pytest.mark.parametrize(
    ("expression", "pure"),
    [
        ('"pure"', True),
        ("builtins.readFile /etc/passwd", False),
        ("builtins.fetchGit /tmp", False),
        ("builtins.currentTime", False),
    ],
)
def test_evaluation_is_pure(ground: Ground, tmp_path: Path, expression: str, *, pure: bool) -> None:
    files = {
        "agent.toml": Content(b""),
        "agent.nix": Content(f"{{ lib, ... }}: {{ hyperhive.icon = toString ({expression}); }}\n".encode()),
    }
    place = Flakes(tmp_path / "flakes").write("iris", files, ground)
    done = evaluate(place, 'nixosConfigurations."iris".config.hyperhive.icon', tmp_path / "nix")
    assert (done.returncode == 0) is pure, done.stdout + done.stderr
