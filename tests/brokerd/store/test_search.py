"""Search against a plain one that reads everything: wherever the index ends, the same is found in the same order."""

import re
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brokerd.policy.search import search_for
from brokerd.store import behind, messages, schema, search
from brokerd.store.behind import catch_up
from protocol.messages import Message
from runtime.store import Db, StoreShape, connect
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import draft, send
from tests.brokerd.store.undone import undone

WORDS = ("deploy", "deployed", "Deploying", "dep", "failed", "fa-il", "hello,", "x", "a1", "hello")
NAMES = ("iris", "atlas", "hm1nd", "operator")


def found(db: Db, text: str, agent: str | None = None, limit: int = 100) -> list[int]:
    """Numbers of everything that is found, page by page."""
    wanted = search_for(text)
    assert wanted is not None
    numbers: list[int] = []
    before: int | None = None
    while True:
        page, before = search.newest(db, wanted, agent, before, limit)
        assert len(page) <= limit
        numbers += [message.id for message in page]
        if before is None:
            return numbers


def index(write: Writer, upto: int | None = None, limit: int = 1_000) -> None:
    last = behind.last_message(write.db) if upto is None else upto
    while write.db.execute("SELECT head FROM behind").fetchone()["head"] < last:
        catch_up(write.db, last, limit)


def said(write: Writer, *bodies: str) -> list[int]:
    return [sent.message for sent in send(write, *(draft(body=body) for body in bodies))]


@pytest.mark.parametrize("indexed", [True, False])
def test_all_words_in_any_order_and_the_last_may_be_a_beginning(
    db: Db, write: Writer, *, indexed: bool
) -> None:
    first, second, third = said(write, "Deploy of iris failed", "deployment is fine", "nothing failed here")
    if indexed:
        index(write)
    assert found(db, "deploy") == [second, first]
    assert found(db, "failed deploy") == [first]
    assert found(db, "deploy fail") == [first]
    assert found(db, "fail deploy") == []
    assert found(db, "FAILED") == [third, first]
    assert found(db, "d") == []


@pytest.mark.parametrize("indexed", [True, False])
def test_accents_marks_and_syntax_do_not_matter(db: Db, write: Writer, *, indexed: bool) -> None:
    first, second = said(write, "Ångström déjà-vu", 'the "body" : NEAR(x) AND y*')
    if indexed:
        index(write)
    assert found(db, "angstrom") == found(db, "DEJA") == found(db, "déjà-vu") == [first]
    assert found(db, 'body "near" and') == found(db, "the :") == [second]
    assert found(db, "NOT the") == []


def test_a_beginning_of_too_many_words_is_found_all_the_same(db: Db, write: Writer) -> None:
    numbers = said(write, *(f"word{number:03}" for number in range(search.COMPLETIONS_MAX + 10)))
    index(write)
    assert found(db, "word", limit=7) == numbers[::-1]
    assert found(db, "word01") == numbers[10:20][::-1]


def test_what_one_agent_wrote_or_got(db: Db, write: Writer) -> None:
    mine, other, got = (
        sent.message
        for sent in send(
            write,
            draft("iris", ("operator",), "hello there"),
            draft("operator", ("atlas",), "hello iris"),
            draft("hm1nd", ("atlas", "iris"), "hello all"),
        )
    )
    for _ in range(2):
        assert found(db, "hello", "iris") == [got, mine]
        assert found(db, "hello", "atlas") == [got, other]
        assert found(db, "hello", "nobody") == []
        assert found(db, "iris") == [other]
        index(write)


def test_a_page_without_an_index_may_be_short_but_leads_on(
    db: Db, write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "UNINDEXED_ROWS_MAX", 4)
    (rare,) = said(write, "rare")
    said(write, *["common"] * 9)
    wanted = search_for("rare")
    assert wanted is not None
    page, before = search.newest(db, wanted, None, None, 10)
    assert (page, before) == ([], behind.last_message(db) - 3)
    assert found(db, "rare") == [rare]


