"""One browser's live stream: what it missed or a snapshot, then what is told, beat by beat, until either side goes.

It ends by itself when webd stops (`bye` restart) and when its session does (`bye` auth): whoever serves it never has to
cut it off. A browser that leaves cancels it; one that stops reading is cut by the connection.
"""

from dataclasses import dataclass
from typing import Final

import trio

from runtime.stopping import Stopping
from webd.http.answers import Send
from webd.live.hub import Reading
from webd.live.views import Views
from webd.policy.topics import Cursor
from webd.sessions import Session, Sessions

HEARTBEAT_S: Final = 15.0
RETRY_MS: Final = 1_000


@dataclass(frozen=True)
class Stream:
    """Everything one stream needs; `cursor` is where the browser says it stood."""

    views: Views
    sessions: Sessions
    session: Session
    stopping: Stopping
    topics: frozenset[str]
    cursor: Cursor | None

    async def feed(self, send: Send) -> None:
        """Write the stream until it ends. Cancelled when the browser leaves."""
        with self.sessions.streaming(self.session):
            async with self.views.open(self.topics):
                await self._flow(send)
        reason = "restart" if self.stopping and not self.session.ending else "auth"
        await send(self.views.picture.hub.frame("bye", {"reason": reason}))

    async def _flow(self, send: Send) -> None:
        hub = self.views.picture.hub
        reading = Reading(self.topics, self.session.operator, 0)
        why: str | None = "gap" if self.cursor else "new"
        if self.cursor is not None and hub.can_resume(self.topics, self.cursor):
            reading.seq, why = self.cursor.seq, None
        await send(b"retry: %d\n\n" % RETRY_MS)
        beat_due = trio.current_time() + HEARTBEAT_S
        while self._goes_on():
            why = why or self._why_a_snapshot(reading)
            if why is not None:
                data, why = self._snapshot(reading, why), None
            elif hub.has_news(reading):
                data = hub.read(reading)
            elif await self._is_quiet_until(beat_due):
                data = hub.frame("hb", {"now_ms": self.views.picture.now_ms()}, reading.seq)
            else:
                continue
            if data:
                await send(data)
                beat_due = trio.current_time() + HEARTBEAT_S

    def _goes_on(self) -> bool:
        return not self.stopping and self.sessions.is_live(self.session)

    def _why_a_snapshot(self, reading: Reading) -> str | None:
        hub = self.views.picture.hub
        if not hub.can_continue(reading):
            return "gap"
        return "slow" if hub.is_behind(reading) else None

    def _snapshot(self, reading: Reading, why: str) -> bytes:
        snapshot = self.views.snapshot(reading, why)
        return self.views.picture.hub.frame("snapshot", snapshot, reading.seq)

    async def _is_quiet_until(self, beat_due: float) -> bool:
        """Wait for news; true when a heartbeat is due first. Only this waiting is cut short when the stream ends."""
        with self.stopping.ends(), self.session.ending.ends():
            with trio.move_on_at(beat_due) as patience:
                await self.views.picture.hub.news()
            return patience.cancelled_caught
        return False
