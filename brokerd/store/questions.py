"""Questions: each a row until retention takes it (brokerd.store.question_rows), asked, answered or ended here.

The answer, or that there will be none, reaches the asker as a message of the same transaction.
"""

import sqlite3
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from brokerd.policy import questions as policy
from brokerd.store import keys, messages
from brokerd.store.feed import FeedLog
from brokerd.store.keys import Asked, First
from brokerd.store.messages import Draft
from brokerd.store.question_rows import (
    COLUMNS,
    OLDEST_OPEN_OF,
    Form,
    Reply,
    decoded,
    read,
    readable,
    row_of,
    unknown,
)
from protocol.brokerd import QuestionChanged
from protocol.messages import SystemEvent
from protocol.names import OPERATOR, SYSTEM
from protocol.problem import Refused
from protocol.questions import Broken, Question, QuestionState
from protocol.tools import Answer
from runtime.clock import new_request_key
from runtime.store import Db

INSERT: Final = (
    "INSERT INTO questions (asker, asked_of, state, asked_ms, deadline_ms, form) VALUES (?, ?, ?, ?, ?, ?) "
    "RETURNING id"
)
SET_MESSAGE: Final = "UPDATE questions SET message = ? WHERE id = ?"
END: Final = "UPDATE questions SET state = ?, ended_ms = ?, reply = ? WHERE id = ?"
COUNT_OPEN: Final = "SELECT count(*) FROM questions WHERE ended_ms IS NULL AND asker = ?"
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

UNREADABLE: Final = "(its words cannot be read any more)"


_encoder = msgspec.json.Encoder()
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
    row = row_of(db, request.question)
    question = readable(row)
    if by not in (OPERATOR, question.asker, question.asked_of):
        raise unknown(request.question)
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