def test_long_messages_without_an_index_make_short_pages(
    db: Db, write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "UNINDEXED_CHARS_MAX", 100)
    numbers = said(write, *(f"word {number} " + "x" * 60 for number in range(5)))
    wanted = search_for("word")
    assert wanted is not None
    page, before = search.newest(db, wanted, None, None, 10)
    assert ([message.id for message in page], before) == (numbers[:2:-1], numbers[3])
    assert found(db, "word") == numbers[::-1]


def test_what_is_gone_is_not_found_and_taken_out_once(db: Db, write: Writer) -> None:
    first, second, third = said(write, "hello one", "hello two", "hello three")
    index(write, second)
    for _ in range(2):  # the process was killed after the first time, and the message is still there
        search.forget(db, f"[{first}, {third}, 999]")
    assert found(db, "hello") == [third, second]
    assert search.find(db, search_for("one"), None, messages.NEWER_THAN_ALL, 9).messages == ()  # type: ignore[arg-type]  # a word
    db.execute("INSERT INTO words (words) VALUES ('integrity-check')")


def test_a_message_that_the_index_still_knows_is_passed_over(db: Db, write: Writer) -> None:
    """A power cut took back that it was taken out, and it is gone all the same."""
    first, second = said(write, "hello one", "hello two")
    index(write)
    db.execute("DELETE FROM messages WHERE id = ?", (second,))
    assert found(db, "hello", limit=1) == [first]


def test_a_lost_index_is_made_again_from_the_messages(db: Db, write: Writer, shape: StoreShape) -> None:
    numbers = said(write, "hello one", "hello two")
    index(write)
    db.close()
    for file in (shape.path, Path(f"{shape.path}-wal"), Path(f"{shape.path}-shm")):
        file.unlink(missing_ok=True)
    schema.migrate(shape.path, shape)
    with closing(connect(shape)) as again:
        assert found(again, "hello") == numbers[::-1]
        assert catch_up(again, 2, 100) == 2
        assert search.find(again, search_for("two"), None, 9, 9).messages == (numbers[1],)  # type: ignore[arg-type]  # a word


bodies = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
sendings = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES), min_size=1), bodies),
    min_size=1,
    max_size=12,
)


def tokens(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def has(body: list[str], phrase: list[str], *, is_beginning: bool) -> bool:
    for place in range(len(body) - len(phrase) + 1):
        part = body[place : place + len(phrase)]
        last_fits = part[-1].startswith(phrase[-1]) if is_beginning else part[-1] == phrase[-1]
        if part[:-1] == phrase[:-1] and last_fits:
            return True
    return False


def plainly(sent: list[Message], text: str, agent: str | None) -> list[int]:
    words = text.split()
    numbers = []
    for message in sent:
        body = tokens(message.body)
        parties = {message.sender, *(receipt.recipient for receipt in message.deliveries)}
        whole = all(has(body, tokens(word), is_beginning=False) for word in words[:-1])
        last = has(body, tokens(words[-1]), is_beginning=len(words[-1]) > 1)
        if whole and last and (agent is None or agent in parties):
            numbers.append(message.id)
    return numbers[::-1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sendings,
    st.lists(st.sampled_from([*WORDS, "depl", "fai", "he", "fa-i", "deployi"]), min_size=1, max_size=2),
    st.none() | st.sampled_from(NAMES[:3]),
    st.integers(0, 12),
    st.integers(1, 5),
)
def test_it_finds_what_a_plain_search_finds(
    db: Db,
    write: Writer,
    sendings: list[tuple[str, set[str], str]],
    words: list[str],
    agent: str | None,
    head: int,
    limit: int,
) -> None:
    with undone(db):
        before = behind.last_message(db)
        index(write)
        sent = send(write, *(draft(sender, tuple(sorted(to)), body) for sender, to, body in sendings))
        index(write, min(before + head, behind.last_message(db)), limit)
        text = " ".join(words)
        expected = plainly([messages.read_whole(db, each.message) for each in sent], text, agent)
        numbers = found(db, text, agent, limit)
        assert [number for number in numbers if number > before] == expected
        assert all(newer > older for newer, older in pairwise(numbers))
