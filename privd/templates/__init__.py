"""The hive's own role templates: `roles/<role>/agent.toml` and what is beside it, part of what was installed."""

from pathlib import Path
from typing import Final

from protocol.names import MANAGER_NAME
from protocol.problem import Problem, Refused

ROLES: Final = Path(__file__).with_name("roles")
SYSTEM: Final = Path(__file__).with_name("agent.nix")
PLAIN: Final = "plain"
MANAGER: Final = "manager"


def roles() -> tuple[str, ...]:
    """The names of all roles."""
    return tuple(sorted(each.name for each in ROLES.iterdir() if each.is_dir()))


def files(agent: str, role: str, *, nixos: bool = False) -> dict[str, bytes]:
    """The files of a role, by path; without one, the manager gets its own and everybody else the plain one.

    With NixOS an agent has a file for its system, too.
    """
    wanted = role or (MANAGER if agent == MANAGER_NAME else PLAIN)
    if wanted not in roles():
        raise Refused(
            Problem.NOT_FOUND, f"there is no role template {wanted!a}; there are: {', '.join(roles())}"
        )
    found = {each.name: each.read_bytes() for each in sorted((ROLES / wanted).iterdir()) if each.is_file()}
    return found | {SYSTEM.name: SYSTEM.read_bytes()} if nixos else found
