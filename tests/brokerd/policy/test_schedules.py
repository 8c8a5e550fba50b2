"""When a reminder is due: every schedule goes forward, and keeps to local time over changes of the clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.policy.schedules import Wish, is_recurring, next_after, schedule_of
from protocol.limits import REMINDER_AHEAD_S_MAX, REMINDER_EVERY_S_MIN
from protocol.problem import Problem, Refused
from protocol.reminders import AnySchedule, Cron, Every, Once
from runtime.zones import zone_of

BERLIN = ZoneInfo("Europe/Berlin")
NOW_MS = 1_795_000_000_000
YEAR_MS = 366 * 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "Asia/Tokyo")
times = st.integers(NOW_MS - 20 * YEAR_MS, NOW_MS + 10 * YEAR_MS)


def field(first: int, last: int) -> st.SearchStrategy[str]:
    number = st.integers(first, last)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.integers(2, 30).map(lambda step: f"*/{step}"),
        st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}"),
        st.lists(number, min_size=2, max_size=4).map(lambda numbers: ",".join(map(str, numbers))),
    )


expressions = st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)).map(" ".join)
crons = st.builds(Cron, expression=expressions, zone=st.sampled_from(ZONES))
intervals = st.builds(Every, every_s=st.integers(REMINDER_EVERY_S_MIN, REMINDER_AHEAD_S_MAX), from_ms=times)
schedules: st.SearchStrategy[AnySchedule] = st.one_of(crons, intervals, st.builds(Once, at_ms=times))


def at(*local: int, fold: int = 0) -> int:
    """A time in Berlin."""
    year, month, day, hour, minute = local
    moment = datetime(year, month, day, hour, minute, tzinfo=BERLIN, fold=fold)
    return (moment - EPOCH) // timedelta(milliseconds=1)


def berlin(expression: str, after_ms: int, count: int) -> list[str]:
    """The next occurrences, as the wall clock in Berlin shows them."""
    shown = []
    for _ in range(count):
        following = next_after(Cron(expression, "Europe/Berlin"), after_ms, zone_of)
        assert following is not None
        after_ms = following
        shown.append(
            (EPOCH + timedelta(milliseconds=after_ms)).astimezone(BERLIN).isoformat(timespec="minutes")
        )
    return shown


@given(schedules, times)
def test_the_next_one_is_strictly_later(schedule: AnySchedule, after_ms: int) -> None:
    following = next_after(schedule, after_ms, zone_of)
    assert following is not None or isinstance(schedule, Once)
    assert following is None or following > after_ms


@given(schedules, times, st.integers(1, YEAR_MS))
def test_no_occurrence_is_left_out(schedule: AnySchedule, after_ms: int, later_ms: int) -> None:
    """Whoever asks between two occurrences is told the second: there is none in between."""
    following = next_after(schedule, after_ms, zone_of)
    if following is not None and following - 1 > after_ms:
        between_ms = after_ms + later_ms % (following - after_ms)
        assert next_after(schedule, between_ms, zone_of) == following


@given(crons, times)
def test_a_cron_shows_what_it_says(schedule: Cron, after_ms: int) -> None:
    """Except for what falls into an hour that is left out, which comes right after it."""
    following = next_after(schedule, after_ms, zone_of)
    assert following is not None
    zone = zone_of(schedule.zone)
    local = (EPOCH + timedelta(milliseconds=following)).astimezone(zone)
    assert local.second == 0
    earlier = (EPOCH + timedelta(milliseconds=following) - timedelta(hours=1)).astimezone(zone)
    if local.utcoffset() == earlier.utcoffset():
        minute, hour, *_ = schedule.expression.split()
        assert not minute.isdecimal() or local.minute == int(minute)
        assert not hour.isdecimal() or local.hour == int(hour)


@given(intervals, times)
def test_an_interval_keeps_its_step(schedule: Every, after_ms: int) -> None:
    following = next_after(schedule, after_ms, zone_of)
    assert following is not None
    assert (following - schedule.from_ms) % (schedule.every_s * 1000) == 0
    assert following - schedule.every_s * 1000 <= after_ms


def test_once_is_once() -> None:
    assert next_after(Once(NOW_MS), NOW_MS - 1, zone_of) == NOW_MS
    assert next_after(Once(NOW_MS), NOW_MS, zone_of) is None
    assert not is_recurring(Once(NOW_MS))
    assert is_recurring(Every(60, NOW_MS))


def test_what_falls_into_the_hour_that_is_left_out_comes_right_after_it() -> None:
    evening = at(2027, 3, 27, 12, 0)
    assert berlin("30 2 * * *", evening, 3) == [
        "2027-03-28T03:00+02:00",
        "2027-03-29T02:30+02:00",
        "2027-03-30T02:30+02:00",
    ]
    assert berlin("0 1-4 * * *", evening, 4) == [
        "2027-03-28T01:00+01:00",
        "2027-03-28T03:00+02:00",
        "2027-03-28T04:00+02:00",
        "2027-03-29T01:00+02:00",
    ]


def test_what_falls_into_the_hour_that_comes_twice_comes_the_first_time() -> None:
    evening = at(2027, 10, 30, 12, 0)
    assert berlin("30 2 * * *", evening, 2) == ["2027-10-31T02:30+02:00", "2027-11-01T02:30+01:00"]
    assert berlin("0-59/20 2 * * *", at(2027, 10, 31, 2, 10, fold=1), 1) == ["2027-11-01T02:00+01:00"]


def test_a_star_goes_on_in_both_of_them() -> None:
    assert berlin("*/30 * * * *", at(2027, 10, 31, 1, 45), 5) == [
        "2027-10-31T02:00+02:00",
        "2027-10-31T02:30+02:00",
        "2027-10-31T02:00+01:00",
        "2027-10-31T02:30+01:00",
        "2027-10-31T03:00+01:00",
    ]


def test_a_time_without_an_offset_is_in_the_zone() -> None:
    def once(text: str, zone: str = "Europe/Berlin") -> AnySchedule:
        return schedule_of(Wish(at=text, zone=zone), NOW_MS, zone_of)

    assert once("2027-06-01T12:00") == once("2027-06-01T10:00", "UTC") == once("2027-06-01T10:00Z")
    assert once("2027-06-01T12:00+00:00") == once("2027-06-01T14:00")
    assert once("2027-06-01") == once("2027-06-01T00:00")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("soon", Problem.MALFORMED),
        ("", Problem.MALFORMED),
        ("2027-02-29", Problem.MALFORMED),
        ("0001-01-01T00:00+14:00", Problem.MALFORMED),
        ("1999-12-31", Problem.MALFORMED),
        ("2040-01-01", Problem.LIMIT),
        ("9999-12-31T23:59-14:00", Problem.LIMIT),
    ],
)
def test_a_time_that_cannot_be(text: str, problem: Problem) -> None:
    for zone in ZONES:
        with pytest.raises(Refused) as refused:
            schedule_of(Wish(at=text, zone=zone), NOW_MS, zone_of)
        assert refused.value.problem is problem
        assert refused.value.detail.startswith("at: ")


def tried(wish: Wish) -> AnySchedule | Refused:
    try:
        return schedule_of(wish, NOW_MS, zone_of)
    except Refused as refused:
        return refused


@given(st.text(max_size=40), st.sampled_from(ZONES))
def test_any_time_is_understood_or_refused(text: str, zone: str) -> None:
    found = tried(Wish(at=text, zone=zone))
    if isinstance(found, Refused):
        assert found.problem in (Problem.MALFORMED, Problem.LIMIT)
    else:
        assert isinstance(found, Once)
        assert NOW_MS < found.at_ms <= NOW_MS + REMINDER_AHEAD_S_MAX * 1000


pieces = st.sampled_from(
    ["*", "/", "-", ",", "#", "L", "W", "LW", "MON", "jan", "0", "7", "59", "99", "٣", "?", ""]
)
noise = st.lists(pieces, max_size=5).map("".join)


@given(st.one_of(st.lists(noise, min_size=5, max_size=5).map(" ".join), st.text(max_size=100)))
def test_any_expression_is_understood_or_refused(expression: str) -> None:
    found = tried(Wish(cron=expression))
    if isinstance(found, Refused):
        assert (found.problem, found.detail[:6]) == (Problem.MALFORMED, "cron: ")
    else:
        following = next_after(found, NOW_MS, zone_of)
        assert following is not None
        assert following > NOW_MS


@given(st.text(max_size=60))
def test_any_zone_is_known_or_refused(name: str) -> None:
    found = tried(Wish(in_s=1, zone=name))
    if isinstance(found, Refused):
        assert (found.problem, found.detail[:6]) == (Problem.MALFORMED, "zone: ")
        assert found.detail.isascii()
