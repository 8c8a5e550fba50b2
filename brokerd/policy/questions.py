"""What may be asked and answered, and the words in which questions and answers travel as messages. Pure."""

import unicodedata
from collections.abc import Sequence
from typing import Final

from brokerd.policy.bodies import bytes_of
from protocol.limits import BODY_BYTES_MAX, QUESTIONS_OPEN_MAX
from protocol.names import EVERYONE
from protocol.problem import Problem, Refused
from protocol.questions import Question, QuestionState

NO_LINE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories of what an option, being one line, may not hold."""
CUT: Final = "…"


def check_question(text: str, options: Sequence[str], *, multi: bool) -> None:
    """Refuse (`malformed`) what nobody could answer: blank, a NUL, options that cannot be told apart."""
    _check_text("the question", text)
    if not text.strip():
        raise Refused(Problem.MALFORMED, "the question is empty")
    if multi and not options:
        raise Refused(
            Problem.MALFORMED, "multi needs options to choose from; without any, the answer is a text"
        )
    for place, option in enumerate(options, 1):
        if not option.strip():
            raise Refused(Problem.MALFORMED, f"option {place} is empty")
        if any(unicodedata.category(char) in NO_LINE for char in option):
            raise Refused(Problem.MALFORMED, f"option {place} is not one line of text")
    if len(set(options)) < len(options):
        twice = next(option for option in options if options.count(option) > 1)
        raise Refused(Problem.MALFORMED, f"the option {twice!r} is there twice")


def check_addressee(to: str) -> None:
    """Refuse (`malformed`) a question to everyone: nobody in particular would owe the answer."""
    if to == EVERYONE:
        raise Refused(
            Problem.MALFORMED, "a question is asked of one agent or of the operator, not of everyone"
        )


def check_room(asker: str, questions_open: int) -> None:
    """Refuse (`limit`) one question too many."""
    if questions_open >= QUESTIONS_OPEN_MAX:
        raise Refused(
            Problem.LIMIT,
            f"{asker} has {QUESTIONS_OPEN_MAX} questions open: wait for an answer before you ask another",
        )


def check_answerer(question: Question, by: str) -> None:
    """Refuse (`denied`) an answer by anybody but the one who was asked."""
    if by != question.asked_of:
        raise Refused(Problem.DENIED, f"question {question.id} was asked of {question.asked_of}, not of {by}")


def check_answer(question: Question, answer: str, choices: Sequence[str]) -> tuple[str, ...]:
    """The choices in the order of the options. Refused (`malformed`): what does not fit the question's form."""
    _check_text("the answer", answer)
    if not question.options:
        if choices:
            raise Refused(Problem.MALFORMED, f"question {question.id} has no options: answer it in words")
        if not answer.strip():
            raise Refused(Problem.MALFORMED, "the answer is empty")
        return ()
    unknown = next((choice for choice in choices if choice not in question.options), None)
    if unknown is not None:
        raise Refused(
            Problem.MALFORMED, f"{unknown!r} is no option of question {question.id}; {_form(question)}"
        )
    if len(set(choices)) < len(choices):
        raise Refused(Problem.MALFORMED, "an option is chosen twice")
    if not choices or (len(choices) > 1 and not question.multi):
        raise Refused(
            Problem.MALFORMED,
            f"{len(choices)} of the options are chosen; question {question.id}: {_form(question)}",
        )
    return tuple(option for option in question.options if option in choices)


def is_repeated(question: Question, by: str, answer: str, choices: tuple[str, ...], at_ms: int) -> bool:
    """Whether this answer was given before. Refused (`conflict`) when the question takes none any more."""
    match question.state:
        case QuestionState.ANSWERED:
            if (question.answered_by, question.answer, question.choices) == (by, answer, choices):
                return True
            raise Refused(Problem.CONFLICT, f"question {question.id} was answered already")
        case QuestionState.OPEN:
            if question.deadline_ms is None or at_ms < question.deadline_ms:
                return False
            raise Refused(Problem.CONFLICT, f"the time to answer question {question.id} is over")
        case QuestionState.EXPIRED:
            raise Refused(Problem.CONFLICT, f"the time to answer question {question.id} is over")
        case QuestionState.CLOSED:
            raise Refused(Problem.CONFLICT, f"question {question.id} is closed: nobody waits for the answer")


def question_body(text: str, options: Sequence[str], *, multi: bool) -> str:
    """A question as the message to the agent that is asked."""
    if not options:
        return text
    how = "Choose one or more of these:" if multi else "Choose one of these:"
    return "\n".join([text, "", how, *_listed(options)])


def answer_body(question: Question) -> str:
    """An answer as the message to the asker: the question first, so that no answer can pretend to another one."""
    words = [*_listed(question.choices), *([question.answer] if question.answer else [])]
    return _quoting(
        f"You asked {question.asked_of} (question {question.id}):", question.text, "\n".join(words)
    )


def expired_body(number: int, asked_of: str, text: str) -> str:
    """What the hive tells an asker whose deadline has passed."""
    return _quoting(f"expired: {asked_of} did not answer question {number} in time:", text, "")


def closed_body(number: int, asked_of: str, text: str) -> str:
    """What the hive tells an asker whose question nobody can answer any more."""
    return _quoting(
        f"expired: {asked_of} was removed and cannot answer question {number} any more:", text, ""
    )


def undelivered_body(number: int, asked_of: str, text: str) -> str:
    """What the hive tells an asker whose question was given up before it was answered."""
    return _quoting(
        f"expired: question {number} was given up before {asked_of} answered it; ask again, or somebody else:",
        text,
        "",
    )


def _check_text(what: str, text: str) -> None:
    if "\0" in text:
        raise Refused(Problem.MALFORMED, f"{what} has a NUL character")


def _form(question: Question) -> str:
    how = "choose one or more of" if question.multi else "choose exactly one of"
    return f"{how} {', '.join(repr(option) for option in question.options)}"


def _listed(options: Sequence[str]) -> list[str]:
    return [f"- {option}" for option in options]


def _quoting(head: str, text: str, words: str) -> str:
    """Head, quoted text and words, the quote cut where it would make the message too long."""
    tail = f"\n\n{words}" if words else ""
    quote = "\n".join(f"> {line}" for line in text.split("\n"))
    return f"{head}\n{cut(quote, BODY_BYTES_MAX - bytes_of(head) - bytes_of(tail) - 1)}{tail}"


def cut(text: str, bytes_max: int) -> str:
    """The beginning of a text that is longer than `bytes_max` bytes of UTF-8, and a sign that it goes on."""
    if bytes_of(text) <= bytes_max:
        return text
    room = max(0, bytes_max - bytes_of(CUT))
    return text.encode()[:room].decode(errors="ignore") + CUT
