"""Questions against a model of a few lines: whatever is asked, answered, forgotten and repeated, each ends once."""

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import Struct

from brokerd.store import feed, question_rows, questions, schema
from brokerd.store.keys import Asked
from brokerd.store.question_rows import Form
from brokerd.store.questions import Asking
from protocol.problem import Problem, Refused
from protocol.questions import QuestionState
from protocol.tools import Answer
from runtime.store import connect
from tests.brokerd.conftest import MEMORY
from tests.brokerd.store.conftest import Writer, shape_in

AGENTS = ("iris", "atlas", "hm1nd")
NAMES = (*AGENTS, "operator")
OPTIONS = ("a", "b", "c")


class Expected(Struct):
    """A question as it should be."""

    asker: str
    asked_of: str
    options: tuple[str, ...]
    multi: bool
    deadline_ms: int | None
    state: QuestionState = QuestionState.OPEN
    answer: tuple[str, tuple[str, ...]] | None = None
    told: int = 0
    """Messages to the asker about its end."""


class Questions(RuleBasedStateMachine):
    """Real tables on one side, a dict on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        shape = shape_in(Path(self.folder.name))
        schema.migrate(shape.path, shape)
        self.db = connect(shape)
        self.db.execute("PRAGMA main.synchronous = OFF")
        self.db.execute("PRAGMA broker.synchronous = OFF")
        feed.open_feed(self.db, "boot")
        self.write = Writer(self.db)
        self.model: dict[int, Expected] = {}
        self.keys: list[tuple[Asking, int]] = []

    def teardown(self) -> None:
        with closing(self.db):
            pass
        self.folder.cleanup()

    @rule(
        asker=st.sampled_from(AGENTS),
        to=st.sampled_from(NAMES),
        options=st.sampled_from(((), OPTIONS)),
        multi=st.booleans(),
        ttl_s=st.none() | st.integers(30, 90),
    )
    def ask(self, asker: str, to: str, options: tuple[str, ...], multi: bool, ttl_s: int | None) -> None:
        if asker == to:
            return
        asked = Asked(asker, len(self.keys).to_bytes(16, "big"))
        asking = Asking(asked, b"", to, to, Form("which?", options, multi), ttl_s)
        question = self.write(questions.ask, asking)
        deadline_ms = None if ttl_s is None else self.write.now_ms + ttl_s * 1000
        assert question.id not in self.model
        self.model[question.id] = Expected(asker, to, options, multi, deadline_ms)
        self.keys.append((asking, question.id))

    @precondition(lambda self: self.keys)
    @rule(data=st.data())
    def ask_again(self, data: Any) -> None:
        asking, number = data.draw(st.sampled_from(self.keys))
        assert self.write(questions.ask, asking).id == number

    @precondition(lambda self: self.model)
    @rule(
        data=st.data(),
        by=st.sampled_from(NAMES),
        text=st.sampled_from(("", "words")),
        choices=st.lists(st.sampled_from((*OPTIONS, "d")), max_size=3).map(tuple),
    )
    def answer(self, data: Any, by: str, text: str, choices: tuple[str, ...]) -> None:
        number = data.draw(st.sampled_from(sorted(self.model)))
        expected = self._problem(self.model[number], by, text, choices)
        if expected is not None:
            with pytest.raises(Refused) as refused:
                self.write(questions.answer, by, Answer(number, text, choices), 0)
            assert refused.value.problem is expected
            return
        question = self.write(questions.answer, by, Answer(number, text, choices), 0)
        model = self.model[number]
        if model.state is QuestionState.OPEN:
            model.state, model.answer, model.told = QuestionState.ANSWERED, (text, question.choices), 1

    def _problem(self, model: Expected, by: str, text: str, choices: tuple[str, ...]) -> Problem | None:
        """How an answer is refused, None when it is taken."""
        if by not in ("operator", model.asker, model.asked_of):
            return Problem.NOT_FOUND
        if by != model.asked_of:
            return Problem.DENIED
        if model.options:
            fits = set(choices) <= set(OPTIONS) and len(set(choices)) == len(choices) >= 1
            fits = fits and (model.multi or len(choices) == 1)
        else:
            fits = bool(text) and not choices
        if not fits:
            return Problem.MALFORMED
        if model.state is QuestionState.ANSWERED:
            is_same = model.answer == (text, tuple(sorted(choices)))
            return None if is_same else Problem.CONFLICT
        is_over = model.deadline_ms is not None and self.write.now_ms >= model.deadline_ms
        return Problem.CONFLICT if is_over or model.state is not QuestionState.OPEN else None

    @rule(seconds=st.integers(1, 60))
    def time_passes(self, seconds: int) -> None:
        self.write.now_ms += seconds * 1000

    @rule(limit=st.integers(1, 3))
    def expire(self, limit: int) -> None:
        due = sorted(
            (model.deadline_ms, number)
            for number, model in self.model.items()
            if model.state is QuestionState.OPEN and model.deadline_ms is not None
        )
        self.write(questions.expire, limit)
        for deadline_ms, number in due[:limit]:
            if deadline_ms <= self.write.now_ms:
                self.model[number].state, self.model[number].told = QuestionState.EXPIRED, 1

    @rule(agent=st.sampled_from(AGENTS), limit=st.integers(1, 3))
    def close(self, agent: str, limit: int) -> None:
        open_ones = [
            model
            for _, model in sorted(self.model.items())
            if model.state is QuestionState.OPEN and agent in (model.asker, model.asked_of)
        ]
        assert self.write(questions.close, agent, limit) == len(open_ones[:limit])
        for model in open_ones[:limit]:
            model.state, model.told = QuestionState.CLOSED, int(model.asker != agent)

    @initialize()
    def begin(self) -> None:
        self.write.told.clear()

    @invariant()
    def each_is_as_it_should_be(self) -> None:
        found = question_rows.newest(self.db, None, 200, 2**20, open_only=False, agent=None)
        assert found.broken == ()
        assert {each.id: each.state for each in found.questions} == {
            number: model.state for number, model in self.model.items()
        }
        open_ones = question_rows.newest(self.db, None, 200, 2**20, open_only=True, agent=None).questions
        assert all(each.state is QuestionState.OPEN for each in open_ones)
        assert len(open_ones) == sum(model.state is QuestionState.OPEN for model in self.model.values())

    @invariant()
    def each_end_is_told_once_and_each_agent_asked_once(self) -> None:
        told = self.db.execute(
            "SELECT about, count(*) AS many, min(addressed_to) AS to_whom FROM messages "
            "WHERE event IN ('answered', 'expired') GROUP BY about"
        )
        assert {(row["about"], row["many"], row["to_whom"]) for row in told} == {
            (number, 1, model.asker) for number, model in self.model.items() if model.told
        }
        asked = self.db.execute("SELECT about, addressed_to FROM messages WHERE event = 'question'")
        assert sorted((row["about"], row["addressed_to"]) for row in asked) == sorted(
            (number, model.asked_of) for number, model in self.model.items() if model.asked_of != "operator"
        )

    @invariant()
    def the_next_deadline_is_the_earliest(self) -> None:
        waiting = [
            model.deadline_ms
            for model in self.model.values()
            if model.state is QuestionState.OPEN and model.deadline_ms is not None
        ]
        assert questions.next_deadline(self.db) == min(waiting, default=None)


TestQuestions = Questions.TestCase
TestQuestions.settings = settings(stateful_step_count=30)
