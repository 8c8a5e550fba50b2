"""Cages' journals: one watch on privd for each that somebody looks at, shared, ended when nobody has for a while."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from protocol.privd import ReadJournal, WatchJournal
from protocol.problem import Problem, Refused
from runtime.backoff import delays
from runtime.client import Client, Disconnected
from runtime.log import Log
from webd.live.hub import Hub
from webd.live.lines import LineRow, line_row
from webd.live.world import Change
from webd.policy.topics import JOURNAL

LINES_SHOWN: Final = 300
LINES_BYTES_MAX: Final = 64 * 1024
LOAD_S: Final = 1.0
"""A page is shown without its lines when privd takes longer; they follow by themselves."""
LINGER_S: Final = 60.0
"""A journal that nobody looks at any more is followed so long, for a reader whose connection was lost."""
AGAIN_FIRST_S: Final = 0.05
AGAIN_MAX_S: Final = 0.5
LINES_AT_ONCE_MAX: Final = 200
PAUSE_S: Final = 0.1
"""After LINES_AT_ONCE_MAX lines, so that a cage that floods its journal cannot keep webd from its other work."""


class _Followed:
    """One journal while it is followed."""

    def __init__(self) -> None:
        self.lines: deque[LineRow] = deque(maxlen=LINES_SHOWN)
        self.since = 0
        """The start of the last line that is known, or of the first that is wanted."""
        self.last = -1
        self.readers = 0
        self.loaded = trio.Event()
        self.left = trio.Event()


class Journals:
    """The journals that are followed. `start` runs a task for as long as webd lives."""

    def __init__(self, privd: Client, hub: Hub, start: Callable[..., None], log: Log) -> None:
        self._privd = privd
        self._hub = hub
        self._start = start
        self._log = log
        self._followed: dict[str, _Followed] = {}

    @asynccontextmanager
    async def open(self, agent: str) -> AsyncIterator[None]:
        """Follow a cage's journal; its newest lines are here when this is entered, unless privd does not answer."""
        followed = self._followed.get(agent)
        if followed is None:
            followed = self._followed[agent] = _Followed()
            self._start(self._follow, agent, followed, name=f"journal of {agent}")
        followed.readers += 1
        try:
            with trio.move_on_after(LOAD_S):
                await followed.loaded.wait()
            yield
        finally:
            followed.readers -= 1
            if not followed.readers:
                followed.left.set()

    def lines(self, agent: str) -> list[LineRow]:
        """The newest lines, oldest first."""
        followed = self._followed.get(agent)
        return list(followed.lines) if followed else []

    async def _follow(self, agent: str, followed: _Followed) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep, agent, followed)
            while True:
                await followed.left.wait()
                followed.left = trio.Event()
                await trio.sleep(LINGER_S)
                if not followed.readers:
                    del self._followed[agent]
                    nursery.cancel_scope.cancel()
                    break

    async def _keep(self, agent: str, followed: _Followed) -> None:
        """Load, then watch; again and again, from where it ended."""
        waits = delays(AGAIN_FIRST_S, AGAIN_MAX_S)
        while True:
            try:
                if not followed.loaded.is_set():
                    await self._load(agent, followed)
                    waits = delays(AGAIN_FIRST_S, AGAIN_MAX_S)
                await self._watch(agent, followed)
            except Disconnected as fault:
                self._log.debug("a journal is out of sight", agent=agent, reason=str(fault))
            except Refused as refused:
                self._log.warning("a journal was refused", agent=agent, reason=str(refused))
                if refused.problem is Problem.NOT_FOUND:
                    followed.loaded.set()
            await trio.sleep(next(waits))

    async def _load(self, agent: str, followed: _Followed) -> None:
        """The newest lines but the last, which may still be being written: the watch begins with it."""
        page = await self._privd.call(ReadJournal(agent=agent, bytes_max=LINES_BYTES_MAX))
        followed.lines.clear()
        followed.lines.extend(map(line_row, page.lines[:-1]))
        followed.since = page.lines[-1].offset if page.lines else 0
        followed.last = followed.since - 1
        followed.loaded.set()
        self._hub.break_off(JOURNAL + agent)

    async def _watch(self, agent: str, followed: _Followed) -> None:
        at_once = 0
        async with self._privd.watch(WatchJournal(agent=agent, since=followed.since)) as lines:
            async for line in lines:
                if line.offset <= followed.last:
                    continue
                row = line_row(line)
                followed.since = followed.last = line.offset
                followed.lines.append(row)
                self._hub.publish([Change(JOURNAL + agent, row)])
                at_once += 1
                if at_once >= LINES_AT_ONCE_MAX:
                    at_once = 0
                    await trio.sleep(PAUSE_S)
