"""The lock files: pinned, hashed, complete, and free of any registry's address."""

import json
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
REQUIREMENTS = CHECKOUT / "requirements"
SETS = ("run", "cage", "dev", "node", "claude", "compile")
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[^ ]+)( ; .+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def pins(name: str) -> dict[str, str]:
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    return {found["name"]: found["version"] for found in PIN.finditer(text)}


def declared(extra: str | None = None) -> set[str]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return {re.split(r"[\[><=]", line)[0] for line in wanted}


@pytest.mark.parametrize("name", SETS)
def test_every_line_is_a_pin_or_a_hash(name: str) -> None:
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    assert lines
    for line in lines:
        assert PIN.fullmatch(line) or HASH.fullmatch(line), line


@pytest.mark.parametrize("name", SETS)
def test_every_pin_has_a_hash(name: str) -> None:
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    assert all(not (PIN.fullmatch(line) and not HASH.fullmatch(after)) for line, after in pairwise(lines))


@pytest.mark.parametrize("name", ["run", "cage"])
def test_smaller_sets_pin_what_dev_pins(name: str) -> None:
    assert pins(name).items() <= pins("dev").items()


@pytest.mark.parametrize("extra", [None, "privd", "brokerd", "webd", "egressd", "hivectl"])
def test_the_run_set_holds_what_each_daemon_declares(extra: str | None) -> None:
    assert declared(extra) <= pins("run").keys()


def test_the_cage_set_holds_what_the_harness_declares() -> None:
    assert declared() | declared("harness") <= pins("cage").keys()


def test_the_dev_set_holds_the_tools() -> None:
    assert declared("dev") <= pins("dev").keys()


def test_cages_and_root_load_neither_each_others_packages() -> None:
    assert "sqlite-utils" not in pins("cage")
    assert "mcp" not in pins("run")


def test_the_node_lock_names_no_address_and_hashes_everything() -> None:
    lock = json.loads((CHECKOUT / "package-lock.json").read_text())
    packages = {path: entry for path, entry in lock["packages"].items() if path}
    assert packages
    for path, entry in packages.items():
        assert "resolved" not in entry, path
        assert entry["integrity"].startswith("sha512-"), path
