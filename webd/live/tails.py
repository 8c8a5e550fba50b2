"""Agents' tails: the newest turns with their events, loaded when somebody looks, kept up by the feed while they do."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from msgspec import Struct

from protocol.brokerd import ReadTail, TailPage, TurnWithEvents
from protocol.problem import Refused
from runtime.client import Client, Disconnected
from runtime.log import Log
from webd.live.hub import Hub
from webd.live.rows import EventRow, TurnRow, event_row, turn_row
from webd.policy.topics import TAIL

EVENTS_SHOWN: Final = 200
ONE_TURN_EVENTS_MAX: Final = 2_000
"""Of a turn that alone is longer than EVENTS_SHOWN, so many newest events are kept."""
TURNS_A_PAGE: Final = 20
TURNS_KEPT_MAX: Final = 100
PAGES_MAX: Final = 5
LOAD_S: Final = 3.0
"""A page is shown without its tail when brokerd takes longer; the tail follows by itself."""
LOAD_AGAIN_S: Final = 0.5


class TailRows(Struct, frozen=True):
    """Whole turns, oldest first, and the events of all of them in order."""

    turns: tuple[TurnRow, ...]
    events: tuple[EventRow, ...]
    more: bool
    """Whether older turns exist."""


NOTHING: Final = TailRows((), (), more=False)


class TailBook:
    """The newest turns of one agent, whole, as many as fit into EVENTS_SHOWN events, but at least one."""

    def __init__(self) -> None:
        self._turns: dict[int, TurnRow] = {}
        self._events: dict[int, list[EventRow]] = {}
        self._more = False

    def begin(self, pages: Iterable[TailPage], *, more: bool) -> None:
        """Pages of one walk back, the oldest first."""
        for page in pages:
            for found in page.turns:
                self.turn(turn_row(found.turn))
                for event in found.events:
                    self.event(event_row(found.turn.id, event))
        self._more = more
        self._trim()

    def turn(self, row: TurnRow) -> None:
        self._turns[row.id] = row
        self._events.setdefault(row.id, [])

    def event(self, row: EventRow) -> None:
        """One event; one that is here already changes nothing."""
        events = self._events.setdefault(row["turn"], [])
        if not events or row["n"] > events[-1]["n"]:
            events.append(row)

    def take(self, told: dict[str, Any]) -> None:
        """What the stream tells of this agent's turns."""
        if "turn" in told:
            self.turn(told["turn"])
        else:
            self.event(told["event"])
        self._trim()

    def rows(self) -> TailRows:
        numbers = sorted(self._turns)
        return TailRows(
            turns=tuple(self._turns[number] for number in numbers),
            events=tuple(event for number in numbers for event in self._events[number]),
            more=self._more,
        )

    def _trim(self) -> None:
        numbers = sorted(self._events)
        newest = self._events[numbers[-1]] if numbers else []
        del newest[:-ONE_TURN_EVENTS_MAX]
        total = sum(map(len, self._events.values()))
        for number in numbers[:-1]:
            if total <= EVENTS_SHOWN and len(self._events) <= TURNS_KEPT_MAX:
                break
            total -= len(self._events.pop(number))
            self._turns.pop(number, None)
            self._more = True


def page_of(found: TailPage, events_max: int) -> TailRows:
    """A page for a reader who goes back: whole newest turns, as many as fit into `events_max` events, at least one."""
    chosen: list[TurnWithEvents] = []
    count = 0
    for turn in reversed(found.turns):
        count += len(turn.events)
        if chosen and count > events_max:
            break
        chosen.insert(0, turn)
    return TailRows(
        turns=tuple(turn_row(turn.turn) for turn in chosen),
        events=tuple(event_row(turn.turn.id, event) for turn in chosen for event in turn.events),
        more=found.before is not None or len(chosen) < len(found.turns),
    )


class _Kept:
    """One agent's tail while somebody looks."""

    def __init__(self) -> None:
        self.book: TailBook | None = None
        self.told: list[dict[str, Any]] | None = None
        """What is told while the book is being loaded."""
        self.readers = 0
        self.missed = False
        """Whether somebody was shown nothing because it could not be loaded."""
        self.loading = trio.Lock()


class Tails:
    """The tails that somebody looks at. `take` is given everything that is told, in order.

    `passed(seq)` waits, not for long, until the feed has been taken in up to there.
    """

    def __init__(self, brokerd: Client, hub: Hub, passed: Callable[[int], Awaitable[None]], log: Log) -> None:
        self._brokerd = brokerd
        self._hub = hub
        self._passed = passed
        self._log = log
        self._kept: dict[str, _Kept] = {}

    @asynccontextmanager
    async def open(self, agent: str) -> AsyncIterator[None]:
        """Keep an agent's tail; it is loaded when this is entered, unless brokerd does not answer."""
        kept = self._kept.setdefault(agent, _Kept())
        kept.readers += 1
        try:
            await self._load(agent, kept, self._passed)
            kept.missed = kept.missed or kept.book is None
            yield
        finally:
            kept.readers -= 1
            if not kept.readers:
                self._kept.pop(agent, None)

    def rows(self, agent: str) -> TailRows:
        """The tail as of now; empty while it is not known."""
        kept = self._kept.get(agent)
        return kept.book.rows() if kept and kept.book else NOTHING

    def take(self, agent: str, told: dict[str, Any]) -> None:
        kept = self._kept.get(agent)
        if kept is None:
            return
        if kept.told is not None:
            kept.told.append(told)
        elif kept.book is not None:
            kept.book.take(told)

    async def reload(self) -> None:
        """The feed began anew: load again what somebody looks at, before the streams are told."""

        async def at_once(_: int) -> None:
            """What the feed repeats is here already and changes nothing."""

        for agent, kept in tuple(self._kept.items()):
            kept.book = None
            await self._load(agent, kept, at_once)
            kept.missed = kept.book is None

    async def keep(self) -> None:
        """For as long as webd lives: go on trying for tails that could not be loaded when they were opened."""
        while True:
            await trio.sleep(LOAD_AGAIN_S)
            for agent, kept in tuple(self._kept.items()):
                if kept.missed:
                    await self._load(agent, kept, self._passed)
                if kept.missed and kept.book is not None:
                    kept.missed = False
                    self._hub.break_off(TAIL + agent)

    async def _load(self, agent: str, kept: _Kept, passed: Callable[[int], Awaitable[None]]) -> None:
        async with kept.loading:
            if kept.book is not None:
                return
            kept.told = []
            try:
                with trio.fail_after(LOAD_S):
                    book, seq = await self._read(agent)
                    await passed(seq)
            except (Disconnected, Refused, trio.TooSlowError) as fault:
                self._log.warning("a tail could not be loaded", agent=agent, reason=str(fault))
            else:
                for told in kept.told:
                    book.take(told)
                kept.book = book
            finally:
                kept.told = None

    async def _read(self, agent: str) -> tuple[TailBook, int]:
        pages: list[TailPage] = []
        before, events = None, 0
        while len(pages) < PAGES_MAX:
            page = await self._brokerd.call(ReadTail(agent=agent, before=before, limit=TURNS_A_PAGE))
            pages.append(page)
            events += sum(len(turn.events) for turn in page.turns)
            before = page.before
            if before is None or events >= EVENTS_SHOWN:
                break
        book = TailBook()
        book.begin(reversed(pages), more=before is not None)
        return book, pages[0].seq
