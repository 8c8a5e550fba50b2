"""Searches: whatever is typed becomes words, never the index's own language."""

import re
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.policy.search import Search, expression, quoted, search_for

SYNTAX = st.text(alphabet='"*^:(){}+-,. \0aAbé漢', max_size=40) | st.lists(
    st.sampled_from(["AND", "OR", "NOT", "NEAR(", ")", '"', "body:", "*", "a", "{body}", "- ", "\0", "''"])
).map(" ".join)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("deploy", Search((), "deploy")),
        ("  deploy   failed ", Search(("deploy",), "failed")),
        ("deploy - failed", Search(("deploy",), "failed")),
        ("a\0b", Search(("a",), "b")),
        ('say "hello"', Search(("say",), '"hello"')),
        ("foo-bar", Search((), "foo-bar")),
    ],
)
def test_words_stand_between_blanks(text: str, words: Search) -> None:
    assert search_for(text) == words


@pytest.mark.parametrize("text", ["", "  ", "***", "\0", '"', "- !"])
def test_without_a_letter_there_is_nothing_to_search(text: str) -> None:
    assert search_for(text) is None


def test_one_latin_letter_is_a_word_and_not_a_beginning() -> None:
    assert expression(Search((), "a"), None) == '{body} : ("a")'
    assert expression(Search((), "ab"), None) == '{body} : ("ab"*)'
    assert expression(Search((), "漢"), None) == '{body} : ("漢"*)'


def test_all_words_and_the_agent_are_asked_for() -> None:
    search = Search(("foo", "bar"), "ba")
    assert expression(search, "iris") == '{body} : ("foo" "bar") AND {body} : ("ba"*) AND {parties} : "iris"'
    assert expression(search, None, ["bar", "baz"]) == '{body} : ("foo" "bar") AND {body} : ("bar" OR "baz")'


@given(st.text())
def test_a_quoted_word_ends_where_it_should(word: str) -> None:
    assert re.fullmatch(r'"(?:[^"]|"")*"', quoted(word), re.DOTALL)


@given(
    st.text(max_size=60) | SYNTAX, st.none() | st.just("iris"), st.none() | st.lists(st.text(), max_size=3)
)
def test_no_text_is_an_error_to_the_index(
    text: str, agent: str | None, completions: list[str] | None
) -> None:
    search = search_for(text)
    if search is None:
        return
    known = [word.replace("\0", "") for word in completions or ()]
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE VIRTUAL TABLE words USING fts5(body, parties, content = '', prefix = '2 3')")
        db.execute("INSERT INTO words (rowid, body, parties) VALUES (1, ?, 'iris')", (text,))
        asked = expression(search, agent, known)
        db.execute("SELECT rowid FROM words WHERE words MATCH ?", (asked,)).fetchall()
