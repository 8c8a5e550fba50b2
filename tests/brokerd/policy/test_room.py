"""Whether there is room, as a table, and that it neither flaps nor counts twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.policy import room
from brokerd.policy.room import MIB, Bounds, Space, Storage
from protocol.problem import Problem, Refused

BOUNDS = Bounds(reserve_bytes=80 * MIB, databases_bytes_max=1_000 * MIB, ballast_bytes=8 * MIB)
TOTAL = 100_000 * MIB
sizes = st.integers(0, 2**50)


@pytest.mark.parametrize(
    ("total", "storage", "bounds"),
    [
        (TOTAL, Storage(), Bounds(256 * MIB, 16_384 * MIB, 8 * MIB)),
        (4 * MIB, Storage(), Bounds(MIB // 2, 16_384 * MIB, MIB // 4)),
        (TOTAL, Storage(reserve_bytes=0, databases_bytes_max=MIB), Bounds(0, MIB, 8 * MIB)),
    ],
)
def test_bounds_fit_the_disk(total: int, storage: Storage, bounds: Bounds) -> None:
    assert room.bounds_for(total, storage) == bounds


@pytest.mark.parametrize(
    ("free_mib", "used_mib", "was_full", "words"),
    [
        (80, 0, False, None),
        (79, 0, False, "the disk has 79 MiB left, less than the reserve of 80 MiB"),
        (0, 0, False, "the disk has 0 KiB left"),
        (89, 0, True, "the disk has 89 MiB left"),
        (90, 0, True, None),
        (500, 999, False, None),
        (
            500,
            1_000,
            False,
            "the broker's databases hold 1000 MiB, as much as they may (databases_bytes_max)",
        ),
        (79, 1_000, False, "the disk has 79 MiB left"),
    ],
)
def test_when_nothing_new_is_stored(free_mib: int, used_mib: int, was_full: bool, words: str | None) -> None:
    fault = room.fault(Space(free_mib * MIB, TOTAL, used_mib * MIB), BOUNDS, was_full=was_full)
    assert (fault is None) == (words is None)
    assert words is None or words in str(fault)


@given(sizes)
def test_what_is_stored_without_a_look_never_uses_up_the_reserve(free: int) -> None:
    unlooked = room.unlooked_bytes(Space(free, TOTAL), BOUNDS)
    assert 0 <= unlooked <= room.UNLOOKED_BYTES_MAX
    assert free < BOUNDS.reserve_bytes or free - unlooked * room.UNLOOKED_SHARE >= BOUNDS.reserve_bytes


@given(sizes, st.booleans())
def test_the_ballast_never_is_what_makes_the_disk_full(free: int, is_full: bool) -> None:
    space = Space(free, TOTAL)
    if room.may_lay_ballast(space, BOUNDS, is_full=is_full):
        after = Space(free - BOUNDS.ballast_bytes, TOTAL)
        assert is_full or room.fault(after, BOUNDS, was_full=False) is None
        assert after.free_bytes >= BOUNDS.ballast_bytes


def test_a_backup_leaves_the_reserve() -> None:
    space = Space(200 * MIB, TOTAL)
    room.check_copy(120 * MIB, space, BOUNDS)
    with pytest.raises(Refused, match="a backup takes 121 MiB, and the disk has 200 MiB left") as refused:
        room.check_copy(121 * MIB, space, BOUNDS)
    assert refused.value.problem is Problem.STORAGE_FULL


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (-5, "0 KiB"),
        (1_023, "0 KiB"),
        (640 * 1_024, "640 KiB"),
        (12 * MIB, "12 MiB"),
        (3_482 * MIB, "3.4 GiB"),
    ],
)
def test_bytes_for_people(size: int, words: str) -> None:
    assert room.amount(size) == words
