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
FIRST_AFTER: Final = "SELECT min(id) AS id FROM messages WHERE id > ?"


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
    first = db.execute(FIRST_AFTER, (head(db),)).fetchone()["id"]
    after = upto if first is None else min(first - 1, upto)
    last = min(after + limit, upto)
    if after < last:
        search.add(db, after, last)
        history.add(db, after, last)
        traffic.add(db, after, last)
    db.execute(SET_HEAD, (last,))
    return last


def begin_anew_if_ahead(db: Db) -> bool:
    """Forget everything when it knows messages that are not there: the other file is an older one. Whether it was."""
    if head(db) <= last_message(db):
        return False
    search.forget_all(db)
    history.forget_all(db)
    traffic.forget_all(db)
    db.execute(SET_HEAD, (0,))
    return True
