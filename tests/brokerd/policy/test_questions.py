"""What may be asked and answered, and that question and answer always fit into a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from brokerd.policy import questions
from brokerd.policy.bodies import check_body
from protocol.limits import (
    BODY_BYTES_MAX,
    OPTION_CHARS_MAX,
    OPTIONS_MAX,
    QUESTION_CHARS_MAX,
    QUESTIONS_OPEN_MAX,
)
from protocol.problem import Problem, Refused
from protocol.questions import Question, QuestionState

ASKED = Question(7, "iris", "operator", "which?", ("a", "b", "c"), False, QuestionState.OPEN, 1_000)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
OPTION = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(str.strip)
OPTIONS = st.lists(OPTION, max_size=OPTIONS_MAX, unique=True).map(tuple)
WIDE = "🐝"


@pytest.mark.parametrize(
    ("text", "options", "multi", "fault"),
    [
        ("", (), False, "the question is empty"),
        ("\t", (), False, "the question is empty"),
        ("a\0", (), False, "the question has a NUL"),
        ("a", (), True, "multi needs options"),
        ("a", ("x", " "), False, "option 2 is empty"),
        ("a", ("x\x1b[2J",), False, "option 1 is not one line"),
        ("a", ("x\u2028y",), False, "option 1 is not one line"),
        ("a", ("x", "y", "x"), True, "the option 'x' is there twice"),
    ],
)
def test_what_nobody_could_answer_is_refused(
    text: str, options: tuple[str, ...], multi: bool, fault: str
) -> None:
    with pytest.raises(Refused, match=fault) as refused:
        questions.check_question(text, options, multi=multi)
    assert refused.value.problem is Problem.MALFORMED


@given(TEXTS.filter(str.strip), OPTIONS, st.booleans())
def test_what_can_be_answered_may_be_asked(text: str, options: tuple[str, ...], multi: bool) -> None:
    questions.check_question(text, options, multi=multi and bool(options))


def test_one_agent_has_so_many_open_and_no_more() -> None:
    questions.check_room("iris", QUESTIONS_OPEN_MAX - 1)
    with pytest.raises(Refused, match="iris has 50 questions open"):
        questions.check_room("iris", QUESTIONS_OPEN_MAX)


@given(OPTIONS, st.booleans(), st.data())
def test_an_answer_chooses_among_the_options_and_keeps_their_order(
    options: tuple[str, ...], multi: bool, data: st.DataObject
) -> None:
    asked = replace(ASKED, options=options, multi=multi)
    choices = data.draw(
        st.permutations(options).map(lambda all_of: tuple(all_of[: data.draw(st.integers(0, 3))]))
    )
    if not options:
        assert questions.check_answer(asked, "words", ()) == ()
    elif len(choices) == 1 or (multi and choices):
        chosen = questions.check_answer(asked, "", choices)
        assert chosen == tuple(option for option in options if option in choices)
        assert questions.check_answer(asked, "a remark", choices) == chosen
    else:
        with pytest.raises(Refused, match=f"{len(choices)} of the options are chosen"):
            questions.check_answer(asked, "words", choices)


@pytest.mark.parametrize(
    ("changes", "at_ms", "fault"),
    [
        (
            {"state": QuestionState.ANSWERED, "answered_by": "operator", "choices": ("b",)},
            1,
            "answered already",
        ),
        ({"state": QuestionState.EXPIRED}, 1, "is over"),
        ({"state": QuestionState.CLOSED}, 1, "is closed: nobody waits for the answer"),
        ({"deadline_ms": 2_000}, 2_000, "is over"),
    ],
)
def test_a_question_takes_one_answer_in_its_time(changes: dict[str, object], at_ms: int, fault: str) -> None:
    with pytest.raises(Refused, match=fault) as refused:
        questions.is_repeated(replace(ASKED, **changes), "operator", "", ("a",), at_ms)
    assert refused.value.problem is Problem.CONFLICT


def test_the_first_answer_is_new_and_the_same_again_is_not() -> None:
    assert not questions.is_repeated(ASKED, "operator", "", ("a",), 1)
    assert not questions.is_repeated(replace(ASKED, deadline_ms=2_000), "operator", "", ("a",), 1_999)
    answered = replace(
        ASKED, state=QuestionState.ANSWERED, answered_by="operator", answer="x", choices=("a",)
    )
    assert questions.is_repeated(answered, "operator", "x", ("a",), 9_000)
    for other in (("operator", "y", ("a",)), ("operator", "x", ("b",)), ("atlas", "x", ("a",))):
        with pytest.raises(Refused, match="answered already"):
            questions.is_repeated(answered, *other, 1)


def test_only_the_one_who_was_asked_answers() -> None:
    questions.check_answerer(ASKED, "operator")
    with pytest.raises(Refused, match="asked of operator, not of hm1nd") as refused:
        questions.check_answerer(ASKED, "hm1nd")
    assert refused.value.problem is Problem.DENIED


def test_everyone_is_nobody_in_particular() -> None:
    questions.check_addressee("manager")
    with pytest.raises(Refused, match="not of everyone"):
        questions.check_addressee("*")


@pytest.mark.parametrize("char", ["x", WIDE, "\n", "€"])
def test_the_longest_question_and_answer_are_messages(char: str) -> None:
    text = (char * QUESTION_CHARS_MAX).replace("\n", "\nx")[:QUESTION_CHARS_MAX]
    options = tuple(f"{number:02}{WIDE * (OPTION_CHARS_MAX - 2)}" for number in range(OPTIONS_MAX))
    check_body(questions.question_body(text, options, multi=True))
    longest = replace(ASKED, id=2**53 - 1, text=text, options=options, choices=options, answer=text)
    body = questions.answer_body(longest)
    check_body(body)
    assert body.endswith(f"- {options[-1]}\n{text}")
    check_body(questions.expired_body(7, "operator", text))
    check_body(questions.closed_body(7, "atlas", text))


@given(TEXTS, TEXTS)
def test_no_answer_passes_for_the_answer_to_another_question(text: str, answer: str) -> None:
    body = questions.answer_body(replace(ASKED, text=text, options=(), answer=answer))
    check_body(body)
    first, rest = body.split("\n", 1)
    assert first == "You asked operator (question 7):"
    assert rest.endswith(f"\n\n{answer}")
    assert all(line.startswith("> ") for line in rest[: -len(answer) - 2].split("\n"))


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(10, 100))
def test_what_is_cut_fits_and_says_so(text: str, bytes_max: int) -> None:
    shown = questions.cut(text, bytes_max)
    assert len(shown.encode()) <= bytes_max < BODY_BYTES_MAX
    assert shown == text or (shown.endswith("…") and text.startswith(shown[:-1]))
