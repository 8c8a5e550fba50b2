"""Questions as the dashboard keeps them: every open one, broken rows as broken, and the last ones that ended. Pure."""

from collections.abc import Iterable
from typing import Final

from protocol.questions import Broken, Question, QuestionState
from webd.live.rows import broken_row, question_row

OPEN_KEPT_MAX: Final = 500
ENDED_KEPT_MAX: Final = 20

Row = Question | Broken
Told = tuple[str, Row | None]
"""What to tell of one row: its key, and None when it is shown no more."""


class Questions:
    """Rows by question id."""

    def __init__(self) -> None:
        self._open: dict[int, Question] = {}
        self._broken: dict[int, Broken] = {}
        self._ended: dict[int, Question] = {}

    def start_from(self, questions: Iterable[Question], broken: Iterable[Broken]) -> None:
        """The open ones as they are now; those that had ended before stay known."""
        self._open = {question.id: question for question in questions}
        self._broken = {row.id: broken_row(row) for row in broken}
        for number in self._open:
            self._ended.pop(number, None)

    def changed(self, question: Question) -> list[Told]:
        """One was asked, or has ended."""
        number = question.id
        self._broken.pop(number, None)
        known = self._open.pop(number, None) or self._ended.pop(number, None)
        told: list[Told] = []
        if question.state is QuestionState.OPEN:
            if known is None and len(self._open) >= OPEN_KEPT_MAX:
                return []
            self._open[number] = question
        else:
            self._ended[number] = question
            if len(self._ended) > ENDED_KEPT_MAX:
                oldest = next(iter(self._ended))
                del self._ended[oldest]
                told.append((str(oldest), None))
        return [*told, (str(number), question_row(question))]

    def find(self, number: int) -> Question | None:
        """One as its asker wrote it."""
        return self._open.get(number) or self._ended.get(number)

    def rows(self) -> dict[str, Row]:
        """What is shown, by key."""
        known = (*self._ended.values(), *self._open.values())
        rows: dict[str, Row] = {str(question.id): question_row(question) for question in known}
        return rows | {str(number): row for number, row in self._broken.items()}
