"""What root loads: a list that only grows on purpose. What starts a cage loads the standard library alone."""

import json
import subprocess
import sys

import pytest

PROBE = """
import importlib, json, sys
for name in ("greenlet", "rich"):
    sys.modules[name] = None  # of the test environment; structlog would take them up
for name in sys.argv[1:]:
    importlib.import_module(name)
own = {"privd", "boxes", "protocol", "runtime", "harness", "__main__", "sitecustomize"}  # the last: the system's
loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
print(json.dumps(sorted(loaded - own - set(sys.stdlib_module_names))))
"""
PRIVD = {
    "attr",
    "attrs",
    "idna",
    "msgspec",
    "outcome",
    "sniffio",
    "sortedcontainers",
    "structlog",
    "trio",
    "typing_extensions",
}
"""Third-party modules that run as root. Each one more needs a reason that a security reviewer accepts."""


def loaded(*modules: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROBE, *modules], capture_output=True, text=True, check=True, timeout=60
    )
    return {name for name in json.loads(done.stdout) if not name.startswith("_")}


def test_root_loads_what_is_listed_and_nothing_else() -> None:
    assert loaded("privd.__main__") <= PRIVD


def test_the_list_holds_nothing_that_is_not_loaded() -> None:
    assert loaded("privd.__main__") >= PRIVD - {"idna"}


@pytest.mark.parametrize(
    "module", ["harness.init", "harness.spawner", "harness.bridge", "boxes.confine", "boxes.state"]
)
def test_what_starts_a_cage_needs_the_standard_library_alone(module: str) -> None:
    assert loaded(module) == set()
