"""Commits and trees from raw bytes: what git makes is read, what it would not make is refused with the reason."""

import sys
import unicodedata
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privd.policy.objects import (
    COMMIT_BYTES_MAX,
    HIDDEN,
    PARENTS_MAX,
    SHOWN_CHARS_MAX,
    TREE_BYTES_MAX,
    Commit,
    Entry,
    Kind,
    check_commit_id,
    object_id,
    parse_commit,
    parse_tree,
    shown,
)
from protocol.problem import Problem, Refused
from tests.support.corpus import rows
from tests.support.repositories import FILE, FOLDER, LINK, PERSON, commit_of, name_of, tree_of

A, B = "a" * 40, "b" * 40


@pytest.mark.parametrize("row", rows("sha"), ids=lambda row: row["id"])
def test_what_is_no_whole_id_is_refused(row: dict[str, str]) -> None:
    """BI-112 to BI-131: nothing is ever resolved by name."""
    with pytest.raises(Refused, match="40 hex digits") as refused:
        check_commit_id(row["input"])
    assert refused.value.problem is Problem.MALFORMED
    assert refused.value.detail.isprintable()


def test_a_whole_id_is_one() -> None:
    check_commit_id("0123456789abcdef" * 2 + "01234567")


@given(st.sampled_from(list(Kind)), st.binary())
def test_ids_are_gits(kind: Kind, content: bytes) -> None:
    assert object_id(kind, content) == name_of(kind, content)


class TestCommit:
    @pytest.mark.parametrize("parents", [(), (A,), (A, B) * (PARENTS_MAX // 2)])
    @pytest.mark.parametrize(
        "message", ["", "one line\n", "many\n\nlines\n", "\x1b[2J\rforged: yes\n\nReviewed-by: x\n"]
    )
    def test_what_git_writes(self, parents: tuple[str, ...], message: str) -> None:
        """BI-188: a message may hold what it likes; whoever shows it escapes it."""
        assert parse_commit(commit_of(A, parents, message)) == Commit(A, parents)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "no end of its header"),
            (f"tree {A}\nauthor {PERSON}\ncommitter {PERSON}\n".encode(), "no end of its header"),
            (commit_of(A) + b"\0hidden", "a NUL in its message"),
            (commit_of(A) + b"\xff", "not UTF-8"),
            (commit_of("A" * 40), "header is not one tree"),
            (commit_of("a" * 39), "header is not one tree"),
            (commit_of(A, ("b" * 41,)), "header is not one tree"),
            (b"author x\n\n", "header is not one tree"),
            (commit_of(A).replace(b"tree", b"tree "), "header is not one tree"),
            (b"tree " + B.encode() + b"\n" + commit_of(A), "header is not one tree"),
            (
                commit_of(A).replace(b"author", b"parent " + A.encode() + b"\nauthor Twice\nauthor"),
                "header is not one tree",
            ),
            (commit_of(A).replace(b"Test <", b"Test\nevil <"), "its header has a line 'evil'"),
            (commit_of(A).replace(b"Test <", b"T<st <"), "header is not one tree"),
            (commit_of(A).replace(b"1700000000", b"-1"), "header is not one tree"),
            (commit_of(A).replace(b"Test <", b"T\x1b[31mest <"), r"has '\x1b', a control"),
            (commit_of(A).replace(b"Test <", "T\u202eest <".encode()), r"has '\u202e', a control"),
            (commit_of(A).replace(b"\n", b"\r\n"), "no end of its header"),
            (commit_of(A).replace(b"\nauthor", b"\r\nauthor"), r"has '\r', a control"),
            (commit_of(A).replace(b"\n\n", b"\ngpgsig -----BEGIN\n -----END\n\n"), "without signature"),
            (commit_of(A).replace(b"\n\n", b"\nencoding latin-1\n\n"), "its header has a line 'encoding'"),
            (commit_of(A).replace(b"\n\n", b"\nmergetag object x\n\n"), "its header has a line 'mergetag'"),
            (commit_of(A).replace(b"\n\n", b"\n\xe2\x80\x8b x\n\n"), "a control or invisible character"),
        ],
    )
    def test_what_git_does_not_write(self, content: bytes, words: str) -> None:
        """BI-190, and whatever a later reader could understand otherwise than we do."""
        with pytest.raises(Refused) as refused:
            parse_commit(content)
        assert refused.value.problem is Problem.MALFORMED
        assert words in refused.value.detail
        assert refused.value.detail.startswith("the commit: ")

    @pytest.mark.parametrize(
        "content", [commit_of(A, (B,) * (PARENTS_MAX + 1)), commit_of(A, message="x" * COMMIT_BYTES_MAX)]
    )
    def test_too_much(self, content: bytes) -> None:
        """BI-187, BI-191."""
        with pytest.raises(Refused, match="at most") as refused:
            parse_commit(content)
        assert refused.value.problem is Problem.LIMIT


