"""What is learnt behind the sends: each message once, in order, and made again when it is of another past."""

import pytest

from brokerd.policy.statistics import STEPS_MS
from brokerd.store import behind, history, traffic
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import draft, send

TABLES = ("history", "traffic", "words_docsize")


def counts(db: Db) -> list[int]:
    return [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES]


def sent(write: Writer, count: int) -> int:
    """So many messages from iris to atlas; the number of the last."""
    return send(write, *(draft("iris", ("atlas",)) for _ in range(count)))[-1].message


def test_a_few_at_a_time_and_none_that_may_not_be_on_disk(db: Db, write: Writer) -> None:
    last = sent(write, 10)
    heads = [behind.catch_up(db, last - 2, 3) for _ in range(4)]
    assert heads == [3, 6, 8, 8]
    assert behind.head(db) == last - 2
    assert counts(db) == [2 * 8, 2 * len(STEPS_MS), 8]
    assert behind.catch_up(db, last, 3) == last
    assert counts(db) == [2 * 10, 2 * len(STEPS_MS), 10]


def test_numbers_that_are_gone_are_passed_at_once(db: Db, write: Writer) -> None:
    last = sent(write, 10)
    db.execute("DELETE FROM messages WHERE id BETWEEN 1 AND 7")
    assert [behind.catch_up(db, last, 2) for _ in range(2)] == [9, 10]
    db.execute("DELETE FROM messages")
    sent(write, 1)
    db.execute("DELETE FROM messages")
    assert behind.catch_up(db, last + 1, 2) == last + 1


def test_with_no_messages_there_is_nothing_to_do(db: Db) -> None:
    assert (behind.last_message(db), behind.head(db), behind.catch_up(db, 0, 10)) == (0, 0, 0)
    assert not behind.is_ahead(db)


def test_long_messages_are_taken_in_one_by_one(
    db: Db, write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind, "CHARS_MAX", 10)
    send(write, draft(body="x" * 4), draft(body="y" * 20), draft(body="z" * 4), draft(body="z" * 6))
    assert [behind.catch_up(db, 4, 100) for _ in range(3)] == [2, 4, 4]
    assert counts(db)[2] == 4


def test_messages_of_another_past_are_forgotten(db: Db, write: Writer) -> None:
    """broker.sqlite is an older copy: its next messages get numbers that the index has seen."""
    behind.catch_up(db, sent(write, 5), 100)
    assert not behind.is_ahead(db)
    db.execute("DELETE FROM messages WHERE id > 3")
    db.execute("DELETE FROM deliveries WHERE id >> 7 > 3")
    db.execute("UPDATE broker.sqlite_sequence SET seq = 3 WHERE name = 'messages'")
    assert behind.is_ahead(db)
    behind.begin_anew(db)
    assert (behind.head(db), counts(db)) == (0, [0, 0, 0])
    assert behind.catch_up(db, 3, 100) == 3
    assert [message.id for message in history.newest(db, "iris", None, 9)[0]] == [3, 2, 1]


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_steps_are_removed_agent_by_agent(db: Db, limit: int) -> None:
    for step in range(6):
        traffic.note_inboxes(db, {"atlas": 1, "iris": 1}, step * STEPS_MS[0])
    agents = []
    agent: str | None = traffic.next_agent(db, "")
    while agent is not None:
        agents.append(agent)
        while traffic.forget_before(db, 4 * STEPS_MS[0], agent, limit):
            continue
        agent = traffic.next_agent(db, agent)
    assert agents == ["atlas", "iris"]
    left = db.execute(
        "SELECT agent, at_ms FROM traffic WHERE step_ms = ? ORDER BY agent, at_ms", STEPS_MS[:1]
    )
    assert [tuple(row) for row in left] == [
        (name, step * STEPS_MS[0]) for name in ("atlas", "iris") for step in (4, 5)
    ]
