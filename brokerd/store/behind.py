"""What is learnt from messages behind the sends: where their words are, whose they are, how many went by.

In events.sqlite, with the number of the last message that it knows, its head, in the same transaction. After a power
cut the end of it may be missing, or all of it when the file is gone: the head says so, and it is made again from there.
Only what is committed is taken in, so that a process killed between the two files leaves no word of a message that
never was.
"""

from typing import Final

from brokerd.store import history, search, traffic
from runtime.store import Db

HEAD: Final = "SELECT head FROM behind"
SET_HEAD: Final = "UPDATE behind SET head = ?"
LAST: Final = "SELECT seq FROM broker.sqlite_sequence WHERE name = 'messages'"
NEXT: Final = "SELECT id, length(body) AS size FROM messages WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"

CHARS_MAX: Final = 128 * 1024
"""Of bodies in one transaction, about: words take the writer's time by their number."""


def head(db: Db) -> int:
    """The last message that is taken in."""
    found: int = db.execute(HEAD).fetchone()["head"]
    return found


def last_message(db: Db) -> int:
    """The newest message that there ever was."""
    row = db.execute(LAST).fetchone()
    return row["seq"] if row else 0


def catch_up(db: Db, upto: int, limit: int) -> int:
    """Take in the next messages, at most `limit` and none after `upto`, which must be on disk; the new head."""
    after = head(db)
    last, chars = upto, 0
    taken = db.execute(NEXT, (after, upto, limit)).fetchall()
    for place, row in enumerate(taken, 1):
        chars += row["size"]
        if chars >= CHARS_MAX or place == limit:
            last = row["id"]
            break
    if taken:
        search.add(db, after, last)
        history.add(db, after, last)
        traffic.add(db, after, last)
    db.execute(SET_HEAD, (last,))
    return last


def is_ahead(db: Db) -> bool:
    """Whether it knows messages that are not there: the other file is an older one."""
    return head(db) > last_message(db)


def begin_anew(db: Db) -> None:
    """Forget everything; it is made again from the messages that are there."""
    search.forget_all(db)
    history.forget_all(db)
    traffic.forget_all(db)
    db.execute(SET_HEAD, (0,))
