"""The feed: one numbered entry for everything that happened, for watchers who come back later.

An entry is written in the transaction of its cause. `feed_state.head`, in broker.sqlite, is the last one whose cause
is there, so that at the next start what was told too much is taken back, and a feed that lost its end in a power cut
is noticed and gets a new epoch.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from brokerd.store import rows
from protocol.brokerd import AnyFeedBody, DeliveryChanged, TurnChanged
from protocol.limits import FEED_BACKLOG_ROWS_MAX, INTEGER_MAX
from protocol.messages import Receipt
from protocol.problem import Problem, Refused
from runtime.clock import new_key
from runtime.store import Db

LAST_SEQ: Final = "SELECT seq FROM main.sqlite_sequence WHERE name = 'feed'"
SET_LAST_SEQ: Final = "UPDATE main.sqlite_sequence SET seq = ? WHERE name = 'feed'"
INSERT: Final = "INSERT OR FAIL INTO feed (seq, at_ms, agent, durable, body) VALUES"
SET_HEAD: Final = "UPDATE feed_state SET head = ?"
READ_STATE: Final = "SELECT epoch, head, boot FROM feed_state"
WRITE_STATE: Final = (
    "INSERT INTO feed_state (one, epoch, head, boot) VALUES (1, ?, ?, ?) "
    "ON CONFLICT (one) DO UPDATE SET epoch = excluded.epoch, head = excluded.head, boot = excluded.boot"
)
FIRST_WITHOUT_CAUSE: Final = "SELECT min(seq) AS seq FROM feed WHERE seq > ? AND durable"
RELAXED_FROM: Final = "SELECT at_ms, agent, body FROM feed WHERE seq >= ? AND NOT durable ORDER BY seq"
FORGET_FROM: Final = "DELETE FROM feed WHERE seq >= ?"
FORGET_ALL: Final = "DELETE FROM feed"
FORGET_BEFORE: Final = (
    "DELETE FROM feed WHERE seq IN (SELECT seq FROM feed WHERE seq < ? ORDER BY seq LIMIT ?)"
)
FORGET_ONE: Final = "DELETE FROM feed WHERE seq = ?"
OLDEST: Final = "SELECT min(seq) FROM feed"
AFTER: Final = "SELECT seq, at_ms, body FROM feed WHERE seq > ? AND seq <= ? ORDER BY seq"

PAGE_ROWS_MAX: Final = 500
PAGE_BYTES_MAX: Final = 1024 * 1024

_encoder = msgspec.json.Encoder()
_body_decoder: msgspec.json.Decoder[AnyFeedBody] = msgspec.json.Decoder(AnyFeedBody)


class Entry(Struct, frozen=True, gc=False):
    """One entry: what happened, and the same encoded once for everybody who watches."""

    seq: int
    at_ms: int
    agent: str
    body: AnyFeedBody
    encoded: bytes
    opened: int = 0
    """How many deliveries more are open: 1 when one waits again, though it was settled, -1 for each that is settled."""
    size: int = 0
    """Bytes of their messages' bodies, less than none for those that are settled."""

    @property
    def deliveries(self) -> tuple[Receipt, ...]:
        """Those that changed, all of one recipient."""
        match self.body:
            case DeliveryChanged(receipt):
                return (receipt,)
            case TurnChanged(_, receipts):
                return receipts
            case _:
                return ()