class TestTree:
    def test_what_git_writes(self) -> None:
        content = tree_of([(FILE, "a", A), (FOLDER, "a-b", B), (FILE, "a.c", A), (FOLDER, "a0", B)])
        assert parse_tree(content, "x/") == (
            Entry(b"100644", b"a", A),
            Entry(b"40000", b"a-b", B),
            Entry(b"100644", b"a.c", A),
            Entry(b"40000", b"a0", B),
        )
        assert parse_tree(b"", "x/") == ()

    def test_folders_are_sorted_as_if_they_ended_in_a_slash(self) -> None:
        parse_tree(tree_of([(FILE, "a.c", A), (FOLDER, "a", B)]), "x/")
        parse_tree(tree_of([(FILE, "a", B), (FILE, "a.c", A)]), "x/")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (tree_of([(FILE, "a", A)])[:-1], "cut off or garbled"),
            (b"100644 a", "cut off or garbled"),
            (b"100644", "cut off or garbled"),
            (b"a" * 100, "cut off or garbled"),
            (b"1006440 a\0" + bytes(20), "cut off or garbled"),
            (b"rwx a\0" + bytes(20), "cut off or garbled"),
            (b" a\0" + bytes(20), "cut off or garbled"),
            (tree_of([(FILE, "a", A)]) + b"\0", "cut off or garbled"),
            (tree_of([(FILE, "b", A), (FILE, "a", A)]), "not sorted"),
            (tree_of([(FOLDER, "a", A), (FILE, "a.c", A)]), "not sorted"),
            (tree_of([(FILE, "agent.nix", A), (LINK, "agent.nix", B)]), "the name 'agent.nix' appears twice"),
            (tree_of([(FILE, "a", A), (FILE, "a.c", A), (FOLDER, "a", B)]), "the name 'a' appears twice"),
        ],
    )
    def test_what_git_does_not_write(self, content: bytes, words: str) -> None:
        """BI-151, BI-169."""
        with pytest.raises(Refused) as refused:
            parse_tree(content, "notes/")
        assert refused.value.problem is Problem.MALFORMED
        assert refused.value.detail.startswith("notes/: ")
        assert words in refused.value.detail

    def test_too_much(self) -> None:
        with pytest.raises(Refused, match="at most"):
            parse_tree(b"x" * (TREE_BYTES_MAX + 1), "notes/")

    @given(st.binary(max_size=200) | st.lists(st.tuples(st.just(FILE), st.binary(), st.just(A))).map(tree_of))
    def test_any_bytes_are_a_tree_or_a_refusal(self, content: bytes) -> None:
        with suppress(Refused):
            entries = parse_tree(content, "x/")
            assert tree_of((entry.mode.decode(), entry.name, entry.id) for entry in entries) == content


class TestShown:
    @given(st.text() | st.binary())
    def test_is_one_short_line_of_ascii(self, text: str | bytes) -> None:
        found = shown(text)
        assert found.isascii()
        assert found.isprintable()
        assert len(found) <= 10 * SHOWN_CHARS_MAX + 3

    def test_says_that_it_was_cut(self) -> None:
        assert shown("x" * 500).endswith("…") or shown("x" * 500).endswith("...")


def test_every_character_that_hides_is_known() -> None:
    """By the table of this Python: control, format, private and line-dividing characters."""
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        hides = unicodedata.category(character) in {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
        if hides and character not in "\t\n":
            assert HIDDEN.search(character), f"U+{number:04X}"


@pytest.mark.parametrize("character", [*"\t\n aZ~äß漢字🐝", "\N{VARIATION SELECTOR-16}", "é", "\u0301"])
def test_what_can_be_seen_is_not_hidden(character: str) -> None:
    assert HIDDEN.search(character) is None
