"""Who is signed in: one-time links become sessions, sessions are found by their cookie, and end.

All of it is in memory, because every request asks; what must outlive webd is also on disk, as hashes.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from protocol.problem import Problem, Refused
from protocol.webd import WebSession
from runtime.clock import new_secret
from runtime.log import Log
from runtime.stopping import Stopping
from runtime.store import Store
from webd.policy import rates
from webd.policy.sessions import LINK_MS, SEEN_EVERY_MS, ends_ms, is_over
from webd.policy.text import plain
from webd.store import sessions as rows
from webd.store.sessions import StoredSession

STREAMS_PER_SESSION_MAX: Final = 16
STREAMS_MAX: Final = 256
SESSIONS_MAX: Final = 100
BROWSER_CHARS_MAX: Final = 200
SWEEP_S: Final = 30.0

Clock = Callable[[], int]


@dataclass(eq=False)
class Session:
    """One signed-in browser while webd runs."""

    id: int
    operator: str
    address: str
    browser: str
    began_ms: int
    seen_ms: int
    token_hash: bytes = field(repr=False)
    allowance: rates.Bucket = field(repr=False)
    ending: Stopping = field(default_factory=Stopping, repr=False)
    streams: int = 0
    written_ms: int = 0

    def public(self) -> WebSession:
        return WebSession(
            id=self.id,
            operator=self.operator,
            address=self.address,
            browser=self.browser,
            began_ms=self.began_ms,
            seen_ms=self.seen_ms,
            ends_ms=ends_ms(self.began_ms, self.seen_ms),
        )


class Sessions:
    """Every session of this hive. `now_ms` is the clock."""

    def __init__(self, store: Store, now_ms: Clock, log: Log) -> None:
        self._store = store
        self._now_ms = now_ms
        self._log = log
        self._by_hash: dict[bytes, Session] = {}
        self._links: dict[bytes, int] = {}
        """When each unused link ends, by its code's hash."""

    async def load(self) -> None:
        """Take up the sessions of an earlier run."""
        for row in await self._store.read(rows.all_sessions):
            self._take_up(row)
        self._links = await self._store.read(rows.open_links, self._now_ms())
        await self._end_those_over()

    async def mint_link(self, operator: str) -> tuple[str, int]:
        """A code that signs one browser in, and when it stops doing so."""
        code, now_ms = new_secret(), self._now_ms()
        expires_ms = now_ms + LINK_MS
        await self._store.write(rows.add_link, _hashed(code), operator, now_ms, expires_ms)
        self._links = {code_hash: ends for code_hash, ends in self._links.items() if ends > now_ms}
        self._links[_hashed(code)] = expires_ms
        return code, expires_ms

    def is_open(self, code: str) -> bool:
        """Whether a code would sign somebody in now."""
        return self._now_ms() < self._links.get(_hashed(code), 0)

    async def sign_in(self, code: str, address: str, browser: str) -> tuple[str, Session]:
        """Use a code up: the new session and the token its cookie carries. Raises LinkRefused."""
        if len(self._by_hash) >= SESSIONS_MAX:
            raise Refused(Problem.LIMIT, f"{SESSIONS_MAX} browsers are signed in already; end some sessions")
        token = new_secret()
        browser = plain(browser, BROWSER_CHARS_MAX).replace("\n", " ")
        row = await self._store.write(
            rows.use_link, _hashed(code), _hashed(token), address, browser, self._now_ms()
        )
        self._links.pop(_hashed(code), None)
        return token, self._take_up(row)

    def find(self, token: str | None) -> Session | None:
        """The session of a cookie, which is used by this; None when there is none or it is over."""
        session = None if token is None else self._by_hash.get(_hashed(token))
        now_ms = self._now_ms()
        if session is None or is_over(session.began_ms, session.seen_ms, now_ms):
            return None
        session.seen_ms = now_ms
        return session

    def is_live(self, session: Session) -> bool:
        """Whether a session found earlier still stands; does not count as a use."""
        return not session.ending and not is_over(session.began_ms, session.seen_ms, self._now_ms())

    async def end(self, session: Session) -> None:
        """Sign a browser out: nothing finds its session any more, and its streams end."""
        self._let_go(session)
        await self._store.write(rows.end, [session.id])

    async def revoke(self, number: int) -> Session:
        """End a session by its id. Raises Refused(not_found)."""
        for session in self._by_hash.values():
            if session.id == number:
                await self.end(session)
                return session
        raise Refused(Problem.NOT_FOUND, f"no session {number}")

    def newest_first(self) -> tuple[WebSession, ...]:
        return tuple(
            session.public()
            for session in sorted(self._by_hash.values(), key=lambda session: -session.id)
            if self.is_live(session)
        )

    def check_place(self, session: Session) -> None:
        """Whether one more live stream may start. Raises Refused(limit)."""
        if session.streams >= STREAMS_PER_SESSION_MAX:
            raise Refused(Problem.LIMIT, f"at most {STREAMS_PER_SESSION_MAX} live streams")
        if sum(other.streams for other in self._by_hash.values()) >= STREAMS_MAX:
            raise Refused(Problem.LIMIT, f"at most {STREAMS_MAX} live streams in all")

    @contextmanager
    def streaming(self, session: Session) -> Iterator[None]:
        """One live stream, counted."""
        session.streams += 1
        try:
            yield
        finally:
            session.streams -= 1

    async def sweep(self) -> None:
        """For as long as webd lives."""
        while True:
            await trio.sleep(SWEEP_S)
            await self.sweep_once()

    async def sweep_once(self) -> None:
        """End sessions that are over, and write down when the others were used."""
        try:
            await self._end_those_over()
            await self._write_seen()
        except Refused as refused:
            self._log.warning("sessions could not be written; trying again", reason=refused.detail)

    async def _end_those_over(self) -> None:
        over = [session for session in self._by_hash.values() if not self.is_live(session)]
        for session in over:
            self._let_go(session)
        if over:
            await self._store.write(rows.end, [session.id for session in over])

    async def _write_seen(self) -> None:
        used = [
            session
            for session in self._by_hash.values()
            if session.seen_ms - session.written_ms >= SEEN_EVERY_MS
        ]
        if used:
            seen = [(session.seen_ms, session.id) for session in used]
            await self._store.write(rows.write_seen, seen)
            for session, (seen_ms, _) in zip(used, seen, strict=True):
                session.written_ms = seen_ms

    def _take_up(self, row: StoredSession) -> Session:
        session = Session(
            id=row.id,
            operator=row.operator,
            address=row.address,
            browser=row.browser,
            began_ms=row.began_ms,
            seen_ms=row.seen_ms,
            token_hash=row.token_hash,
            allowance=rates.full(rates.CHANGES_PER_SESSION, trio.current_time()),
            written_ms=row.seen_ms,
        )
        self._by_hash[row.token_hash] = session
        return session

    def _let_go(self, session: Session) -> None:
        self._by_hash.pop(session.token_hash, None)
        session.ending.set()


def _hashed(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
