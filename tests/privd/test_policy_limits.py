"""Which meetings with a limit are told, and when a cage is stopped for its disk: tables."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privd.policy.limits import (
    DISK_STOP_FACTOR,
    MIB,
    PAUSE_MS,
    DiskVerdict,
    Tally,
    add,
    hit_detail,
    judge_disk,
    stop_detail,
)
from protocol.privd import Resource
from protocol.settings import CageLimits

LIMITS = CageLimits(memory_mib_max=512, tasks_max=99, disk_mib_max=1_000)
FULL, FINE, STOP = DiskVerdict.FULL, DiskVerdict.FINE, DiskVerdict.STOP


@pytest.mark.parametrize(
    ("tally", "times", "now_ms", "after", "told"),
    [
        (Tally(), 0, 5, Tally(), 0),
        (Tally(), 3, 5, Tally(0, 5), 3),
        (Tally(0, 5), 4, 5 + PAUSE_MS - 1, Tally(4, 5), 0),
        (Tally(4, 5), 0, 5 + PAUSE_MS, Tally(0, 5 + PAUSE_MS), 4),
        (Tally(4, 5), 2, 5 + PAUSE_MS, Tally(0, 5 + PAUSE_MS), 6),
        (Tally(0, 5), 0, 5 + PAUSE_MS, Tally(0, 5), 0),
    ],
)
def test_the_first_is_told_at_once_and_what_follows_together(
    tally: Tally, times: int, now_ms: int, after: Tally, told: int
) -> None:
    assert add(tally, times, now_ms) == (after, told)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, PAUSE_MS)), max_size=60))
def test_nothing_is_lost_and_nothing_told_too_often(steps: list[tuple[int, int]]) -> None:
    tally, now, told = Tally(), 0, 0
    at: list[int] = []
    for times, later in steps:
        now += later
        tally, due = add(tally, times, now)
        told += due
        at += [now] if due else []
    assert told + tally.pending == sum(times for times, _ in steps)
    assert all(b - a >= PAUSE_MS for a, b in pairwise(at))


@pytest.mark.parametrize(
    ("used_mib", "held", "verdict"),
    [
        (0, False, FINE),
        (1_000, False, FINE),
        (1_001, False, FULL),
        (1_000 * DISK_STOP_FACTOR, False, FULL),
        (1_000 * DISK_STOP_FACTOR + 1, False, STOP),
        (949, True, FINE),
        (950, True, FULL),
        (5_000, True, FULL),
    ],
)
def test_the_disk(used_mib: float, held: bool, verdict: DiskVerdict) -> None:
    assert judge_disk(int(used_mib * MIB), LIMITS, held=held) is verdict


def test_without_a_bound_any_use_is_fine() -> None:
    assert judge_disk(1 << 60, CageLimits(disk_mib_max=None), held=False) is FINE


@pytest.mark.parametrize(
    ("resource", "setting", "limit"),
    [
        (Resource.MEMORY, "memory_mib_max", "512"),
        (Resource.TASKS, "tasks_max", "99"),
        (Resource.DISK, "disk_mib_max", "1000"),
    ],
)
def test_what_is_told_names_the_limit_and_its_setting(resource: Resource, setting: str, limit: str) -> None:
    said = hit_detail(resource, LIMITS)
    assert setting in said
    assert limit in said
    assert "\n" not in said


def test_a_stop_says_how_much_and_what_to_do() -> None:
    said = stop_detail(3_000 * MIB, LIMITS)
    assert "3000 MiB" in said
    assert "start it" in said
