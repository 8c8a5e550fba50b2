"""Questions in the database: what is looked for is found by an index, and nothing is told twice."""

import msgspec
import pytest

from brokerd.store import question_rows, questions
from brokerd.store.keys import Asked
from brokerd.store.question_rows import Form
from brokerd.store.questions import Asking
from protocol.problem import Problem, Refused
from protocol.questions import Question
from protocol.tools import Answer
from runtime.store import Db
from tests.brokerd.store.conftest import Writer

DUE = 60_000


def ask(
    write: Writer,
    text: str = "which?",
    *,
    asker: str = "iris",
    to: str = "operator",
    key: int = 0,
    ttl_s: int | None = None,
) -> Question:
    ask.keys = key or ask.keys + 1  # type: ignore[attr-defined]  # a counter
    number: int = ask.keys  # type: ignore[attr-defined]  # a counter of its own
    asked = Asked(asker, number.to_bytes(16, "big"))
    return write(questions.ask, Asking(asked, b"", to, to, Form(text), ttl_s))


ask.keys = 1_000  # type: ignore[attr-defined]  # a counter of its own


PLANS = [
    (questions.COUNT_OPEN, ("iris",), "questions_open_of"),
    (question_rows.NEWEST_OPEN, (1, 1), "questions_open"),
    (question_rows.NEWEST_OF_AGENT, (1, 1, "iris"), "questions_asked_of"),
    (question_rows.NEWEST_OPEN_OF_AGENT, (1, 1, "iris"), "questions_open_to"),
    (question_rows.OLDEST_OPEN_TO, ("operator", 1), "questions_open_to"),
    (question_rows.OLDEST_OPEN_NOT_TO, ("operator", 1), "questions_open"),
    (question_rows.OLDEST_OPEN_OF, ("iris", 1), "questions_open_to"),
    (questions.NEXT_DEADLINE, (), "questions_due"),
    (questions.DUE, (1, 1), "questions_due"),
]


@pytest.mark.parametrize(("statement", "values", "index"), PLANS)
def test_what_is_over_costs_nothing(db: Db, statement: str, values: tuple[object, ...], index: str) -> None:
    plan = [row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    used = [step.partition("INDEX ")[2].split(" ")[0] for step in plan if "questions" in step]
    assert index in used, plan
    assert all("open" in name or "due" in name for name in used) or statement in OF_ALL, plan


OF_ALL = {question_rows.NEWEST_OF_AGENT}
"""Looks at what is over as well, a page at a time."""


def test_a_question_its_message_and_its_key_are_one(db: Db, write: Writer) -> None:
    asked = ask(write, to="atlas", key=7)
    assert write.kinds() == ["MessageSent", "QuestionChanged"]
    assert ask(write, to="atlas", key=7) == asked
    assert write.kinds() == []
    with pytest.raises(Refused):
        write(questions.answer, "atlas", Answer(asked.id, ""), 0)
    assert write.kinds() == []
    write(questions.answer, "atlas", Answer(asked.id, "this"), 3)
    assert write.kinds() == ["QuestionChanged", "MessageSent"]
    row = db.execute(
        "SELECT sender, addressed_to, event, about, hops, thread FROM messages WHERE id = 2"
    ).fetchone()
    assert tuple(row) == ("atlas", "iris", "answered", asked.id, 3, 1)


def test_the_next_deadline_is_that_of_an_open_question(db: Db, write: Writer) -> None:
    assert questions.next_deadline(db) is None
    ask(write)
    late = ask(write, ttl_s=90)
    soon = ask(write, ttl_s=60)
    assert questions.next_deadline(db) == soon.deadline_ms == write.now_ms + DUE
    write(questions.answer, "operator", Answer(soon.id, "yes"), 0)
    assert questions.next_deadline(db) == late.deadline_ms


def test_what_is_due_ends_once_the_oldest_deadline_first(db: Db, write: Writer) -> None:
    asked = [ask(write, str(ttl_s), ttl_s=ttl_s) for ttl_s in (90, 60, 75, 120)]
    write.told.clear()
    write.now_ms += 89_999
    assert write(questions.expire, 1) == []
    assert question_rows.read(db, asked[1].id).state == "expired"
    write(questions.expire, 10)
    assert [question_rows.read(db, each.id).state for each in asked] == ["open", "expired", "expired", "open"]
    assert write.kinds() == ["QuestionChanged", "MessageSent"] * 2
    assert [row["about"] for row in db.execute("SELECT about FROM messages")] == [asked[1].id, asked[2].id]
    write(questions.expire, 10)
    assert write.kinds() == []


def test_a_key_that_was_used_for_something_else(db: Db, write: Writer) -> None:
    ask(write, key=7)
    with pytest.raises(Refused, match="this key was used") as refused:
        questions.find_asked(db, Asked("iris", (7).to_bytes(16, "big")), b"other")
    assert refused.value.problem is Problem.CONFLICT


def test_who_has_something_open(db: Db, write: Writer) -> None:
    ask(write, asker="iris", to="atlas")
    ended = ask(write, asker="hm1nd")
    assert set(questions.agents_with_open(db)) == {"iris", "atlas", "hm1nd"}
    write(questions.answer, "operator", Answer(ended.id, "yes"), 0)
    assert set(questions.agents_with_open(db)) == {"iris", "atlas"}
    assert write(questions.close, "atlas", 10) == 1
    assert questions.agents_with_open(db) == []
    assert write(questions.close, "atlas", 10) == 0


@pytest.mark.parametrize("to", ["operator", "atlas"])
def test_what_is_shown_at_once_is_bounded_and_starts_with_the_oldest(db: Db, write: Writer, to: str) -> None:
    asked = [ask(write, "\x01" * 8_000, to=to) for _ in range(5)]  # 48 000 bytes each, as JSON
    found = question_rows.oldest_open(db, 100, 100_000, to_operator=to == "operator")
    assert found.questions == tuple(asked[:2])
    assert len(msgspec.json.encode(found.questions)) <= 100_000
    assert question_rows.oldest_open(db, 3, 2**20, to_operator=to == "operator").questions == tuple(asked[:3])
    assert question_rows.oldest_open(db, 100, 2**20, to_operator=to != "operator").questions == ()
