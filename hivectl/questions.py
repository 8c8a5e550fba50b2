"""Questions for people: the list of them, what each may be answered with, and what became of it."""

from collections.abc import Iterator

from hivectl.tables import age, printable
from protocol.brokerd import QuestionPage
from protocol.names import OPERATOR
from protocol.questions import Question, QuestionState
from runtime.clock import now_ms


def questions(page: QuestionPage) -> str:
    """Oldest first, as they came; what cannot be read stands in its place."""
    shown = {each.id: "\n".join(_question(each)) for each in page.questions}
    shown |= {each.id: f"#{each.id}  cannot be read: {printable(each.fault)}" for each in page.broken}
    lines = [shown[number] for number in sorted(shown)]
    if page.before is not None:
        lines.insert(0, f"(older: --before {page.before})")
    return "\n".join(lines) or "no questions"


def question(row: Question) -> str:
    """One that was answered just now."""
    return f"question {row.id} of {row.asker} is {row.state}: {answer_of(row)}"


def answer_of(row: Question) -> str:
    """What was chosen and said, in one line."""
    return "; ".join(printable(part) for part in (", ".join(row.choices), row.answer) if part)


def _question(row: Question) -> Iterator[str]:
    yield f"#{row.id}  {age(row.asked_ms)}  {row.asker} → {row.asked_of}  {printable(row.text)}  [{_state(row)}]"
    for option in row.options:
        yield f"      {'☑' if option in row.choices else '☐'} {printable(option)}"
    if row.answer:
        yield f"      = {printable(row.answer)}"
    elif row.state is QuestionState.OPEN and row.asked_of == OPERATOR:
        yield f"      answer {row.id} {_how(row)}"


def _how(row: Question) -> str:
    """What to type for an answer."""
    if not row.options:
        return "TEXT"
    return "--choices OPTION …" if row.multi else "--choices OPTION"


def _state(row: Question) -> str:
    if row.state is QuestionState.OPEN and row.deadline_ms is not None:
        left_s = max(0, row.deadline_ms - now_ms()) // 1000
        return f"open, expires in {left_s} s"
    return row.state.value
