"""Time zones are found on every machine, and what is no zone is refused."""

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from protocol.problem import Problem, Refused
from runtime.zones import zone_of


@pytest.fixture
def bare() -> Iterator[None]:
    """A machine without time zones of its own."""
    zoneinfo.reset_tzpath(to=[])
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()
    zoneinfo.ZoneInfo.clear_cache()


def test_a_zone_has_its_own_time() -> None:
    summer = datetime(2027, 7, 1, tzinfo=zone_of("Europe/Berlin"))
    assert summer.utcoffset() == timedelta(hours=2)
    assert zone_of("UTC") is UTC


def test_a_machine_needs_none_of_its_own(bare: None) -> None:
    assert datetime(2027, 7, 1, tzinfo=zone_of("Europe/Berlin")).utcoffset() == timedelta(hours=2)


@pytest.mark.parametrize(
    "name", ["", "Europe", "Europe/", "/etc/localtime", "../UTC", "tzdata.zi", "a\0b", "\udcff", "é"]
)
@pytest.mark.parametrize("machine", ["usual", "bare"])
def test_what_is_no_zone_is_refused(name: str, machine: str, request: pytest.FixtureRequest) -> None:
    if machine == "bare":
        request.getfixturevalue("bare")
    with pytest.raises(Refused, match="there is no time zone") as refused:
        zone_of(name)
    assert refused.value.problem is Problem.MALFORMED
