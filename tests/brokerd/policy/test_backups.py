"""Backups by name: the order, the nights, and which go."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.policy import backups

moments = st.lists(st.integers(0, 4_000_000_000_000), min_size=1, max_size=12)


@given(moments)
def test_each_name_sorts_after_all_before_it_whatever_the_clock_does(clock_ms: list[int]) -> None:
    names: list[str] = []
    for at_ms in clock_ms:
        names.append(backups.name_for(at_ms, reversed(names)))
    assert backups.named(reversed(names)) == names
    assert len(set(names)) == len(names)


def test_names_are_times() -> None:
    assert backups.name_for(0, []) == "19700101T000000Z"
    assert backups.name_for(0, ["19700101T000000Z"]) == "19700101T000000Z-2"
    assert backups.name_for(0, ["19700101T000000Z-9", "what else is there"]) == "19700101T000000Z-10"


def test_what_is_no_backup_is_never_removed() -> None:
    names = [
        "20260101T000000Z",
        "notes",
        "20260102T000000Z.partial",
        "20260103T000000Z-2",
        "20260103T000000Z",
    ]
    assert backups.outdated(names, 1) == ["20260101T000000Z", "20260103T000000Z"]
    assert backups.outdated(names, 3) == []
    assert backups.outdated(names, 0) == [], "none are made, so none are removed"


NOON = datetime(2026, 11, 21, 12, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("now", "newest", "is_due"),
    [
        (NOON, None, True),
        (NOON, NOON.replace(hour=3), False),
        (NOON, NOON.replace(hour=2, minute=59), True),
        (NOON.replace(hour=2), NOON - timedelta(days=1), False),
        (NOON.replace(hour=2), NOON - timedelta(days=1, hours=10), True),
        (NOON, NOON.replace(hour=3).astimezone(UTC), False),
        (NOON, NOON + timedelta(days=400), True),
    ],
)
def test_one_is_due_each_night(now: datetime, newest: datetime | None, is_due: bool) -> None:
    assert backups.is_due(now, newest) is is_due
