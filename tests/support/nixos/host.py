"""Make a NixOS host for a test: folders, programs that say what they were asked, a meta flake, and knobs to turn."""

import json
import subprocess
from pathlib import Path
from typing import Any

from privd.cages.nixos import Nixos
from privd.cages.nixos_flakes import Flakes
from privd.cages.nixos_host import NixosHost

PROGRAM = Path(__file__).with_name("program.py")
NAMES = ("nixos-container", "nix", "nix-env", "systemctl", "machinectl")
AIMED = "deployed"
FOLDERS = (
    "bin",
    "etc",
    "roots",
    "store",
    "units",
    "profiles",
    "gcroots",
    "state",
    "daemon-socket",
    "flakes",
)
INIT = """#!/bin/bash
trap 'kill -TERM "$child"' SIGRTMIN+3
{command} </dev/null &
child=$!
while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
exit "$code"
"""
"""Of every system that is built: what a whole systemd inside would start, and ask to end."""


class FakeHost:
    """One host in a folder, once it is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, command: str, environment: Path = Path("/usr")) -> None:
        """Make its files. `command` is what its systems run; `environment` they find in /opt/hive/env."""
        folder = self.folder
        for name in FOLDERS:
            (folder / name).mkdir(parents=True)
        for name in NAMES:
            wrapper = folder / "bin" / name
            wrapper.write_text(
                f'#!/bin/sh\nNIXOS_HOST={folder} exec /usr/bin/python3 -I -S {PROGRAM} {name} "$@"\n'
            )
            wrapper.chmod(0o755)
        init = folder / "init"
        init.write_text(INIT.format(command=command))
        init.chmod(0o755)
        (folder / "environment").symlink_to(environment)

    @property
    def flakes(self) -> Flakes:
        return Flakes(self.folder / "flakes")

    def flake(self, agent: str) -> Path:
        """Where the flake of an agent is that `deploy` writes."""
        return self.folder / "flakes" / agent / AIMED

    @property
    def host(self) -> NixosHost:
        place = self.folder
        return NixosHost(
            programs=place / "bin",
            confs=place / "etc",
            roots=place / "roots",
            profiles=place / "profiles",
            gcroots=place / "gcroots",
            store=place / "store",
            units=place / "units",
        )

    def backend(self, hive: str = "0badcafe") -> Nixos:
        return Nixos(hive, self.flakes, self.host)

    def deploy(self, agent: str, content: str = "first") -> None:
        """Put a system for an agent into its flake, and aim at it; one that says `fail` cannot be built."""
        flake = self.flake(agent)
        (flake / "systems").mkdir(parents=True, exist_ok=True)
        (flake / "flake.nix").write_text("{ }\n")
        (flake / "systems" / agent).write_text(f"{agent} {content}")
        self.flakes.aim(agent, flake)

    def turn(self, **knobs: Any) -> None:
        (self.folder / "knobs.json").write_text(json.dumps(knobs))

    def calls(self, program: str = "nixos-container") -> list[dict[str, Any]]:
        path = self.folder / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [call for call in map(json.loads, lines) if call["program"] == program]

    def verbs(self) -> list[str]:
        return [call["argv"][0] for call in self.calls()]

    def run(self, program: str, *words: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a program as somebody else on the host would."""
        return subprocess.run(
            [str(self.folder / "bin" / program), *words],
            cwd=cwd or self.folder,
            env={"PATH": str(self.folder / "bin")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
