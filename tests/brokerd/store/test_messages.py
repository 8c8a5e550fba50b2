"""Messages: stored once for each key, threaded, and found again."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.store import deliveries, messages
from brokerd.store.keys import Asked
from protocol.messages import DeliveryState, Message
from protocol.problem import Problem, Refused
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import draft, send


def test_a_message_and_its_deliveries(db: Db, write: Writer) -> None:
    (sent,) = send(write, draft("iris", ("atlas", "hm1nd"), "all of you"))
    stored = messages.read_whole(db, sent.message)
    assert (stored.id, stored.thread, stored.sender, stored.to) == (sent.message, sent.message, "iris", "*")
    assert (stored.broadcast, stored.body, stored.sent_ms) == (True, "all of you", write.now_ms)
    assert [receipt.recipient for receipt in stored.deliveries] == ["atlas", "hm1nd"]
    assert {receipt.state for receipt in stored.deliveries} == {DeliveryState.QUEUED}
    assert {receipt.message for receipt in stored.deliveries} == {sent.message}
    assert sent.recipients == ("atlas", "hm1nd")


def test_the_feed_tells_the_message_whole(db: Db, write: Writer) -> None:
    (sent,) = send(write, draft())
    (entry,) = write.told
    assert entry.seq == sent.seq
    assert entry.body.message == messages.read_whole(db, sent.message)  # type: ignore[union-attr]  # MessageSent


def test_numbers_grow_over_jobs_and_within_one(write: Writer) -> None:
    first = [sent.message for sent in send(write, draft(), draft(), draft())]
    (last,) = send(write, draft())
    assert [*first, last.message] == list(range(first[0], first[0] + 4))


def test_a_repeat_is_answered_by_the_first_answer(db: Db, write: Writer) -> None:
    (first,) = send(write, draft(key=7, digest=b"a"))
    write.told.clear()
    (again,) = send(write, draft(key=7, digest=b"a"))
    assert again == first
    assert write.told == []
    assert messages.find_sent(db, Asked("operator", (7).to_bytes(16, "big")), b"a") == first


def test_a_repeat_within_one_job_is_stored_once(write: Writer) -> None:
    first, other, again = send(write, draft(key=7), draft(), draft(key=7))
    assert again == first != other


def test_a_key_is_the_senders_own(write: Writer) -> None:
    first, second = send(write, draft("iris", ("atlas",), key=7), draft("atlas", ("iris",), key=7))
    assert first.message != second.message


def test_a_key_used_for_something_else_is_refused_and_the_others_are_stored(db: Db, write: Writer) -> None:
    send(write, draft(key=7, digest=b"a"))
    refused, sent = write(messages.send, [draft(key=7, digest=b"b"), draft()])
    assert isinstance(refused, Refused)
    assert (refused.problem, refused.detail) == (Problem.CONFLICT, "this key was used for another message")
    assert not isinstance(sent, Refused)
    with pytest.raises(Refused, match="another message"):
        messages.find_sent(db, Asked("operator", (7).to_bytes(16, "big")), b"b")


def test_a_key_never_used_finds_nothing(db: Db, write: Writer) -> None:
    assert messages.find_sent(db, Asked("operator", b"\0" * 16), b"") is None


def test_an_answer_joins_the_thread(db: Db, write: Writer) -> None:
    (question,) = send(write, draft("operator", ("iris",)))
    (answer,) = send(write, draft("iris", ("operator",), in_reply_to=question.message))
    (more,) = send(write, draft("operator", ("iris",), in_reply_to=answer.message))
    assert {question.thread, answer.thread, more.thread} == {question.message}
    assert messages.read(db, more.message).in_reply_to == answer.message


@pytest.mark.parametrize("linked", ["unknown", "foreign"])
def test_an_answer_to_what_is_not_ones_own_is_stored_without_the_link(
    db: Db, write: Writer, linked: str
) -> None:
    (foreign,) = send(write, draft("hm1nd", ("atlas",)))
    target = foreign.message if linked == "foreign" else 999
    (sent,) = send(write, draft("iris", ("hm1nd",), in_reply_to=target))
    stored = messages.read(db, sent.message)
    assert (stored.in_reply_to, stored.thread) == (None, sent.message)


def test_the_operator_may_answer_anything(db: Db, write: Writer) -> None:
    (foreign,) = send(write, draft("hm1nd", ("atlas",)))
    (sent,) = send(write, draft("operator", ("iris",), in_reply_to=foreign.message))
    assert sent.thread == foreign.message


def test_who_wrote_to_whom_in_a_thread(db: Db, write: Writer) -> None:
    (question,) = send(write, draft("atlas", ("iris",)))
    (answer,) = send(write, draft("iris", ("atlas",), in_reply_to=question.message))
    (aside,) = send(
        write, draft("hm1nd", ("atlas",), in_reply_to=answer.message)
    )  # not hm1nd's: a thread of its own
    assert messages.wrote_to(db, question.message, "atlas", "iris")
    assert messages.wrote_to(db, answer.message, "atlas", "iris")
    assert messages.wrote_to(db, answer.message, "iris", "atlas")
    assert not messages.wrote_to(db, question.message, "hm1nd", "iris")
    assert not messages.wrote_to(db, aside.message, "atlas", "iris")
    assert not messages.wrote_to(db, 999, "atlas", "iris")


def ids(found: list[Message]) -> list[int]:
    return [message.id for message in found]


def test_pages_lead_from_the_newest_to_the_first(db: Db, write: Writer) -> None:
    sent = [each.message for each in send(write, *(draft() for _ in range(10)))]
    read: list[int] = []
    before: int | None = None
    while True:
        found, before = messages.newest(db, before, 3, None, None)
        read += ids(found)
        if before is None:
            break
    assert read == sent[::-1]


def test_pages_of_one_agent_hold_what_it_wrote_and_got(db: Db, write: Writer) -> None:
    mine = [
        each.message for each in send(write, draft("iris", ("atlas",)), draft("atlas", ("iris", "hm1nd")))
    ]
    send(write, draft("atlas", ("hm1nd",)))
    found, before = messages.newest(db, None, 10, "iris", None)
    assert (ids(found), before) == (mine[::-1], None)


def test_a_rare_agents_page_may_be_short_but_leads_on(
    db: Db, write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "SCANNED_ROWS_MAX", 4)
    (mine,) = send(write, draft("iris", ("atlas",)))
    send(write, *(draft("atlas", ("hm1nd",)) for _ in range(9)))
    pages = 0
    found: list[Message] = []
    before: int | None = None
    while not found:
        found, before = messages.newest(db, before, 10, "iris", None)
        pages += 1
    assert ids(found) == [mine.message]
    assert pages == 3


def test_pages_of_a_thread_hold_it_and_nothing_else(db: Db, write: Writer) -> None:
    (question,) = send(write, draft("operator", ("iris",)))
    send(write, draft())
    (answer,) = send(write, draft("iris", ("operator",), in_reply_to=question.message))
    found, before = messages.newest(db, None, 10, None, question.message)
    assert (ids(found), before) == ([answer.message, question.message], None)
    found, before = messages.newest(db, None, 1, None, question.message)
    assert (ids(found), before) == ([answer.message], answer.message)
    assert ids(messages.newest(db, before, 1, None, question.message)[0]) == [question.message]


@given(gaps=st.lists(st.integers(0, 50), max_size=12), since=st.integers(0, 700))
def test_messages_since_a_time_are_counted(gaps: list[int], since: int) -> None:
    """Numbers grow with time, so the count needs no index."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.row_factory = sqlite3.Row
        db.execute("ATTACH DATABASE ':memory:' AS broker")
        db.execute("CREATE TABLE broker.messages (id INTEGER PRIMARY KEY AUTOINCREMENT, sent_ms INTEGER)")
        times = [sum(gaps[: count + 1]) for count in range(len(gaps))]
        db.executemany("INSERT INTO messages (sent_ms) VALUES (?)", [(time,) for time in times])
        assert messages.count_since(db, since) == sum(time >= since for time in times)


def test_deliveries_say_which_message_they_are_of() -> None:
    assert deliveries.message_of(deliveries.id_of(12_345, 127)) == 12_345
    assert deliveries.id_of(12_345, 127) < deliveries.id_of(12_346, 0)
