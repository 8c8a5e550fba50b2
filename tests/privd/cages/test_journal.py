"""A cage's journal: every line once, in order, under an offset that never goes back."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from privd.cages.journal import Journal

LINES = st.lists(
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=30), max_size=8
)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.log")


def write(journal: Journal, text: str) -> None:
    descriptor = journal.open_for_cage()
    os.write(descriptor, text.encode())
    os.close(descriptor)


def texts(journal: Journal) -> list[str]:
    return [line.text for line in journal.page().lines]


def test_nothing_yet(journal: Journal) -> None:
    assert (journal.page().lines, journal.page().before, journal.end(), journal.since(0)) == (
        (),
        None,
        0,
        ((), 0),
    )
    assert journal.last(5) == ()
    assert journal.rotate() is False


def test_lines_and_offsets(journal: Journal) -> None:
    write(journal, "one\ntwo\n\nthree\n")
    assert [(line.offset, line.text) for line in journal.page().lines] == [
        (0, "one"),
        (4, "two"),
        (8, ""),
        (9, "three"),
    ]
    assert journal.last(2) == ("", "three")


def test_pages_lead_backwards(journal: Journal) -> None:
    write(journal, "".join(f"line {number:02}\n" for number in range(20)))
    found: list[str] = []
    before: int | None = None
    while True:
        page = journal.page(before, 40)
        found = [line.text for line in page.lines] + found
        before = page.before
        if before is None:
            break
    assert found == [f"line {number:02}" for number in range(20)]


def test_an_unfinished_line_waits_for_its_end(journal: Journal) -> None:
    write(journal, "whole\nhalf")
    lines, at = journal.since(0)
    assert ([line.text for line in lines], at) == (["whole"], 6)
    write(journal, " and half\n")
    assert [line.text for line in journal.since(at)[0]] == ["half and half"]


def test_a_line_longer_than_the_bound_does_not_stop_the_reader(journal: Journal) -> None:
    write(journal, "x" * 100 + "\nnext\n")
    found, at = [], 0
    for _ in range(20):
        lines, at = journal.since(at, 30)
        found += [line.text for line in lines]
    assert "".join(found).startswith("x" * 100)
    assert found[-1] == "next"


def test_bytes_that_are_no_text_are_shown_as_such(journal: Journal) -> None:
    descriptor = journal.open_for_cage()
    os.write(descriptor, b"\xff\xfe\r\x85\xe2\x80\xa8end\n")
    os.close(descriptor)
    (line,) = journal.page().lines
    assert line.text.endswith("end")


def test_the_cage_goes_on_writing_through_a_cut(journal: Journal, tmp_path: Path) -> None:
    descriptor = journal.open_for_cage()
    os.write(descriptor, b"before\n")
    assert journal.rotate(3) is True
    os.write(descriptor, b"after\n")
    os.close(descriptor)
    assert texts(journal) == ["before", "after"]
    assert [line.offset for line in journal.page().lines] == [0, 7]
    assert (tmp_path / "journal.log").read_text() == "after\n"


def test_what_two_cuts_pushed_out_is_gone_and_the_offsets_stay(journal: Journal) -> None:
    for text in ("first\n", "second\n", "third\n"):
        write(journal, text)
        journal.rotate(3)
    assert [(line.offset, line.text) for line in journal.page().lines] == [(13, "third")]
    assert journal.since(0)[0][0].text == "third"
    assert journal.page(5).lines == ()


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "journal.log").symlink_to(tmp_path / "target")
    with pytest.raises(OSError):
        Journal(tmp_path / "journal.log").open_for_cage()


class FollowedJournal(RuleBasedStateMachine):
    """A reader that follows sees every line once and in order, however writes and cuts fall."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.journal = Journal(Path(self.folder.name) / "journal.log")
        self.written: list[str] = []
        self.seen: list[str] = []
        self.at = 0

    @rule(lines=LINES)
    def write(self, lines: list[str]) -> None:
        write(self.journal, "".join(f"{line}\n" for line in lines))
        self.written += lines

    @rule()
    def follow(self) -> None:
        before = self.at
        lines, self.at = self.journal.since(self.at)
        self.seen += [line.text for line in lines]
        assert self.at >= before
        assert self.seen == self.written

    @rule()
    def cut(self) -> None:
        self.follow()
        self.journal.rotate(20)

    @rule(bytes_max=st.integers(1, 200))
    def page(self, bytes_max: int) -> None:
        shown = [line.text for line in self.journal.page(bytes_max=bytes_max).lines]
        if shown:
            first, *rest = shown
            assert rest == self.written[len(self.written) - len(rest) :]
            assert self.written[-len(shown)].endswith(first)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestFollowedJournal = FollowedJournal.TestCase
TestFollowedJournal.settings = settings(max_examples=30, stateful_step_count=20)


@given(st.binary(max_size=200), st.integers(0, 250), st.integers(1, 250))
def test_any_bytes_any_page(content: bytes, before: int, bytes_max: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        live = Path(folder) / "journal.log"
        live.write_bytes(content)
        page = Journal(live).page(before, bytes_max)
        for line in page.lines:
            assert content[line.offset :].decode("utf-8", "replace").startswith(line.text[:1])
        assert page.before is None or 0 < page.before <= before
