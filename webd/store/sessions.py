"""Links and sessions in SQL. Codes and tokens come in as hashes: what is stolen from here signs nobody in."""

from typing import Final

import msgspec

from runtime.store import Db
from webd.policy.sessions import LINKS_KEPT_MS, Link, link_fault

ADD_LINK: Final = "INSERT INTO links (code_hash, operator, expires_ms) VALUES (?, ?, ?)"
FIND_LINK: Final = "SELECT operator, expires_ms, used_ms FROM links WHERE code_hash = ?"
USE_LINK: Final = "UPDATE links SET used_ms = ? WHERE code_hash = ?"
OPEN_LINKS: Final = "SELECT code_hash, expires_ms FROM links WHERE used_ms IS NULL AND expires_ms > ?"
FORGET_LINKS: Final = "DELETE FROM links WHERE expires_ms < ?"
START: Final = (
    "INSERT INTO sessions (token_hash, operator, address, browser, began_ms, seen_ms) "
    "VALUES (?, ?, ?, ?, ?, ?) RETURNING id"
)
ALL: Final = "SELECT id, token_hash, operator, address, browser, began_ms, seen_ms FROM sessions ORDER BY id"
END: Final = "DELETE FROM sessions WHERE id = ?"
SEEN: Final = "UPDATE sessions SET seen_ms = ? WHERE id = ?"


class StoredSession(msgspec.Struct, frozen=True):
    """One row."""

    id: int
    token_hash: bytes
    operator: str
    address: str
    browser: str
    began_ms: int
    seen_ms: int


class LinkRefused(Exception):
    """A login link that signs nobody in; the text says why."""


def add_link(db: Db, code_hash: bytes, operator: str, now_ms: int, expires_ms: int) -> None:
    db.execute(FORGET_LINKS, (now_ms - LINKS_KEPT_MS,))
    db.execute(ADD_LINK, (code_hash, operator, expires_ms))


def open_links(db: Db, now_ms: int) -> dict[bytes, int]:
    """When each link that still works ends, by its code's hash."""
    return {row["code_hash"]: row["expires_ms"] for row in db.execute(OPEN_LINKS, (now_ms,))}


def use_link(
    db: Db, code_hash: bytes, token_hash: bytes, address: str, browser: str, now_ms: int
) -> StoredSession:
    """Use a link up and start its session, in one transaction. Raises LinkRefused."""
    row = db.execute(FIND_LINK, (code_hash,)).fetchone()
    link = None if row is None else Link(**dict(row))
    fault = link_fault(link, now_ms)
    if link is None or fault is not None:
        raise LinkRefused(fault)
    db.execute(USE_LINK, (now_ms, code_hash))
    values = (token_hash, link.operator, address, browser, now_ms, now_ms)
    (number,) = db.execute(START, values).fetchone()
    return StoredSession(number, *values)


def all_sessions(db: Db) -> list[StoredSession]:
    return [msgspec.convert(dict(row), StoredSession) for row in db.execute(ALL)]


def end(db: Db, sessions: list[int]) -> None:
    db.executemany(END, [(number,) for number in sessions])


def write_seen(db: Db, seen: list[tuple[int, int]]) -> None:
    """Note when sessions were last used: (seen_ms, id)."""
    db.executemany(SEEN, seen)
