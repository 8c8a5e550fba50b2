"""What agent.nix and the modules beside it name: packages, options that they set, words that deserve a look. Pure.

It is a program of Nix's language: what it computes, only Nix knows. So this says what stands there, comments and all,
and never that nothing else does; whoever decides reads the diff.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

FILE: Final = "agent.nix"
MODULES: Final = ".nix"
PACKAGE: Final = re.compile(r"(?<![\w.-])pkgs\.([A-Za-z_][\w'-]*(?:\.[A-Za-z_][\w'-]*)*)")
WITH_PACKAGES: Final = re.compile(r"\bwith\s+pkgs\s*;\s*\[")
LISTS_MAX, LIST_CHARS_MAX = 50, 4_000
"""Of lists over the packages, so that no text takes long to look at."""
NAME: Final = re.compile(r"(?<![\w.\"'/$-])[A-Za-z_][\w'-]*(?:\.[A-Za-z_][\w'-]*)*")
OPTION: Final = re.compile(
    r"(?m)(?<![\w.\"'-])([a-z][A-Za-z0-9]*(?:\.(?:\"[^\"\n]{1,80}\"|[A-Za-z_][\w'-]*))*)\s*=(?!=)"
)
TOP: Final = frozenset(
    {
        "boot", "environment", "fonts", "hardware", "hyperhive", "i18n", "imports", "location", "networking", "nix",
        "nixpkgs", "programs", "security", "services", "swapDevices", "system", "systemd", "time", "users",
        "virtualisation",
    }
)  # fmt: skip
"""Where options of NixOS and of ours begin; other names on the left of a sign are the text's own."""
DEPTH: Final = {"systemd": 3}
"""How much of an option's path says what it is about."""
WORDS: Final = re.compile(
    r"\b(?:builtins\.(?:fetch\w+|getFlake|exec|readFile|readDir|storePath|currentSystem)|fetchurl|fetchgit|fetchFromGit\w+"
    r"|fetchzip|getFlake|mkForce|mkOverride|disabledModules|setuid|setcap|capabilities|sudo|hyperhive-harness|__noChroot"
    r"|allowUnfree|import\s*<)"
)


def text_of(files: Mapping[str, bytes]) -> str:
    """agent.nix, and after it every other module of a configuration, which it may import; empty without one."""
    if FILE not in files:
        return ""
    beside = sorted(path for path in files if path.endswith(MODULES) and path != FILE)
    return "\n".join(files[path].decode() for path in (FILE, *beside))


def named(text: str) -> dict[str, str]:
    """What is named, by a subject for the operator; the value says how."""
    found = {f"package {name}": "named in agent.nix" for name in _packages(text)}
    found |= {f"system option {path}": "set in agent.nix" for path in _options(text)}
    found |= {f"agent.nix says {' '.join(word.split())}": "a word to look at" for word in WORDS.findall(text)}
    return found


def _packages(text: str) -> Iterator[str]:
    yield from PACKAGE.findall(text)
    for found in islice(WITH_PACKAGES.finditer(text), LISTS_MAX):
        end = text.find("]", found.end(), found.end() + LIST_CHARS_MAX)
        yield from NAME.findall(text, found.end(), end if end >= 0 else found.end() + LIST_CHARS_MAX)


def _options(text: str) -> Iterator[str]:
    for path in OPTION.findall(text):
        parts = path.split(".")
        if parts[0] in TOP:
            yield ".".join(parts[: DEPTH.get(parts[0], 2)])
