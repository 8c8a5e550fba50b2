"""Questions as the terminal shows them, and answers as they are typed."""

import argparse

import pytest

from hivectl import questions
from hivectl.arguments import add_arguments, build_request
from hivectl.catalogue import ABOUT, CATALOGUE
from hivectl.status import question_lines
from protocol.brokerd import QuestionPage
from protocol.problem import Refused
from protocol.questions import Broken, Question, QuestionState
from protocol.tools import Answer
from runtime.clock import now_ms

(COMMAND,) = [command for command in CATALOGUE if command.request is Answer]
FAR_MS = 2**52


def question(number: int, text: str, options: tuple[str, ...] = (), **more: object) -> Question:
    state = more.pop("state", QuestionState.OPEN)
    multi = bool(more.pop("multi", False))
    to = str(more.pop("to", "operator"))
    return Question(number, "iris", to, text, options, multi, state, now_ms(), **more)  # type: ignore[arg-type]  # what a test varies


def test_oldest_first_with_what_to_type_and_what_is_broken() -> None:
    page = QuestionPage(
        questions=(
            question(4, "between them", to="atlas"),
            question(
                3, "which?", ("red", "b\x1b[2J"), multi=True, state=QuestionState.ANSWERED, choices=("red",)
            ),
            question(1, "may\x1b[2J I?"),
        ),
        broken=(Broken(2, "no \x1b[2Jsense"),),
        before=1,
    )
    assert questions.questions(page).splitlines() == [
        "(older: --before 1)",
        "#1  0s  iris → operator  may\\x1b[2J I?  [open]",
        "      answer 1 TEXT",
        "#2  cannot be read: no \\x1b[2Jsense",
        "#3  0s  iris → operator  which?  [answered]",
        "      ☑ red",
        "      ☐ b\\x1b[2J",
        "#4  0s  iris → atlas  between them  [open]",
    ]


@pytest.mark.parametrize(
    ("multi", "typed"), [(False, "answer 1 --choices OPTION"), (True, "answer 1 --choices OPTION …")]
)
def test_how_to_choose(multi: bool, typed: str) -> None:
    page = QuestionPage((question(1, "which?", ("a",), multi=multi),), (), None)
    assert questions.questions(page).splitlines()[-1].strip() == typed


def test_a_deadline_is_counted_down_and_an_answer_shown() -> None:
    due = QuestionPage((question(1, "soon?", deadline_ms=now_ms() + 90_500),), (), None)
    assert (
        questions.questions(due)
        .splitlines()[0]
        .endswith(("[open, expires in 90 s]", "[open, expires in 89 s]"))
    )
    late = QuestionPage((question(1, "soon?", deadline_ms=1),), (), None)
    assert questions.questions(late).splitlines()[0].endswith("[open, expires in 0 s]")
    ended = question(1, "soon?", ("a", "b"), state=QuestionState.ANSWERED, answer="y\x1bes", choices=("b",))
    assert questions.questions(QuestionPage((ended,), (), None)).splitlines()[-1] == "      = y\\x1bes"
    assert questions.question(ended) == "question 1 of iris is answered: b; y\\x1bes"
    assert questions.questions(QuestionPage((), (), None)) == "no questions"


@pytest.mark.parametrize(
    ("words", "request_made"),
    [
        (["7", "yes please"], Answer(7, "yes please")),
        (["7", "--choices", "red", "blue"], Answer(7, "", ("red", "blue"))),
        (["7", "rather", "--choices", "red"], Answer(7, "rather", ("red",))),
    ],
)
def test_an_answer_is_typed_as_words_or_as_choices(words: list[str], request_made: Answer) -> None:
    assert build_request(Answer, parsed(words), {}) == request_made


def test_a_number_that_cannot_be_is_refused_by_its_name() -> None:
    with pytest.raises(Refused, match="question: "):
        build_request(Answer, parsed(["0", "yes"]), {})


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Answer, COMMAND.supplied, ABOUT, COMMAND.plain)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("waiting", "broken", "lines"),
    [
        (0, 0, []),
        (1, 0, ["? 1 question waits for you: `questions` lists them"]),
        (
            2,
            1,
            [
                "? 2 questions wait for you: `questions` lists them",
                "⚠ 1 question cannot be read: `questions` says why",
            ],
        ),
        (0, 3, ["⚠ 3 questions cannot be read: `questions` says why"]),
    ],
)
def test_the_status_says_that_somebody_waits(waiting: int, broken: int, lines: list[str]) -> None:
    assert question_lines(waiting, broken) == lines
