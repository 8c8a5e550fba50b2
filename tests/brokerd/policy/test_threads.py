"""Which threads are open, and for whom they wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.policy.threads import LINE_CHARS_MAX, LastWord, open_thread


def last(sender: str, to: str, began_by: str | None, body: str = "hello") -> LastWord:
    return LastWord(1, 2, began_by, sender, to, 3, body)


@pytest.mark.parametrize(
    ("sender", "to", "began_by", "expected"),
    [
        ("atlas", "iris", "atlas", ("atlas", "iris")),
        ("atlas", "iris", "iris", ("atlas", "iris")),
        ("operator", "iris", None, ("operator", "iris")),
        ("iris", "atlas", "iris", ("atlas", "atlas")),
        ("iris", "*", "iris", ("*", "*")),
        ("iris", "manager", "iris", ("hm1nd", "hm1nd")),
        ("iris", "atlas", "atlas", None),
        ("iris", "atlas", None, None),
    ],
)
def test_for_whom_it_waits(
    sender: str, to: str, began_by: str | None, expected: tuple[str, str] | None
) -> None:
    thread = open_thread(last(sender, to, began_by), "iris", "hm1nd")
    assert (None if thread is None else (thread.other, thread.waits_for)) == expected


def test_an_alias_without_a_manager_stays_as_it_was_written() -> None:
    thread = open_thread(last("iris", "manager", "iris"), "iris", None)
    assert thread is not None
    assert thread.other == "manager"


@given(st.text(max_size=500))
def test_a_body_becomes_one_short_line(body: str) -> None:
    thread = open_thread(last("atlas", "iris", "atlas", body), "iris", None)
    assert thread is not None
    assert len(thread.text) <= LINE_CHARS_MAX
    assert len(thread.text.splitlines()) <= 1
