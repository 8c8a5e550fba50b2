"""Pages are bounded in bytes, and reading always gets on."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from brokerd.policy.pages import fitting


class Line(msgspec.Struct, frozen=True):
    text: str


lines = st.lists(st.text(max_size=30).map(Line), max_size=20)


@given(lines, st.integers(0, 400))
def test_a_page_is_a_beginning_that_fits(given_lines: list[Line], bytes_max: int) -> None:
    page = list(fitting(given_lines, bytes_max))
    assert page == given_lines[: len(page)]
    assert len(page) >= min(1, len(given_lines))
    assert len(page) <= 1 or len(msgspec.json.encode(page)) <= bytes_max + 2


@given(lines)
def test_what_fits_is_not_left_out(given_lines: list[Line]) -> None:
    assert list(fitting(given_lines, len(msgspec.json.encode(given_lines)))) == given_lines


def test_nothing_is_read_beyond_what_fits() -> None:
    """What is read from the database is not read in vain."""
    read: list[int] = []

    def source() -> "object":
        for number in range(100):
            read.append(number)
            yield Line("x" * 100)

    assert len(list(fitting(source(), 250))) == 2  # type: ignore[arg-type]  # a generator of lines
    assert len(read) == 3
