"""Questions as they are stored: one of them, and lists. One that cannot be read is shown as broken, and hides none."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from brokerd.policy.pages import fitting
from protocol.names import OPERATOR
from protocol.problem import Problem, Refused
from protocol.questions import Broken, Question, QuestionState
from runtime.store import Db

COLUMNS: Final = "id, asker, asked_of, state, asked_ms, deadline_ms, ended_ms, message, form, reply"
READ: Final = f"SELECT {COLUMNS} FROM questions WHERE id = ?"
NEWEST: Final = f"SELECT {COLUMNS} FROM questions WHERE id < ? ORDER BY id DESC LIMIT ?"
NEWEST_OPEN: Final = (
    f"SELECT {COLUMNS} FROM questions WHERE ended_ms IS NULL AND id < ? ORDER BY id DESC LIMIT ?"
)
NEWEST_OF_AGENT: Final = (
    f"SELECT {COLUMNS} FROM questions WHERE asker = ?3 AND id < ?1 "
    f"UNION ALL SELECT {COLUMNS} FROM questions WHERE asked_of = ?3 AND id < ?1 ORDER BY id DESC LIMIT ?2"
)
NEWEST_OPEN_OF_AGENT: Final = (
    f"SELECT {COLUMNS} FROM questions WHERE ended_ms IS NULL AND (asker = ?3 OR asked_of = ?3) AND id < ?1 "
    "ORDER BY id DESC LIMIT ?2"
)
OLDEST_OPEN_TO: Final = (
    f"SELECT {COLUMNS} FROM questions WHERE ended_ms IS NULL AND asked_of = ? ORDER BY id LIMIT ?"
)
OLDEST_OPEN_NOT_TO: Final = (
    f"SELECT {COLUMNS} FROM questions WHERE ended_ms IS NULL AND asked_of <> ? ORDER BY id LIMIT ?"
)
OLDEST_OPEN_OF: Final = (
    f"SELECT {COLUMNS} FROM questions WHERE ended_ms IS NULL AND (asker = ?1 OR asked_of = ?1) "
    "ORDER BY id LIMIT ?2"
)

NEWER_THAN_ALL: Final = 2**62


class Form(Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked."""

    text: str
    options: tuple[str, ...] = ()
    multi: bool = False


class Reply(Struct, frozen=True, forbid_unknown_fields=True):
    """What was answered, by whom."""

    by: str
    answer: str
    choices: tuple[str, ...] = ()


_form_decoder = msgspec.json.Decoder(Form)
_reply_decoder = msgspec.json.Decoder(Reply)


def read(db: Db, number: int) -> Question:
    """One question. Refused: `not_found`, `failed` when its row cannot be read."""
    return readable(row_of(db, number))


def row_of(db: Db, number: int) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute(READ, (number,)).fetchone()
    if row is None:
        raise unknown(number)
    return row


def readable(row: sqlite3.Row) -> Question:
    found = decoded(row)
    if isinstance(found, Broken):
        raise Refused(Problem.FAILED, f"question {found.id} is stored but cannot be read: {found.fault}")
    return found


def unknown(number: int) -> Refused:
    return Refused(Problem.NOT_FOUND, f"there is no question {number}")


def decoded(row: sqlite3.Row) -> Question | Broken:
    """A row as a question, or what is wrong with it."""
    try:
        form = _form_decoder.decode(row["form"])
        reply = None if row["reply"] is None else _reply_decoder.decode(row["reply"])
        state = QuestionState(row["state"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        return Broken(row["id"], str(error))
    return Question(
        id=row["id"],
        asker=row["asker"],
        asked_of=row["asked_of"],
        text=form.text,
        options=form.options,
        multi=form.multi,
        state=state,
        asked_ms=row["asked_ms"],
        deadline_ms=row["deadline_ms"],
        answer="" if reply is None else reply.answer,
        choices=() if reply is None else reply.choices,
        answered_by=None if reply is None else reply.by,
        ended_ms=row["ended_ms"],
    )


class Found(Struct, frozen=True):
    """Questions in the order of a query, those of its rows that cannot be read, and where the next page begins."""

    questions: tuple[Question, ...]
    broken: tuple[Broken, ...]
    next: int | None = None


def newest(
    db: Db, before: int | None, limit: int, bytes_max: int, *, open_only: bool, agent: str | None
) -> Found:
    """Questions newest first, of everybody or of one agent; `next` is None at the end."""
    start = NEWER_THAN_ALL if before is None else before
    if agent is None:
        rows = db.execute(NEWEST_OPEN if open_only else NEWEST, (start, limit)).fetchall()
    else:
        statement = NEWEST_OPEN_OF_AGENT if open_only else NEWEST_OF_AGENT
        rows = db.execute(statement, (start, limit, agent)).fetchall()
    return _found(rows, limit, bytes_max)


def oldest_open(db: Db, limit: int, bytes_max: int, *, to_operator: bool) -> Found:
    """Open questions oldest first: those the operator is asked, or those between agents."""
    statement = OLDEST_OPEN_TO if to_operator else OLDEST_OPEN_NOT_TO
    return _found(db.execute(statement, (OPERATOR, limit)).fetchall(), limit, bytes_max)


def oldest_open_of(db: Db, agent: str, limit: int, bytes_max: int) -> Found:
    """Open questions that an agent asked or was asked, oldest first."""
    return _found(db.execute(OLDEST_OPEN_OF, (agent, limit)).fetchall(), limit, bytes_max)


def _found(rows: Sequence[sqlite3.Row], limit: int, bytes_max: int) -> Found:
    shown = list(fitting(_decoded(rows), bytes_max))
    is_end = len(shown) == len(rows) < limit
    return Found(
        questions=tuple(each for each in shown if isinstance(each, Question)),
        broken=tuple(each for each in shown if isinstance(each, Broken)),
        next=None if is_end or not shown else shown[-1].id,
    )


def _decoded(rows: Iterable[sqlite3.Row]) -> Iterable[Question | Broken]:
    return (decoded(row) for row in rows)
