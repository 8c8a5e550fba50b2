"""Spans of time: whole buckets, few enough, and the tools that are shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.policy.statistics import (
    BUCKETS_MS,
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    OTHER_TOOLS,
    STEPS_MS,
    TOOLS_SHOWN_MAX,
    Span,
    cut,
    most_used,
    span_for,
)
from protocol.limits import STATISTICS_BUCKETS_MAX
from protocol.problem import Problem, Refused

NOW = 1_763_731_234_567
TIMES = st.integers(0, 2**45)


def test_unless_told_otherwise_it_is_a_day() -> None:
    span = span_for(None, NOW, 0)
    assert span.bucket_ms == 10 * MINUTE_MS
    assert NOW - DAY_MS - span.bucket_ms < span.since_ms <= NOW - DAY_MS


@pytest.mark.parametrize(
    ("length_ms", "bucket_ms", "step_ms"),
    [
        (1, 5 * MINUTE_MS, 5 * MINUTE_MS),
        (HOUR_MS, 5 * MINUTE_MS, 5 * MINUTE_MS),
        (2 * DAY_MS, 15 * MINUTE_MS, 5 * MINUTE_MS),
        (7 * DAY_MS, HOUR_MS, HOUR_MS),
        (90 * DAY_MS, 12 * HOUR_MS, HOUR_MS),
        (20_000 * DAY_MS, 4 * 28 * DAY_MS, HOUR_MS),
    ],
)
def test_the_longer_the_span_the_longer_its_buckets(length_ms: int, bucket_ms: int, step_ms: int) -> None:
    span = span_for(NOW - length_ms, NOW, 0)
    assert (span.bucket_ms, span.step_ms) == (bucket_ms, step_ms)


def test_what_is_forgotten_is_not_asked_for() -> None:
    assert span_for(0, NOW, NOW - 90 * DAY_MS).since_ms > NOW - 91 * DAY_MS


def test_a_time_that_is_yet_to_come_is_refused() -> None:
    with pytest.raises(Refused, match="lies ahead") as refused:
        span_for(NOW + 1, NOW, 0)
    assert refused.value.problem is Problem.MALFORMED


@given(TIMES, TIMES, TIMES)
def test_buckets_are_whole_and_few_and_made_of_steps(since: int, length: int, oldest: int) -> None:
    at = since + length
    span = span_for(since, at, oldest)
    assert span.at_ms == at
    assert span.since_ms <= max(since, min(oldest, at))
    assert span.since_ms + span.bucket_ms > max(since, min(oldest, at)) or span.buckets == 1
    assert span.since_ms % span.bucket_ms == 0 == span.bucket_ms % span.step_ms
    assert 1 <= span.buckets <= STATISTICS_BUCKETS_MAX
    assert span.step_ms in STEPS_MS
    last = span.since_ms + (span.buckets - 1) * span.bucket_ms
    assert last <= at < last + span.bucket_ms
    if span.bucket_ms in BUCKETS_MS[1:]:
        shorter = BUCKETS_MS[BUCKETS_MS.index(span.bucket_ms) - 1]
        start = max(since, min(oldest, at))
        assert (at - (start - start % shorter)) // shorter + 1 > STATISTICS_BUCKETS_MAX


@given(TIMES, st.integers(0, 10**12), st.integers(-(10**12), 10**12))
def test_a_span_is_cut_at_a_bucket(since: int, length: int, offset: int) -> None:
    span = span_for(since, since + length, 0)
    shorter = cut(span, span.since_ms + offset)
    assert (shorter.at_ms, shorter.bucket_ms, shorter.step_ms) == (span.at_ms, span.bucket_ms, span.step_ms)
    assert (shorter.since_ms - span.since_ms) % span.bucket_ms == 0
    assert shorter.buckets >= 1
    assert shorter.since_ms > span.since_ms + offset or shorter.buckets == 1


def test_the_whole_of_a_span_is_one_bucket() -> None:
    span = Span(0, 999, 10, 10)
    assert (span.whole().buckets, span.whole().step_ms, span.whole().since_ms) == (1, 10, 0)
    assert Span(5, 5, 10, 10).minutes > 0


def test_the_most_used_tools_come_first() -> None:
    assert list(most_used({"b": 1, "a": 1, "send": 7})) == ["send", "a", "b"]


@given(
    st.dictionaries(
        st.text(max_size=3) | st.just(OTHER_TOOLS), st.integers(0, 9), max_size=2 * TOOLS_SHOWN_MAX
    )
)
def test_no_call_is_lost_among_many_tools(tools: dict[str, int]) -> None:
    shown = most_used(tools)
    assert sum(shown.values()) == sum(tools.values())
    assert len(shown) <= TOOLS_SHOWN_MAX + 1
