"""What root loads: a list that only grows on purpose. What starts a cage loads the standard library alone."""

import pytest

from docs.counted import loaded, third_party

PRIVD = {
    "attr",
    "attrs",
    "cryptography",
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


def test_root_loads_what_is_listed_and_nothing_else() -> None:
    assert third_party(loaded("privd.__main__")) <= PRIVD


def test_the_list_holds_nothing_that_is_not_loaded() -> None:
    assert third_party(loaded("privd.__main__")) >= PRIVD - {"idna"}


@pytest.mark.parametrize(
    "module", ["harness.init", "harness.spawner", "harness.bridge", "boxes.confine", "boxes.state"]
)
def test_what_starts_a_cage_needs_the_standard_library_alone(module: str) -> None:
    assert third_party(loaded(module)) == set()
