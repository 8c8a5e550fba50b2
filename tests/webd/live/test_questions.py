"""Questions in memory: open ones, broken rows beside them, and the last ones that ended."""

from msgspec.structs import replace

from protocol.questions import Broken, Question, QuestionState
from webd.live.questions import ENDED_KEPT_MAX, OPEN_KEPT_MAX, Questions

NOW = 1_800_000_000_000


def question(number: int, state: QuestionState = QuestionState.OPEN, **more: object) -> Question:
    return Question(number, "iris", "operator", "which?", ("a", "b"), False, state, NOW, **more)  # type: ignore[arg-type]  # what a test varies


def ended(number: int) -> Question:
    return question(number, QuestionState.ANSWERED, answer="a", answered_by="operator", ended_ms=NOW)


def test_a_question_is_shown_until_it_ends_and_a_while_longer() -> None:
    questions = Questions()
    assert questions.changed(question(1)) == [("1", question(1))]
    assert questions.changed(ended(1)) == [("1", ended(1))]
    assert questions.rows() == {"1": ended(1)}
    told = [row for number in range(2, ENDED_KEPT_MAX + 2) for row in questions.changed(ended(number))]
    assert ("1", None) in told
    assert len(questions.rows()) == ENDED_KEPT_MAX
    assert questions.find(1) is None


def test_a_broken_row_hides_no_other_and_goes_when_it_is_heard_of() -> None:
    questions = Questions()
    questions.start_from([question(1), question(3)], [Broken(2, "options: not a list\x1b[31m")])
    assert questions.rows() == {"1": question(1), "3": question(3), "2": Broken(2, "options: not a list")}
    questions.changed(question(2))
    assert questions.rows()["2"] == question(2)


def test_a_new_beginning_keeps_what_ended_and_forgets_what_is_no_more_open() -> None:
    questions = Questions()
    for row in (ended(1), question(2), question(3)):
        questions.changed(row)
    questions.start_from([question(3)], [])
    assert questions.rows() == {"1": ended(1), "3": question(3)}


def test_the_words_of_an_agent_are_made_plain_and_still_known_as_they_were_written() -> None:
    questions = Questions()
    written = replace(question(1), text="now\x1b[1m?", options=("y\x07es", "no"))
    [(_, row)] = questions.changed(written)
    assert isinstance(row, Question)
    assert (row.text, row.options) == ("now?", ("yes", "no"))
    assert questions.find(1) == written


def test_there_is_a_bound() -> None:
    questions = Questions()
    for number in range(1, OPEN_KEPT_MAX + 1):
        assert questions.changed(question(number)) != []
    assert questions.changed(question(OPEN_KEPT_MAX + 1)) == []
    assert len(questions.rows()) == OPEN_KEPT_MAX
    assert questions.changed(replace(question(1), text="again")) != []
