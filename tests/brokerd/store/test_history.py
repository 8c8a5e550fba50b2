"""One agent's messages: the same wherever the index ends."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brokerd.store import behind, history
from protocol.messages import Message
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import draft, send
from tests.brokerd.store.undone import undone

NAMES = ("iris", "atlas", "hm1nd", "operator", "system")


def pages(db: Db, agent: str, limit: int) -> list[list[Message]]:
    found: list[list[Message]] = []
    before: int | None = None
    while True:
        page, before = history.newest(db, agent, before, limit)
        found.append(page)
        if before is None:
            return found


def numbers(db: Db, agent: str, limit: int = 100) -> list[int]:
    return [message.id for page in pages(db, agent, limit) for message in page]


def test_what_it_wrote_and_got_with_the_deliveries(db: Db, write: Writer) -> None:
    mine, _, got = send(
        write, draft("iris"), draft("operator", ("atlas",)), draft("hm1nd", ("atlas", "iris"))
    )
    for _ in range(2):
        ((newest, oldest),) = pages(db, "iris", 10)
        assert (newest.id, oldest.id) == (got.message, mine.message)
        assert [receipt.recipient for receipt in newest.deliveries] == ["atlas", "iris"]
        behind.catch_up(db, got.message, 100)
    assert {row["agent"] for row in db.execute("SELECT agent FROM history")} == {"iris", "atlas", "hm1nd"}


def test_a_page_without_an_index_may_be_short_but_leads_on(
    db: Db, write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "UNINDEXED_ROWS_MAX", 4)
    (mine,) = send(write, draft("iris", ("atlas",)))
    send(write, *(draft("atlas", ("hm1nd",)) for _ in range(9)))
    found = pages(db, "iris", 10)
    assert [message.id for page in found for message in page] == [mine.message]
    assert len(found) == 3


def test_what_is_gone_is_passed_over(db: Db, write: Writer) -> None:
    sent = [each.message for each in send(write, *(draft() for _ in range(4)))]
    behind.catch_up(db, sent[-1], 100)
    db.execute("DELETE FROM messages WHERE id = ?", (sent[1],))
    assert numbers(db, "iris", 2) == [sent[3], sent[2], sent[0]]
    for _ in range(2):
        history.forget(db, str(sent[2:3]))
    assert numbers(db, "iris", 2) == [sent[3], sent[0]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES), min_size=1)), max_size=20),
    st.integers(0, 20),
    st.integers(1, 6),
    st.sampled_from(NAMES[:3]),
)
def test_pages_are_the_same_wherever_the_index_ends(
    db: Db, write: Writer, parties: list[tuple[str, set[str]]], head: int, limit: int, agent: str
) -> None:
    with undone(db):
        sent = send(write, *(draft(sender, tuple(sorted(to))) for sender, to in parties))
        mine = [
            one.message for one, (sender, to) in zip(sent, parties, strict=True) if agent in {sender, *to}
        ]
        for upto in range(0, min(head, len(sent)) + 1, 3):
            behind.catch_up(db, upto, 100)
        found = pages(db, agent, limit)
        assert [message.id for page in found for message in page] == mine[::-1]
        assert all(len(page) == limit for page in found[:-1])
