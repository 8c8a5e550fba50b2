"""Which span of time is counted, and in which steps: few enough to send, and each made of whole stored steps."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, structs

from protocol.limits import STATISTICS_BUCKETS_MAX
from protocol.problem import Problem, Refused

MINUTE_MS: Final = 60 * 1000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

STEPS_MS: Final = (5 * MINUTE_MS, HOUR_MS)
"""How finely traffic is kept."""
BUCKETS_MS: Final = (
    *(minutes * MINUTE_MS for minutes in (5, 10, 15, 30)),
    *(hours * HOUR_MS for hours in (1, 2, 3, 6, 12)),
    *(days * DAY_MS for days in (1, 2, 7, 14, 28)),
)
"""How long a bucket may be, in UTC; the shortest of which a span has few enough."""
DEFAULT_SPAN_MS: Final = DAY_MS
TOOLS_SHOWN_MAX: Final = 50
"""Tools of one agent that are told apart, the most used; the rest is counted together as OTHER_TOOLS."""
OTHER_TOOLS: Final = "other"


class Span(Struct, frozen=True):
    """From a bucket's beginning until now."""

    since_ms: int
    at_ms: int
    bucket_ms: int
    step_ms: int
    """The longest stored step that buckets are made of."""

    @property
    def buckets(self) -> int:
        return (self.at_ms - self.since_ms) // self.bucket_ms + 1

    @property
    def minutes(self) -> float:
        return max(self.at_ms - self.since_ms, 1) / MINUTE_MS

    def whole(self) -> "Span":
        """The same in one bucket."""
        return structs.replace(self, bucket_ms=self.at_ms - self.since_ms + 1)


def span_for(since_ms: int | None, at_ms: int, oldest_ms: int) -> Span:
    """From `since_ms` (unless given, a day ago), rounded down to a whole bucket, but not before `oldest_ms`.

    Refused: `malformed` for a time that is yet to come.
    """
    asked = at_ms - DEFAULT_SPAN_MS if since_ms is None else since_ms
    if asked > at_ms:
        raise Refused(Problem.MALFORMED, f"since_ms lies ahead: it is {asked}, and now it is {at_ms}")
    since = max(0, asked, min(oldest_ms, at_ms))
    for bucket in BUCKETS_MS:
        span = _span(since, at_ms, bucket)
        if span.buckets <= STATISTICS_BUCKETS_MAX:
            return span
    longest = BUCKETS_MS[-1]
    return _span(since, at_ms, longest * ((at_ms - since) // (longest * (STATISTICS_BUCKETS_MAX - 2)) + 1))


def _span(since_ms: int, at_ms: int, bucket_ms: int) -> Span:
    step = max(step for step in STEPS_MS if bucket_ms % step == 0)
    return Span(since_ms - since_ms % bucket_ms, at_ms, bucket_ms, step)


def cut(span: Span, first_ms: int) -> Span:
    """The part of a span whose buckets begin after `first_ms`; at least the last one."""
    buckets_left_out = min(span.buckets - 1, max(0, first_ms - span.since_ms) // span.bucket_ms + 1)
    return structs.replace(span, since_ms=span.since_ms + buckets_left_out * span.bucket_ms)


def most_used(tools: Mapping[str, int]) -> dict[str, int]:
    """Calls by tool, the most used first; TOOLS_SHOWN_MAX of them, the others counted together."""
    ordered = sorted(tools.items(), key=lambda item: (-item[1], item[0]))
    shown = dict(ordered[:TOOLS_SHOWN_MAX])
    rest = sum(calls for _, calls in ordered[TOOLS_SHOWN_MAX:])
    if rest:
        shown[OTHER_TOOLS] = shown.get(OTHER_TOOLS, 0) + rest
    return shown
