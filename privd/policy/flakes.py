"""The flakes that say what is deployed on NixOS: one input for each agent, everything pinned by the lock. Pure.

An agent's input is a plain folder (`flake = false`): its configuration can add no input, output or setting of Nix's.
Every input is a path whose hash privd has computed or was told, so nothing is fetched, no git runs, and nothing
is locked by whoever evaluates: `--no-update-lock-file`.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from protocol.problem import Problem, Refused

FLAKE: Final = "flake.nix"
LOCK: Final = "flake.lock"
PLACE_RULE: Final = re.compile(r"(?:/[A-Za-z0-9@_+=.-]+)+", re.ASCII)
"""What can stand in a string of Nix, and in an address, as it is."""
SHOWN_CHARS: Final = 12


class Pin(Struct, frozen=True):
    """A folder and what must be in it."""

    place: str
    nar_hash: str


class Ground(Struct, frozen=True):
    """What every agent's system is built from; `system` is Nix's word for this machine."""

    hyperhive: Pin
    nixpkgs: Pin
    system: str

    def sources(self) -> dict[str, str]:
        """Its parts, by their hashes."""
        return {"hyperhive": self.hyperhive.nar_hash, "nixpkgs": self.nixpkgs.nar_hash}

    def base(self) -> dict[str, str]:
        """Its parts, short (`privd.policy.base`)."""
        return {name: _short(nar_hash) for name, nar_hash in self.sources().items()}


def flake(ground: Ground, agents: Mapping[str, Pin]) -> dict[str, bytes]:
    """flake.nix and flake.lock for these agents."""
    for pin in (ground.hyperhive, ground.nixpkgs, *agents.values()):
        if not PLACE_RULE.fullmatch(pin.place):
            raise Refused(
                Problem.FAILED,
                f"{pin.place!a} cannot be an input of a flake: letters, digits and @ _ + = . - / only",
            )
    return {FLAKE: _flake(ground, agents).encode(), LOCK: _lock(ground, agents)}


def base_of(lock: bytes) -> dict[str, str]:
    """The base that a lock of ours pins."""
    nodes: dict[str, Any] = json.loads(lock)["nodes"]
    return {name: _short(nodes[name]["locked"]["narHash"]) for name in ("hyperhive", "nixpkgs")}


def pin_of(lock: bytes, agent: str) -> Pin:
    """The configuration that a lock of ours pins for an agent."""
    locked = json.loads(lock)["nodes"][f"agent-{agent}"]["locked"]
    return Pin(locked["path"], locked["narHash"])


def _short(nar_hash: str) -> str:
    return nar_hash.removeprefix("sha256-")[:SHOWN_CHARS]


def _flake(ground: Ground, agents: Mapping[str, Pin]) -> str:
    inputs = [
        f'    "agent-{name}" = {{ url = "path:{agents[name].place}"; flake = false; }};'
        for name in sorted(agents)
    ]
    systems = [
        f'      "{name}" = hyperhive.lib.mkAgent {{ name = "{name}"; source = inputs."agent-{name}";'
        f' system = "{ground.system}"; }};'
        for name in sorted(agents)
    ]
    lines = (
        "# Written by privd: what is deployed for every agent. flake.lock pins it.",
        "{",
        '  description = "hyperhive: every agent, pinned";',
        "  inputs = {",
        f'    nixpkgs.url = "path:{ground.nixpkgs.place}";',
        f'    hyperhive.url = "path:{ground.hyperhive.place}";',
        '    hyperhive.inputs.nixpkgs.follows = "nixpkgs";',
        *inputs,
        "  };",
        "  outputs = { hyperhive, ... }@inputs: {",
        "    nixosConfigurations = {",
        *systems,
        "    };",
        "  };",
        "}",
        "",
    )
    return "\n".join(lines)


def _lock(ground: Ground, agents: Mapping[str, Pin]) -> bytes:
    nodes: dict[str, Any] = {
        "nixpkgs": _node(ground.nixpkgs),
        "hyperhive": {"inputs": {"nixpkgs": ["nixpkgs"]}, **_node(ground.hyperhive)},
        **{f"agent-{name}": {"flake": False, **_node(pin)} for name, pin in agents.items()},
    }
    nodes["root"] = {"inputs": {name: name for name in nodes}}
    return (
        json.dumps({"nodes": nodes, "root": "root", "version": 7}, indent=2, sort_keys=True) + "\n"
    ).encode()


def _node(pin: Pin) -> dict[str, Any]:
    where = {"path": pin.place, "type": "path"}
    return {"locked": {**where, "narHash": pin.nar_hash}, "original": where}