class FeedGroup:
    """What all jobs of one transaction add to the feed: numbered on, and written once at its end."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._last: int | None = None
        self._last_durable: int | None = None

    def begin(self) -> None:
        self._rows = []
        self._last = self._last_durable = None

    def last(self, db: Db) -> int:
        """The number of the newest entry, written already or not."""
        if self._last is None:
            self._last = last_seq(db)
        return self._last

    def add(self, entries: Sequence[Entry], *, durable: bool) -> None:
        """A job has done its work."""
        flag = int(durable)
        self._rows += [(each.seq, each.at_ms, each.agent, flag, each.encoded) for each in entries]
        self._last = entries[-1].seq
        if durable:
            self._last_durable = self._last

    def write(self, db: Db) -> None:
        rows.insert(db, INSERT, self._rows)
        if self._last_durable is not None:
            db.execute(SET_HEAD, (self._last_durable,))


class FeedLog:
    """What one job adds to the feed. Entries are numbered as they come and written by `flush`, or with their group."""

    def __init__(self, db: Db, at_ms: int, group: FeedGroup | None = None) -> None:
        self.at_ms = at_ms
        self.entries: list[Entry] = []
        self._db = db
        self._group = FeedGroup() if group is None else group
        self._is_alone = group is None
        self._last = 0

    def last(self) -> int:
        """The number of the newest entry of the feed, written already or not."""
        return self.entries[-1].seq if self.entries else self._group.last(self._db)

    def append(self, agent: str, body: AnyFeedBody, opened: int = 0, size: int = 0) -> int:
        """Add one entry; its number."""
        if not self.entries:
            self._last = self._group.last(self._db)
        self._last += 1
        self.entries.append(Entry(self._last, self.at_ms, agent, body, _encoder.encode(body), opened, size))
        return self._last

    def flush(self, *, durable: bool) -> None:
        """Write what was added. `durable` when the job also changed broker.sqlite."""
        if self.entries:
            self._group.add(self.entries, durable=durable)
        if self._is_alone:
            self._group.write(self._db)
            self._group.begin()


class FeedPlace(Struct, frozen=True):
    """A feed and where it ends."""

    epoch: str
    head: int


def last_seq(db: Db) -> int:
    row = db.execute(LAST_SEQ).fetchone()
    return row["seq"] if row else 0


def open_feed(db: Db, boot: str) -> FeedPlace:
    """Take up the feed where it ended. A new epoch begins when entries that somebody saw may be missing."""
    state = db.execute(READ_STATE).fetchone()
    if state is not None:
        _take_back(db, state["head"])
    last = last_seq(db)
    if state is not None and state["boot"] == boot and last >= state["head"]:
        return FeedPlace(state["epoch"], last)
    head = max(last, state["head"] if state else 0)
    db.execute(FORGET_ALL)
    if head > last:  # numbers are never given twice
        rows.insert(db, INSERT, [(head, 0, "", 0, b"null")])
        db.execute(FORGET_ONE, (head,))
    epoch = new_key()
    db.execute(WRITE_STATE, (epoch, head, boot))
    return FeedPlace(epoch, head)


def _take_back(db: Db, head: int) -> None:
    """Entries whose cause was not committed any more, because the process was killed between the two files.

    They are of the last commit, so nobody saw them nor what followed; entries among those whose cause is in
    events.sqlite itself move up.
    """
    first = db.execute(FIRST_WITHOUT_CAUSE, (head,)).fetchone()["seq"]
    if first is None:
        return
    kept = db.execute(RELAXED_FROM, (first,)).fetchall()
    db.execute(FORGET_FROM, (first,))
    moved = [(first + place, row["at_ms"], row["agent"], 0, row["body"]) for place, row in enumerate(kept)]
    rows.insert(db, INSERT, moved)
    db.execute(SET_LAST_SEQ, (first + len(kept) - 1,))


def durable_head(db: Db) -> FeedPlace:
    """The place in the feed that the rest of broker.sqlite, in the same transaction, belongs to."""
    state = db.execute(READ_STATE).fetchone()
    return FeedPlace(state["epoch"], state["head"])


def check_place(db: Db, epoch: str, since: int) -> None:
    """Refuse (`not_found`) a place from which this feed cannot be followed without a gap."""
    state, head = durable_head(db), last_seq(db)
    oldest = db.execute(OLDEST).fetchone()[0]
    if epoch != state.epoch:
        fault = "this feed began anew since then"
    elif since > head:
        fault = f"the feed ends at {head}"
    elif head - since > FEED_BACKLOG_ROWS_MAX or since < (head if oldest is None else oldest - 1):
        fault = f"{since} is too far back"
    else:
        return
    raise Refused(Problem.NOT_FOUND, f"{fault}: take a snapshot and watch from there")


class StoredEntry(Struct, frozen=True, gc=False):
    """An entry read back. `fault` says why its body cannot be read."""

    seq: int
    at_ms: int
    encoded: bytes
    fault: str = ""


def read_after(db: Db, since: int, upto: int = INTEGER_MAX) -> list[StoredEntry]:
    """The next entries, none after `upto`, at most PAGE_ROWS_MAX and about PAGE_BYTES_MAX; empty at the end."""
    found: list[StoredEntry] = []
    size = 0
    for row in db.execute(AFTER, (since, upto)):
        found.append(StoredEntry(row["seq"], row["at_ms"], row["body"], _fault(row["body"])))
        size += len(row["body"])
        if len(found) == PAGE_ROWS_MAX or size >= PAGE_BYTES_MAX:
            break
    return found


def _fault(body: bytes) -> str:
    try:
        _body_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)
    return ""


def forget_before(db: Db, seq: int, limit: int) -> int:
    """Remove the oldest entries, at most `limit`; how many there were. Numbers go on from where they are."""
    return db.execute(FORGET_BEFORE, (seq, limit)).rowcount
