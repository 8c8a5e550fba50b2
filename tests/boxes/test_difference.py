"""Differences line by line: applied to what was before they give what is after, whatever the files."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxes.difference import LINES_MAX, TEXT_CHARS_MAX, answer, compared
from boxes.reply import FRAME_BYTES_MAX
from privd.policy.admission import FILE_BYTES_MAX


def asked(*files: tuple[str, bytes | None, bytes | None]) -> list[dict[str, Any]]:
    head = [[path, None if a is None else len(a), None if b is None else len(b)] for path, a, b in files]
    request = json.dumps(head).encode() + b"\n" + b"".join((a or b"") + (b or b"") for _, a, b in files)
    return [json.loads(part) for part in answer(request)]


def test_a_change_stands_between_three_lines_of_what_stays() -> None:
    before = b"".join(b"%d\n" % number for number in range(1, 21))
    (found,) = asked(("a", before, before.replace(b"10\n", b"ten\n")))
    assert found["lines"] == [
        [" ", 7, 7, "7"],
        [" ", 8, 8, "8"],
        [" ", 9, 9, "9"],
        ["-", 10, None, "10"],
        ["+", None, 10, "ten"],
        [" ", 11, 11, "11"],
        [" ", 12, 12, "12"],
        [" ", 13, 13, "13"],
    ]
    assert (found["before_bytes"], found["after_bytes"], found["cut"]) == (
        len(before),
        len(before) + 1,
        False,
    )


def test_a_file_that_comes_or_goes() -> None:
    came, went = asked(("a", None, b"x\ny"), ("b", b"x\n", None))
    assert came["lines"] == [["+", None, 1, "x"], ["+", None, 2, "y (no end of line)"]]
    assert came["before_bytes"] is None
    assert went["lines"] == [["-", 1, None, "x"]]
    assert went["after_bytes"] is None


def test_there_are_bounds_and_they_are_told() -> None:
    many = b"x\n" * (LINES_MAX + 1)
    one, other = asked(("a", None, many), ("b", None, b"y\n"))
    assert (len(one["lines"]), one["cut"]) == (LINES_MAX, True)
    assert (other["lines"], other["cut"]) == ([], True)


def test_a_line_is_whole_or_its_file_says_that_there_is_more() -> None:
    """What stands at the end of a long line is read like everything else, or nobody believes to have read it."""
    content = b"{ } // " + b"x" * 250_000 + b"EVIL"
    (whole,) = asked(("agent.nix", None, content))
    assert whole["lines"] == [["+", None, 1, content.decode() + " (no end of line)"]]
    assert not whole["cut"]
    first, second, small = asked(("a", None, content), ("b", None, content), ("c", None, b"small\n"))
    assert (len(first["lines"]), first["cut"]) == (1, False)
    assert (second["lines"], second["cut"]) == ([], True)
    assert (small["lines"], small["cut"]) == ([["+", None, 1, "small"]], False)


@pytest.mark.parametrize("text", ['"', "\t", "字", "𝄞", '"\n', '""字\n'])
def test_the_largest_files_fit_in_a_part_of_the_reply(text: str) -> None:
    """They would end the box otherwise, and the proposal could never be shown."""
    once = text.encode()
    whole = once * (FILE_BYTES_MAX // len(once))
    request = json.dumps([["a", len(whole), len(whole) - len(once)]]).encode() + b"\n"
    (part,) = answer(request + whole + whole[len(once) :])
    assert len(part) <= FRAME_BYTES_MAX
    shown = json.loads(part)
    assert shown["cut"] or sum(len(line[3]) for line in shown["lines"]) <= TEXT_CHARS_MAX


def test_what_is_long_and_shares_nothing_is_not_compared() -> None:
    before = [f"a{number}" for number in range(3_000)]
    after = [f"b{number}" for number in range(3_000)]
    found = list(compared(before, after))
    assert [line[0] for line in found] == ["-"] * 3_000 + ["+"] * 3_000


LINES = st.lists(st.sampled_from("abcd"), max_size=12)


@given(LINES, LINES)
def test_a_difference_leads_from_one_to_the_other(before: list[str], after: list[str]) -> None:
    found = list(compared(before, after))
    for kind, at, at_after, text in found:
        assert (at is None) == (kind == "+")
        assert (at_after is None) == (kind == "-")
        assert at is None or before[at - 1] == text
        assert at_after is None or after[at_after - 1] == text
    gone = {at for kind, at, _, _ in found if kind == "-"}
    new = {at for kind, _, at, _ in found if kind == "+"}
    kept = [line for number, line in enumerate(before, 1) if number not in gone]
    assert kept == [line for number, line in enumerate(after, 1) if number not in new]
    numbers = [at for _, at, _, _ in found if at is not None]
    assert numbers == sorted(set(numbers))
