"""Agents' text made plain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webd.policy.text import CUT, TEXT_CHARS_MAX, plain

ESCAPE, STRING_END, BELL = "\x1b", "\x1b\\", "\x07"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (f"{ESCAPE}[1;31mred{ESCAPE}[0m", "red"),
        ("\x9b31mred", "red"),
        (
            f"{ESCAPE}]8;;http://evil.test/{STRING_END}your bank{ESCAPE}]8;;{STRING_END}",
            "your bank",
        ),
        (f"{ESCAPE}]8;;http://evil.test/{BELL}your bank{ESCAPE}]8;;{BELL}", "your bank"),
        (f"{ESCAPE}]0;title{BELL}text", "text"),
        (f"{ESCAPE}]52;c;cm0gLXJm{BELL}text", "text"),
        (f"{ESCAPE}Pq#0;2;0;0;0{STRING_END}text", "text"),
        (f"{ESCAPE}]never closed\nnext line", "\nnext line"),
        (f"{ESCAPE}(Btext{ESCAPE}7", "text"),
        (f"{ESCAPE}", ""),
        ("10 %\r20 %\r\n", "10 %20 %\n"),
        ("bell\x07 null\x00 delete\x7f next\x85line", "bell null delete nextline"),
    ],
)
def test_escape_sequences_go(written: str, shown: str) -> None:
    assert plain(written) == shown


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[click](javascript:alert(1))",
        "tabs\tand\nlines",
        "日本語 עברית é 🐝",
        "\u2028",
    ],
)
def test_text_stays_text(text: str) -> None:
    assert plain(text) == text


def test_what_reorders_reading_goes() -> None:
    assert plain("if access == \u202e admin\u2066") == "if access ==  admin"


def test_long_text_is_cut_and_says_so() -> None:
    cut = plain("x" * 50_000_000, TEXT_CHARS_MAX)
    assert cut == "x" * TEXT_CHARS_MAX + CUT


@given(st.text(st.one_of(st.sampled_from("\x1b[]0;m\x07\\\x9b\x9dP\n\tX"), st.characters())))
def test_nothing_left_steers_a_terminal(text: str) -> None:
    shown = plain(text)
    assert not [
        letter for letter in shown if letter not in "\n\t" and (letter < " " or "\x7f" <= letter <= "\x9f")
    ]
    assert plain(shown) == shown
