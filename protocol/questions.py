"""Questions: asked of the operator or of another agent, answered later, expired when nobody did in time."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from protocol.limits import INTEGER_MAX, OPTION_CHARS_MAX, OPTIONS_MAX, QUESTION_CHARS_MAX

QuestionId = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
QuestionText = Annotated[str, Meta(min_length=1, max_length=QUESTION_CHARS_MAX)]
Option = Annotated[str, Meta(min_length=1, max_length=OPTION_CHARS_MAX)]
Options = Annotated[tuple[Option, ...], Meta(max_length=OPTIONS_MAX)]
AnswerText = Annotated[str, Meta(max_length=QUESTION_CHARS_MAX)]


class QuestionState(StrEnum):
    """Where a question stands."""

    OPEN = "open"
    ANSWERED = "answered"
    EXPIRED = "expired"
    CLOSED = "closed"
    """Whoever asked or should answer is gone for good."""


class Question(Struct, frozen=True, forbid_unknown_fields=True):
    """One question. Without options the answer is a text; with options it is a choice, or several with `multi`."""

    id: int
    asker: str
    asked_of: str
    """`operator` or an agent."""
    text: str
    options: tuple[str, ...]
    multi: bool
    state: QuestionState
    asked_ms: int
    deadline_ms: int | None = None
    answer: str = ""
    """In the answerer's words; beside a choice it is a remark."""
    choices: tuple[str, ...] = ()
    answered_by: str | None = None
    ended_ms: int | None = None


class Broken(Struct, frozen=True):
    """A stored row that cannot be read. It hides no other row; brokerd's log has the fault too."""

    id: int
    fault: str
