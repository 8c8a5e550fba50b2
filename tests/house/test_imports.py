"""Who may import what, as far as import-linter's contracts (pyproject.toml) cannot say it."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("protocol", "runtime", "privd", "boxes", "brokerd", "webd", "egressd", "harness", "hivectl")
# These run before, or beside, anything installed: the first process of a cage, and what the agent CLI starts.
STANDARD_LIBRARY_ONLY = ("harness/init.py", "harness/spawner.py", "harness/bridge.py")


def imported(file: Path) -> Iterator[str]:
    """First names of everything a module imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def third_party(file: Path) -> set[str]:
    return set(imported(file)) - sys.stdlib_module_names


@pytest.mark.parametrize("file", sorted((CHECKOUT / "protocol").rglob("*.py")), ids=lambda file: file.stem)
def test_protocol_imports_msgspec_alone(file: Path) -> None:
    assert third_party(file) <= {"msgspec", "protocol"}


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_what_starts_bare_imports_the_standard_library_alone(name: str) -> None:
    assert third_party(CHECKOUT / name) == set()


def test_what_is_shipped_imports_no_tests() -> None:
    for package in PACKAGES:
        for file in (CHECKOUT / package).rglob("*.py"):
            assert not third_party(file) & {"tests", "house", "pytest", "hypothesis"}, file
