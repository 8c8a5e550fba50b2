"""Messages: immutable text from one sender. Storing one stores its deliveries, its key and its feed entry with it."""

import sqlite3
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from brokerd.policy.guards import may_be_held
from brokerd.store import deliveries, keys, parked, rows
from brokerd.store.feed import FeedLog
from brokerd.store.keys import Asked, First
from protocol.brokerd import MessageSent
from protocol.messages import DeliveryState, Message, Receipt, SystemEvent
from protocol.names import OPERATOR
from protocol.problem import Refused
from protocol.reminders import Reminder
from protocol.tools import Sent
from runtime.store import Db, quick

COLUMNS: Final = (
    "id, coalesce(thread, id) AS thread, in_reply_to, sender, addressed_to, broadcast, body, sent_ms, "
    "event, about, hops"
)
LAST_ID: Final = "SELECT seq FROM broker.sqlite_sequence WHERE name = 'messages'"
INSERT: Final = (
    "INSERT OR FAIL INTO messages (id, thread, in_reply_to, sender, addressed_to, broadcast, body, sent_ms, "
    "event, about, hops) VALUES"
)
READ: Final = f"SELECT {COLUMNS} FROM messages WHERE id = ?"
SENDER_OF: Final = (
    "SELECT coalesce(m.thread, m.id) AS thread, m.sender, "
    "EXISTS (SELECT 1 FROM parked AS p WHERE p.thread = coalesce(m.thread, m.id)) AS is_parked "
    "FROM messages AS m WHERE m.id = ?"
)
ANSWERS: Final = "SELECT id FROM messages WHERE thread = ? AND sender = ? ORDER BY id DESC LIMIT ?"
BEFORE: Final = f"SELECT {COLUMNS} FROM messages WHERE id < ? ORDER BY id DESC LIMIT ?"
BEFORE_IN_THREAD: Final = (
    f"SELECT {COLUMNS} FROM messages WHERE thread = ?2 AND id < ?1 "
    f"UNION ALL SELECT {COLUMNS} FROM messages WHERE id = ?2 AND thread IS NULL AND id < ?1 "
    "ORDER BY id DESC LIMIT ?3"
)
SENT_AT: Final = "SELECT sent_ms FROM messages WHERE id >= ? ORDER BY id LIMIT 1"

SEARCHED_ANSWERS_MAX: Final = 200
"""Messages of a thread in which one that allows an answer is looked for, newest first."""
SCANNED_ROWS_MAX: Final = 20_000
"""Messages looked at for one page of one agent's; a page may come out short, its `before` leads on."""
NEWER_THAN_ALL: Final = 2**62

_encoder = msgspec.json.Encoder()
_sent_decoder = msgspec.json.Decoder(Sent)


class Draft(Struct, frozen=True):
    """A message that policy has let pass. `asked` and `digest` make a repeat of the request harmless."""

    asked: Asked
    digest: bytes
    to: str
    recipients: tuple[str, ...]
    broadcast: bool
    body: str
    in_reply_to: int | None
    event: SystemEvent | None = None
    about: int | None = None
    hops: int = 0
    held: bool = False
    """Whether its deliveries to agents wait for the operator's release."""


@quick
def send(db: Db, log: FeedLog, drafts: Sequence[Draft]) -> list[Sent | Refused]:
    """Store messages in order, each answered for itself: a repeat by its first answer, a misused key by a refusal."""
    first = keys.find(db, [draft.asked for draft in drafts])
    answers: list[Sent | Refused] = []
    stored: list[Message] = []
    answered: list[tuple[Asked, First]] = []
    next_id = _last_id(db) + 1
    for draft in drafts:
        earlier = first.get(draft.asked)
        if earlier is not None:
            answers.append(_first_answer(earlier, draft.digest))
            continue
        place = _place(db, draft)
        message = _message(draft, place, next_id + len(stored), log.at_ms)
        stored.append(message)
        seq = log.append(message.sender, MessageSent(message))
        is_held = place.is_held and any(each.state is DeliveryState.HELD for each in message.deliveries)
        if is_held:
            parked.hold(db, log, message)
        sent = Sent(message.id, message.thread, draft.recipients, seq, is_held)
        answers.append(sent)
        first[draft.asked] = earlier = First(draft.digest, _encoder.encode(sent))
        answered.append((draft.asked, earlier))
    _insert(db, stored)
    keys.remember(db, answered, log.at_ms)
    return answers


def store(db: Db, log: FeedLog, drafts: Sequence[Draft], fired: Sequence[Reminder] = ()) -> list[Message]:
    """Store messages that begin threads and have no key: their cause, in the same transaction, makes each come once.

    `fired` are the reminders that they are of, if so, as they stand afterwards: each is told with its message.
    """
    first = _last_id(db) + 1
    stored = [
        _message(draft, _Place(None, draft.held), first + count, log.at_ms)
        for count, draft in enumerate(drafts)
    ]
    for message, reminder in zip(stored, chain(fired, repeat(None)), strict=False):
        log.append(message.sender, MessageSent(message, reminder))
    _insert(db, stored)
    return stored


class _Place(Struct, frozen=True, gc=False):
    """Where a draft belongs: its thread, None for one of its own, and whether agents get it only once released."""

    thread: int | None
    is_held: bool


