"""When a reminder is due: what people and agents write as a schedule, and its next time.

An occurrence is a point on the wall clock, in milliseconds since the epoch. Cron expressions have five fields and
keep to local time as cron does: what falls into the hour that a change of the clock leaves out comes right after it,
what falls into one that comes twice comes the first time; with a star in the minute or the hour it comes both times.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, assert_never

from cronsim import CronSim, CronSimError
from msgspec import Struct

from protocol.limits import REMINDER_AHEAD_S_MAX
from protocol.problem import Problem, Refused
from protocol.reminders import AnySchedule, Cron, Every, Once

CRON_FIELDS: Final = 5
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)

ZoneOf = Callable[[str], tzinfo]
"""A zone by its name; Refused(malformed) when there is none."""


class Wish(Struct, frozen=True):
    """A schedule as it was asked for: exactly one of the first four. `zone` is for `at` and `cron`."""

    in_s: int | None = None
    at: str | None = None
    every_s: int | None = None
    cron: str | None = None
    zone: str = "UTC"

    @property
    def given(self) -> list[str]:
        """What of the four was asked for."""
        return [name for name in ("in_s", "at", "every_s", "cron") if getattr(self, name) is not None]


def schedule_of(wish: Wish, now_ms: int, zone_of: ZoneOf) -> AnySchedule:
    """The schedule that is meant. Refused: `malformed` says what is wrong, `limit` for a time too far ahead."""
    zone = zone_of(wish.zone)
    if len(wish.given) != 1:
        named = " and ".join(wish.given) or "none of them"
        raise Refused(Problem.MALFORMED, f"give exactly one of in_s, at, every_s and cron; {named} was given")
    if wish.in_s is not None:
        return Once(now_ms + wish.in_s * 1000)
    if wish.at is not None:
        return Once(_moment(wish.at, zone, now_ms))
    if wish.cron is not None:
        return _cron(wish.cron, wish.zone, now_ms, zone_of)
    every_s = wish.every_s or 0
    return Every(every_s, now_ms + every_s * 1000)


def _moment(at: str, zone: tzinfo, now_ms: int) -> int:
    try:
        written = datetime.fromisoformat(at)
        moment = written if written.tzinfo is not None else written.replace(tzinfo=zone)
        at_ms = (moment - EPOCH) // MILLISECOND
    except (ValueError, OverflowError):
        raise Refused(
            Problem.MALFORMED,
            f"at: {at!a} is no time; write it as 2027-01-31T18:00 or 2027-01-31T18:00+01:00",
        ) from None
    if at_ms <= now_ms:
        now = (EPOCH + timedelta(milliseconds=now_ms)).astimezone(zone)
        raise Refused(Problem.MALFORMED, f"at: {at} is over; it is {now.isoformat(timespec='seconds')}")
    if at_ms > now_ms + REMINDER_AHEAD_S_MAX * 1000:
        raise Refused(
            Problem.LIMIT,
            f"at: {at} is too far ahead; at most {REMINDER_AHEAD_S_MAX // 86_400} days are allowed",
        )
    return at_ms


def _cron(expression: str, zone: str, now_ms: int, zone_of: ZoneOf) -> Cron:
    fields = expression.split()
    if len(fields) != CRON_FIELDS:
        raise Refused(
            Problem.MALFORMED,
            f"cron: {expression!a} has {len(fields)} fields; minute, hour, day, month and weekday are needed",
        )
    schedule = Cron(" ".join(fields), zone)
    try:
        following = next_after(schedule, now_ms, zone_of)
    except CronSimError as fault:
        raise Refused(Problem.MALFORMED, f"cron: {expression!a}: {str(fault).lower()}") from None
    if following is None:
        raise Refused(Problem.MALFORMED, f"cron: {expression!a} never comes")
    return schedule


def next_after(schedule: AnySchedule, after_ms: int, zone_of: ZoneOf) -> int | None:
    """The first occurrence that is later than `after_ms`; None when there is none any more."""
    match schedule:
        case Once(at_ms):
            return at_ms if at_ms > after_ms else None
        case Every(every_s, from_ms):
            step_ms = every_s * 1000
            # Before `from_ms`, too: by a clock that was put back, it may be far ahead.
            return from_ms + ((after_ms - from_ms) // step_ms + 1) * step_ms
        case Cron(expression, zone):
            return _next_of_cron(expression, zone_of(zone), after_ms)
        case _:
            assert_never(schedule)


def _next_of_cron(expression: str, zone: tzinfo, after_ms: int) -> int | None:
    start = (EPOCH + timedelta(seconds=after_ms // 1000)).astimezone(zone)
    # In an hour that comes twice the library may go back to the first of the two.
    for moment in CronSim(expression, start):
        at_ms = (moment - EPOCH) // MILLISECOND
        if at_ms > after_ms:
            return at_ms
    return None


def is_recurring(schedule: AnySchedule) -> bool:
    return not isinstance(schedule, Once)
