"""How many requests a caller has told: a stock that fills with time, and a smaller one for what is refused."""

import pytest

from privd.audit_files import FILE_BYTES_MAX, FILES_MAX
from privd.policy.pace import REFUSAL_S, REFUSALS_MAX, REQUEST_S, REQUESTS_MAX, Pace
from protocol.problem import Problem, Refused

BROKER, WEB, ROOT = ("broker", 5), ("operator", 6), ("operator", 0)
DAY_S = 86_400
REQUEST_BYTES = 500
"""Of the two lines of a request, as they come."""


def taken(pace: Pace, who: tuple[str, int], at_s: float, *, refused: bool = False) -> int:
    """How many are allowed at one moment."""
    count = 0
    while True:
        try:
            pace.take(who, at_s)
        except Refused:
            return count
        count += 1
        if refused:
            pace.refused(who)


def test_a_stock_is_used_up_and_fills_again() -> None:
    pace = Pace()
    assert taken(pace, BROKER, 10) == REQUESTS_MAX
    assert taken(pace, BROKER, 10 + 2.5 * REQUEST_S) == 2
    assert taken(pace, BROKER, 10 + 3.5 * REQUEST_S) == 1
    assert taken(pace, BROKER, 10 + DAY_S) == REQUESTS_MAX


def test_refusals_have_a_smaller_one() -> None:
    pace = Pace()
    assert taken(pace, BROKER, 0, refused=True) == REFUSALS_MAX
    assert taken(pace, BROKER, REFUSAL_S) == REQUESTS_MAX - REFUSALS_MAX + REFUSAL_S // REQUEST_S


def test_nobody_uses_up_what_another_has() -> None:
    """Root stops what whoever took webd over makes."""
    pace = Pace()
    assert taken(pace, WEB, 0) == REQUESTS_MAX
    assert taken(pace, ROOT, 0) == REQUESTS_MAX


def test_what_was_refused_here_is_counted_once() -> None:
    pace = Pace()
    taken(pace, BROKER, 0)
    for _ in range(4):
        with pytest.raises(Refused, match="ask again in 3 s") as fault:
            pace.take(BROKER, 0)
        assert fault.value.problem is Problem.LIMIT
    assert pace.take(BROKER, REQUEST_S) == 5
    assert pace.take(BROKER, 2 * REQUEST_S) == 0


def test_a_flood_does_not_turn_the_log_over_before_somebody_reads_it() -> None:
    room = FILE_BYTES_MAX * FILES_MAX / REQUEST_BYTES
    assert (room - REQUESTS_MAX) * REQUEST_S > 14 * DAY_S
    assert (room - REFUSALS_MAX) * REFUSAL_S > 150 * DAY_S