def _place(db: Db, draft: Draft) -> _Place:
    if draft.in_reply_to is None:
        return _Place(None, draft.held)
    sender = draft.asked.sender
    row = _thread_of(db, draft.in_reply_to, sender)
    if row is None:
        return _Place(None, draft.held)
    return _Place(row["thread"], draft.held or (bool(row["is_parked"]) and may_be_held(sender, draft.event)))


def _message(draft: Draft, place: _Place, number: int, at_ms: int) -> Message:
    thread = place.thread
    return Message(
        id=number,
        thread=thread or number,
        in_reply_to=draft.in_reply_to if thread else None,
        sender=draft.asked.sender,
        to=draft.to,
        broadcast=draft.broadcast,
        body=draft.body,
        sent_ms=at_ms,
        deliveries=deliveries.new(
            number,
            draft.recipients,
            at_ms,
            held=place.is_held,
            place=deliveries.REMINDER_PLACE if draft.event is SystemEvent.REMINDER else 0,
        ),
        event=draft.event,
        about=draft.about,
        hops=draft.hops,
    )


def _insert(db: Db, stored: Sequence[Message]) -> None:
    new: list[tuple[Any, ...]] = []
    for m in stored:
        thread = None if m.thread == m.id else m.thread
        event = None if m.event is None else m.event.value
        text = (m.sender, m.to, int(m.broadcast), m.body, m.sent_ms)
        new.append((m.id, thread, m.in_reply_to, *text, event, m.about, m.hops))
    rows.insert(db, INSERT, new)
    deliveries.insert(db, stored)


def _last_id(db: Db) -> int:
    row = db.execute(LAST_ID).fetchone()
    return row["seq"] if row else 0


def _first_answer(first: First, digest: bytes) -> Sent | Refused:
    try:
        return _sent_decoder.decode(keys.check_same(first, digest))
    except Refused as refused:
        return refused


def find_sent(db: Db, asked: Asked, digest: bytes) -> Sent | None:
    """The first answer to a send, if this key was used. Refused(conflict) when it was for another message."""
    first = keys.find(db, [asked]).get(asked)
    return None if first is None else _sent_decoder.decode(keys.check_same(first, digest))


def thread_for(db: Db, in_reply_to: int, sender: str) -> int | None:
    """The thread of a message that the sender wrote or got; None for one that is unknown or between others."""
    row = _thread_of(db, in_reply_to, sender)
    return None if row is None else row["thread"]


def _thread_of(db: Db, in_reply_to: int, sender: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(SENDER_OF, (in_reply_to,)).fetchone()
    if row is None:
        return None
    mine = sender in (OPERATOR, row["sender"]) or deliveries.is_recipient(db, in_reply_to, sender)
    return row if mine else None


def wrote_to(db: Db, in_reply_to: int, writer: str, reader: str) -> bool:
    """Whether `writer` wrote to `reader` in the thread of a message that is the reader's."""
    thread = thread_for(db, in_reply_to, reader)
    if thread is None:
        return False
    candidates = [row["id"] for row in db.execute(ANSWERS, (thread, writer, SEARCHED_ANSWERS_MAX))]
    first = db.execute(SENDER_OF, (thread,)).fetchone()
    if first is not None and first["sender"] == writer:
        candidates.append(thread)
    return any(deliveries.is_recipient(db, each, reader) for each in candidates)


def message_from(row: sqlite3.Row, receipts: tuple[Receipt, ...] = ()) -> Message:
    return Message(
        id=row["id"],
        thread=row["thread"],
        in_reply_to=row["in_reply_to"],
        sender=row["sender"],
        to=row["addressed_to"],
        broadcast=bool(row["broadcast"]),
        body=row["body"],
        sent_ms=row["sent_ms"],
        deliveries=receipts,
        event=None if row["event"] is None else SystemEvent(row["event"]),
        about=row["about"],
        hops=row["hops"],
    )


def read(db: Db, message: int) -> Message:
    """One message without its deliveries, as its recipients get it."""
    return message_from(db.execute(READ, (message,)).fetchone())


def read_whole(db: Db, message: int) -> Message:
    """One message with its deliveries, as its sender and the operator see it."""
    return replace(read(db, message), deliveries=deliveries.of_message(db, message))


def newest(
    db: Db, before: int | None, limit: int, agent: str | None, thread: int | None
) -> tuple[list[Message], int | None]:
    """Messages with their deliveries, newest first, and where older ones begin (None at the end)."""
    start = NEWER_THAN_ALL if before is None else before
    scan = SCANNED_ROWS_MAX if agent is not None else limit
    if thread is None:
        cursor = db.execute(BEFORE, (start, scan))
    else:
        cursor = db.execute(BEFORE_IN_THREAD, (start, thread, scan))
    found: list[Message] = []
    scanned, last = 0, None
    for row in cursor:
        scanned, last = scanned + 1, row["id"]
        if agent is None or row["sender"] == agent or deliveries.is_recipient(db, row["id"], agent):
            found.append(message_from(row, deliveries.of_message(db, row["id"])))
            if len(found) == limit:
                break
    is_end = scanned < scan and len(found) < limit
    return found, None if is_end else last


def count_since(db: Db, at_ms: int) -> int:
    """Messages sent from a time on: numbers grow with time, so its place is found by halving."""
    last = _last_id(db)
    low, high = 1, last + 1
    while low < high:
        middle = (low + high) // 2
        row = db.execute(SENT_AT, (middle,)).fetchone()
        if row is not None and row["sent_ms"] < at_ms:
            low = middle + 1
        else:
            high = middle
    return last + 1 - low
