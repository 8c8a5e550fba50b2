"""The Nix side without nixpkgs: it parses, and each closure is what pyproject.toml declares."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
PROCESSES = ("privd", "brokerd", "webd", "egressd", "harness", "hivectl")
# Just enough of nixpkgs to call nix/package.nix: every Python package is its own name.
STAND_IN = """
let
  named = names: builtins.listToAttrs (map (name: { inherit name; value = name; }) names);
in
import %s {
  lib = {
    licenses.mit = "mit";
    platforms.linux = [ ];
    optional = condition: value: if condition then [ value ] else [ ];
    optionalAttrs = condition: attributes: if condition then attributes else { };
    fileset = { toSource = source: map builtins.pathExists source.fileset; unions = files: files; };
  };
  python3Packages = named (builtins.fromJSON ''%s'') // { buildPythonApplication = arguments: arguments; };
}
"""

pytestmark = pytest.mark.skipif(
    shutil.which("nix-instantiate") is None, reason="needs nix-instantiate (package nix-bin)"
)


def nix(*arguments: str) -> str:
    """What nix-instantiate prints, with neither a store nor a daemon."""
    done = subprocess.run(
        ["nix-instantiate", *arguments],
        env=os.environ | {"NIX_REMOTE": "dummy://"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return table


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[><=]", line)[0] for line in requirements}


@pytest.fixture(scope="module")
def packages() -> dict[str, Any]:
    every = {"anyio", "h11", "hypercorn", "jinja2", "mcp", "setuptools", "sqlite-utils", "starlette"}
    every |= names(project()["dependencies"])
    every |= names([line for extra in PROCESSES for line in project()["optional-dependencies"][extra]])
    expression = STAND_IN % (CHECKOUT / "nix" / "package.nix", json.dumps(sorted(every)))
    answer: dict[str, Any] = json.loads(nix("--eval", "--strict", "--json", "--expr", expression))
    return answer


def test_every_nix_file_parses() -> None:
    nix("--parse", str(CHECKOUT / "flake.nix"), *map(str, (CHECKOUT / "nix").rglob("*.nix")))


def test_there_is_one_package_a_process(packages: dict[str, Any]) -> None:
    assert set(packages) == set(PROCESSES)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_closure_holds_what_the_process_declares(packages: dict[str, Any], process: str) -> None:
    declared = names(project()["dependencies"] + project()["optional-dependencies"][process])
    assert set(packages[process]["dependencies"]) == declared


@pytest.mark.parametrize("process", PROCESSES)
def test_every_source_of_a_package_exists(packages: dict[str, Any], process: str) -> None:
    assert all(packages[process]["src"])


def test_root_forbids_what_it_may_not_load(packages: dict[str, Any]) -> None:
    assert {"starlette", "hypercorn", "sqlite-utils", "mcp"} <= set(packages["privd"]["disallowedRequisites"])


@pytest.mark.parametrize("process", PROCESSES)
def test_versions_agree(packages: dict[str, Any], process: str) -> None:
    assert packages[process]["version"] == project()["version"]
