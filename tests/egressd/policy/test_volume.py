"""The sliding hour: what was moved counts for an hour, and never more than the bound within one."""

from hypothesis import given
from hypothesis import strategies as st

from egressd.policy.volume import BUCKET_S, BUCKETS, MIB, Hour

HOUR_S = BUCKET_S * BUCKETS
MOVES = st.lists(st.tuples(st.integers(0, 900), st.integers(1, MIB)), max_size=60)


def test_what_was_moved_leaves_after_an_hour() -> None:
    hour = Hour()
    assert hour.spend(MIB, 1, 0)
    assert not hour.spend(1, 1, HOUR_S)
    assert hour.frees_s(1, HOUR_S) == BUCKET_S + 1
    assert hour.spend(1, 1, HOUR_S + BUCKET_S)
    assert hour.used(HOUR_S + BUCKET_S) == 1


def test_a_refusal_is_not_counted() -> None:
    hour = Hour()
    assert hour.spend(MIB - 1, 1, 0)
    assert not hour.spend(2, 1, 0)
    assert hour.spend(1, 1, 0)
    assert hour.used(0) == MIB


def test_without_a_bound_everything_is_counted_for_a_bound_to_come() -> None:
    hour = Hour()
    assert hour.spend(5 * MIB, None, 10)
    assert hour.frees_s(None, 10) == 0
    assert not hour.spend(1, 5, 20)
    assert hour.frees_s(5, 20) > 0


@given(MOVES)
def test_no_hour_holds_more_than_the_bound(moves: list[tuple[int, int]]) -> None:
    hour, now_s = Hour(), 0
    moved: list[tuple[int, int]] = []
    for wait_s, count in moves:
        now_s += wait_s
        if hour.spend(count, 1, now_s):
            moved.append((now_s, count))
        assert sum(count for at_s, count in moved if at_s > now_s - HOUR_S) <= MIB
        assert len(hour._buckets) <= BUCKETS + 1


@given(MOVES)
def test_the_wait_that_is_told_is_long_enough(moves: list[tuple[int, int]]) -> None:
    hour, now_s = Hour(), 0
    for wait_s, count in moves:
        now_s += wait_s
        hour.spend(count, None, now_s)
    wait_s = hour.frees_s(1, now_s)
    assert (wait_s == 0) == (hour.used(now_s) < MIB)
    assert hour.used(now_s + wait_s) < MIB
