"""Questions: each a row until retention takes it. A row that cannot be read is shown as broken and hides no other.

The answer, or that there will be none, reaches the asker as a message of the same transaction.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from brokerd.policy import questions as policy
from brokerd.policy.pages import fitting
from brokerd.store import keys, messages
from brokerd.store.feed import FeedLog
from brokerd.store.keys import Asked, First
from brokerd.store.messages import Draft
from protocol.brokerd import QuestionChanged
from protocol.messages import SystemEvent
from protocol.names import OPERATOR, SYSTEM
from protocol.problem import Problem, Refused
from protocol.questions import Broken, Question, QuestionState
from protocol.tools import Answer
from runtime.clock import new_request_key
from runtime.store import Db

COLUMNS: Final = "id, asker, asked_of, state, asked_ms, deadline_ms, ended_ms, message, form, reply"
INSERT: Final = (
    "INSERT INTO questions (asker, asked_of, state, asked_ms, deadline_ms, form) VALUES (?, ?, ?, ?, ?, ?) "
    "RETURNING id"
)
SET_MESSAGE: Final = "UPDATE questions SET message = ? WHERE id = ?"
END: Final = "UPDATE questions SET state = ?, ended_ms = ?, reply = ? WHERE id = ?"
READ: Final = f"SELECT {COLUMNS} FROM questions WHERE id = ?"
COUNT_OPEN: Final = "SELECT count(*) FROM questions WHERE ended_ms IS NULL AND asker = ?"
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
WITH_OPEN: Final = (
    "SELECT asker AS agent FROM questions WHERE ended_ms IS NULL "
    "UNION SELECT asked_of FROM questions WHERE ended_ms IS NULL AND asked_of <> ?"
)
NEXT_DEADLINE: Final = (
    "SELECT min(deadline_ms) FROM questions WHERE ended_ms IS NULL AND deadline_ms IS NOT NULL"
)
DUE: Final = (
    f"SELECT {COLUMNS} FROM questions WHERE ended_ms IS NULL AND deadline_ms <= ? "
    "ORDER BY deadline_ms, id LIMIT ?"
)

UNDELIVERED: Final = (
    f"SELECT {', '.join(f'q.{name}' for name in COLUMNS.split(', '))} FROM questions AS q "
    "CROSS JOIN deliveries AS d ON d.id = q.message << 7 WHERE q.ended_ms IS NULL AND d.state = 'dead' "
    "ORDER BY q.id LIMIT ?"
)
"""The message of a question has one delivery."""

NEWER_THAN_ALL: Final = 2**62
UNREADABLE: Final = "(its words cannot be read any more)"


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


_encoder = msgspec.json.Encoder()
_form_decoder = msgspec.json.Decoder(Form)
_reply_decoder = msgspec.json.Decoder(Reply)
_id_decoder = msgspec.json.Decoder(int)


class Asking(Struct, frozen=True):
    """A question that policy has let pass. `asked` and `digest` make a repeat of the request harmless."""

    asked: Asked
    digest: bytes
    to: str
    """As the asker wrote it; `asked_of` is whom that means."""
    asked_of: str
    form: Form
    ttl_s: int | None
    hops: int = 0
    held: bool = False

    @property
    def asker(self) -> str:
        return self.asked.sender

    @property
    def body(self) -> str:
        """Of the message by which an agent is asked."""
        return policy.question_body(self.form.text, self.form.options, multi=self.form.multi)


def ask(db: Db, log: FeedLog, asking: Asking) -> Question:
    """Store a question, and the message by which an agent learns of it. A repeat gets the same question.

    Refused: `limit` for one too many, `conflict` for a misused key.
    """
    first = find_asked(db, asking.asked, asking.digest)
    if first is not None:
        return first
    policy.check_room(asking.asker, db.execute(COUNT_OPEN, (asking.asker,)).fetchone()[0])
    deadline_ms = None if asking.ttl_s is None else log.at_ms + asking.ttl_s * 1000
    form = asking.form
    row = (
        asking.asker,
        asking.asked_of,
        QuestionState.OPEN.value,
        log.at_ms,
        deadline_ms,
        _encoder.encode(form),
    )
    number: int = db.execute(INSERT, row).fetchone()["id"]
    if asking.asked_of != OPERATOR:
        sent = _send(db, log, _draft(asking, number))
        db.execute(SET_MESSAGE, (sent, number))
    keys.remember(db, [(asking.asked, First(asking.digest, _encoder.encode(number)))], log.at_ms)
    question = Question(
        number,
        asking.asker,
        asking.asked_of,
        form.text,
        form.options,
        form.multi,
        QuestionState.OPEN,
        log.at_ms,
        deadline_ms,
    )
    log.append(asking.asker, QuestionChanged(question))
    return question


def find_asked(db: Db, asked: Asked, digest: bytes) -> Question | None:
    """The question that was asked with this key, as it stands now. Refused(conflict) when it was used otherwise."""
    first = keys.find(db, [asked]).get(asked)
    return None if first is None else read(db, _id_decoder.decode(keys.check_same(first, digest)))


def answer(db: Db, log: FeedLog, by: str, request: Answer, hops: int) -> Question:
    """Record an answer and send it to the asker. The same answer again changes nothing.

    Refused: `not_found`, `denied` for anybody but the one who was asked, `malformed` when it does not fit the form,
    `conflict` when the question was answered otherwise or takes no answer any more.
    """
    row = _row(db, request.question)
    question = _readable(row)
    if by not in (OPERATOR, question.asker, question.asked_of):
        raise _unknown(request.question)
    policy.check_answerer(question, by)
    choices = policy.check_answer(question, request.answer, request.choices)
    if policy.is_repeated(question, by, request.answer, choices, log.at_ms):
        return question
    reply = Reply(by, request.answer, choices)
    answered = replace(
        question,
        state=QuestionState.ANSWERED,
        answer=reply.answer,
        choices=choices,
        answered_by=by,
        ended_ms=log.at_ms,
    )
    db.execute(END, (answered.state.value, log.at_ms, _encoder.encode(reply), answered.id))
    log.append(answered.asker, QuestionChanged(answered))
    body = policy.answer_body(answered)
    notice = _notice(by, question.asker, SystemEvent.ANSWERED, question.id, body)
    _send(db, log, replace(notice, in_reply_to=row["message"], hops=hops))
    return answered


def agents_with_open(db: Db) -> list[str]:
    """Who asked or was asked something that is open."""
    return [row["agent"] for row in db.execute(WITH_OPEN, (OPERATOR,))]


def next_deadline(db: Db) -> int | None:
    """When the next open question expires, in milliseconds since the epoch."""
    deadline: int | None = db.execute(NEXT_DEADLINE).fetchone()[0]
    return deadline


def expire(db: Db, log: FeedLog, limit: int) -> list[Broken]:
    """End questions whose deadline has passed, the oldest first, and tell their askers; those that cannot be read."""
    broken: list[Broken] = []
    told: list[Draft] = []
    for row in db.execute(DUE, (log.at_ms, limit)).fetchall():
        found = _end_unanswered(db, log, row, QuestionState.EXPIRED)
        broken += [found] if isinstance(found, Broken) else []
        body = policy.expired_body(row["id"], row["asked_of"], _words(found))
        told.append(_notice(SYSTEM, row["asker"], SystemEvent.EXPIRED, row["id"], body))
    messages.send(db, log, told)
    return broken


def end_undelivered(db: Db, log: FeedLog, limit: int) -> list[Broken]:
    """End questions whose delivery was given up, the oldest first, and tell their askers; as `expire`."""
    broken: list[Broken] = []
    told: list[Draft] = []
    for row in db.execute(UNDELIVERED, (limit,)).fetchall():
        found = _end_unanswered(db, log, row, QuestionState.CLOSED)
        broken += [found] if isinstance(found, Broken) else []
        body = policy.undelivered_body(row["id"], row["asked_of"], _words(found))
        told.append(_notice(SYSTEM, row["asker"], SystemEvent.EXPIRED, row["id"], body))
    messages.send(db, log, told)
    return broken


def any_undelivered(db: Db) -> bool:
    return db.execute(UNDELIVERED, (1,)).fetchone() is not None


def close(db: Db, log: FeedLog, agent: str, limit: int) -> int:
    """End the oldest open questions that an agent who is gone for good asked or was asked; how many there were.

    Those who asked it are told.
    """
    rows = db.execute(OLDEST_OPEN_OF, (agent, limit)).fetchall()
    told: list[Draft] = []
    for row in rows:
        found = _end_unanswered(db, log, row, QuestionState.CLOSED)
        if row["asker"] != agent:
            body = policy.closed_body(row["id"], row["asked_of"], _words(found))
            told.append(_notice(SYSTEM, row["asker"], SystemEvent.EXPIRED, row["id"], body))
    messages.send(db, log, told)
    return len(rows)


def _end_unanswered(db: Db, log: FeedLog, row: sqlite3.Row, state: QuestionState) -> Question | Broken:
    """One that cannot be read ends as well: it would be due for ever. It stays in the list of what is broken."""
    found = decoded(row)
    if isinstance(found, Broken):
        db.execute(END, (state.value, log.at_ms, row["reply"], row["id"]))
        return found
    ended = replace(found, state=state, ended_ms=log.at_ms)
    db.execute(END, (state.value, log.at_ms, None, ended.id))
    log.append(ended.asker, QuestionChanged(ended))
    return ended


def _words(found: Question | Broken) -> str:
    return UNREADABLE if isinstance(found, Broken) else found.text


def _send(db: Db, log: FeedLog, draft: Draft) -> int:
    """Store a message under a key of its own; its number."""
    (sent,) = messages.send(db, log, [draft])
    if isinstance(sent, Refused):
        raise sent
    return sent.message


def _draft(asking: Asking, number: int) -> Draft:
    return Draft(
        asked=Asked(asking.asker, bytes.fromhex(new_request_key())),
        digest=b"",
        to=asking.to,
        recipients=(asking.asked_of,),
        broadcast=False,
        body=asking.body,
        in_reply_to=None,
        event=SystemEvent.QUESTION,
        about=number,
        hops=asking.hops,
        held=asking.held,
    )


def _notice(sender: str, to: str, event: SystemEvent, about: int, body: str) -> Draft:
    return Draft(
        asked=Asked(sender, bytes.fromhex(new_request_key())),
        digest=b"",
        to=to,
        recipients=(to,),
        broadcast=False,
        body=body,
        in_reply_to=None,
        event=event,
        about=about,
    )


def read(db: Db, number: int) -> Question:
    """One question. Refused: `not_found`, `failed` when its row cannot be read."""
    return _readable(_row(db, number))


def _row(db: Db, number: int) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute(READ, (number,)).fetchone()
    if row is None:
        raise _unknown(number)
    return row


def _readable(row: sqlite3.Row) -> Question:
    found = decoded(row)
    if isinstance(found, Broken):
        raise Refused(Problem.FAILED, f"question {found.id} is stored but cannot be read: {found.fault}")
    return found


def _unknown(number: int) -> Refused:
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
