"""Rates, the bounds of an inbox, what may be held."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.policy.guards import (
    HOUR_S,
    NOTE_BYTES_MAX,
    Bucket,
    Guards,
    Rate,
    check_inbox,
    check_share,
    is_note,
    left_of,
    may_be_held,
    spent,
    too_fast,
    wait_s,
)
from protocol.limits import BODY_BYTES_MAX
from protocol.messages import SystemEvent
from protocol.names import OPERATOR, SYSTEM
from protocol.problem import Problem, Refused
from protocol.turns import AnyTurnEvent, Failed, Noted, Said

TWENTY = Rate("messages", 20)
SMALL = Guards(inbox_deliveries_max=100, inbox_bytes_max=BODY_BYTES_MAX)

rates = st.builds(Rate, st.just("messages"), st.integers(1, 10_000), st.integers(1, HOUR_S))
pauses = st.lists(st.floats(0, 100), max_size=60)


@pytest.mark.parametrize(
    ("bucket", "now_s", "left"),
    [
        (None, 5.0, 20.0),
        (Bucket(0.0, 5.0), 5.0, 0.0),
        (Bucket(0.0, 5.0), 8.0, 1.0),
        (Bucket(3.5, 5.0), 35.0, 13.5),
        (Bucket(0.0, 5.0), 65.0, 20.0),
        (Bucket(19.0, 5.0), 100_000.0, 20.0),
    ],
)
def test_a_bucket_fills_evenly_and_never_over(bucket: Bucket | None, now_s: float, left: float) -> None:
    assert left_of(bucket, TWENTY, now_s) == left


def test_what_is_done_is_missing_and_what_is_missing_is_not_done() -> None:
    bucket = spent(None, TWENTY, 20, 0.0)
    assert bucket == Bucket(0.0, 0.0)
    assert spent(bucket, TWENTY, 1, 2.9) is None
    assert wait_s(bucket, TWENTY, 1, 0.0) == 3
    assert spent(bucket, TWENTY, 1, 3.0) == Bucket(0.0, 3.0)


@pytest.mark.parametrize(
    ("amount", "now_s", "seconds"), [(1, 0.0, 3), (1, 2.5, 1), (20, 0.0, 60), (7, 0.0, 21)]
)
def test_how_long_to_wait(amount: int, now_s: float, seconds: int) -> None:
    assert wait_s(Bucket(0.0, 0.0), TWENTY, amount, now_s) == seconds


@given(rates, pauses)
def test_in_no_time_is_more_done_than_was_there_and_came_since(rate: Rate, steps: list[float]) -> None:
    """Whoever asks for one again and again gets the bucket and what flows into it, and not one more."""
    bucket, now_s, done = None, 0.0, 0
    for step in steps:
        now_s += step
        after = spent(bucket, rate, 1, now_s)
        if after is not None:
            bucket, done = after, done + 1
            assert 0 <= after.left <= rate.most
    assert done <= rate.most * (1 + now_s / rate.window_s) + 1e-3


@given(rates, st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 1_000))
def test_after_the_wait_there_is_enough(rate: Rate, amount: int, filled: float, began_s: float) -> None:
    amount = min(amount, rate.most)
    bucket = Bucket(filled * rate.most, began_s)
    seconds = wait_s(bucket, rate, amount, began_s)
    assert seconds >= 1
    assert spent(bucket, rate, amount, began_s + seconds) is not None


def test_the_refusal_says_who_what_how_much_and_when_again() -> None:
    refused = too_fast("iris to atlas", TWENTY, 3)
    assert refused.problem is Problem.LIMIT
    assert refused.detail == (
        "iris to atlas: at most 20 messages in a minute; nothing was stored, try again in 3 s"
    )
    assert "in an hour" in too_fast("iris", Rate("turn events", 5, HOUR_S), 9).detail
    assert "in 10 s;" in too_fast("iris", Rate("turn events", 5, 10), 9).detail


def refusal(waiting: int, size: int, added: int, sender: str = "iris") -> str:
    with pytest.raises(Refused) as refused:
        check_inbox("atlas", waiting, size, added, sender, SMALL)
    assert refused.value.problem is Problem.LIMIT
    return refused.value.detail


def test_an_inbox_has_a_bound_in_messages_and_one_in_bytes() -> None:
    check_inbox("atlas", 99, BODY_BYTES_MAX - 10, 10, "iris", SMALL)
    assert refusal(100, 0, 1) == "atlas has 100 messages waiting; nothing was stored"
    assert refusal(1, BODY_BYTES_MAX - 10, 11) == (
        "atlas has 65526 bytes of messages waiting, at most 65536 are allowed; nothing was stored"
    )


def test_so_much_of_one_sender_may_wait_for_one_recipient() -> None:
    share = Guards(share_deliveries_max=10, share_bytes_max=BODY_BYTES_MAX)
    check_share("iris", "atlas", 9, BODY_BYTES_MAX - 10, 10, share)
    for waiting, size, added, words in (
        (10, 0, 1, "10 messages of iris wait for atlas"),
        (
            1,
            BODY_BYTES_MAX - 10,
            11,
            "65526 bytes of iris's messages wait for atlas, at most 65536 are allowed",
        ),
    ):
        with pytest.raises(Refused, match=words) as refused:
            check_share("iris", "atlas", waiting, size, added, share)
        assert refused.value.problem is Problem.LIMIT


def test_what_the_hive_says_is_refused_last() -> None:
    check_inbox("atlas", 109, BODY_BYTES_MAX, 6_554, SYSTEM, SMALL)
    assert refusal(110, 0, 1, SYSTEM)
    assert refusal(1, BODY_BYTES_MAX, 6_555, SYSTEM)
    check_inbox("atlas", 0, BODY_BYTES_MAX, 0, "iris", SMALL)


@pytest.mark.parametrize(
    ("sender", "event", "held"),
    [
        ("iris", None, True),
        ("iris", SystemEvent.QUESTION, True),
        ("iris", SystemEvent.ANSWERED, False),
        ("iris", SystemEvent.REMINDER, False),
        (OPERATOR, None, False),
        (SYSTEM, SystemEvent.CONTAINER_CRASH, False),
    ],
)
def test_only_what_agents_say_among_themselves_is_held(
    sender: str, event: SystemEvent | None, held: bool
) -> None:
    assert may_be_held(sender, event) is held


@pytest.mark.parametrize(
    ("events", "size", "note"),
    [
        ([Noted(0, 1, "x"), Failed(1, 1, "x")], NOTE_BYTES_MAX, True),
        ([Noted(0, 1, "x")], NOTE_BYTES_MAX + 1, False),
        ([Noted(0, 1, "x"), Said(1, 1, "x")], 10, False),
    ],
)
def test_what_counts_as_a_note(events: list[AnyTurnEvent], size: int, note: bool) -> None:
    assert is_note(events, size) is note
