"""The events of one turn on their way to brokerd: numbered, batched, bounded, and sent again until they are taken.

`emit` never waits, so a brokerd that is away never holds up the agent. What does not fit meanwhile is dropped, the
oldest first, and the gap is told by a note in its place. Numbers are given when a batch is made, so they have no hole.
When brokerd keeps no more of a turn (`limit`), the rest is counted, and its number is the turn's last event.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
import trio

from protocol.agent import PublishEvents
from protocol.limits import BROKER_FRAME_BYTES_MAX, TURN_EVENTS_BATCH_MAX
from protocol.problem import Problem, Refused
from protocol.turns import AnyTurnEvent, Noted, TurnEvent
from runtime.backoff import delays
from runtime.client import Client, Disconnected
from runtime.log import Log

GATHER_S: Final = 0.05
"""How long a batch gathers after one was sent; with the call itself it stays well under 100 ms."""
BATCH_BYTES_MAX: Final = BROKER_FRAME_BYTES_MAX - 8 * 1024
WAITING_EVENTS_MAX: Final = 2_000
WAITING_BYTES_MAX: Final = 4 * 1024 * 1024
PATIENCE_S: Final = 20.0
"""After this long without brokerd a line is logged, and the waiting goes on."""
DEFECTS_MAX: Final = 5
"""Answers that a batch may fail with, one after the other, before the turn's events are given up."""
FINAL: Final = frozenset({Problem.CONFLICT, Problem.NOT_FOUND, Problem.DENIED, Problem.MALFORMED})
"""Refusals that asking again does not change."""
RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 2.0
NOTE_BYTES: Final = 200


class Publisher:
    """The events of one turn. `run` sends them while the turn lasts; `flush` waits until all are taken."""

    def __init__(self, broker: Client, turn: int, now_ms: Callable[[], int], log: Log) -> None:
        self._broker = broker
        self._turn = turn
        self._now_ms = now_ms
        self._log = log
        self._waiting: deque[tuple[TurnEvent, int]] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._left_out = 0
        """Events that brokerd did not keep, or was not asked to keep, since it said `limit`."""
        self._next_n = 0
        self._wake = trio.Event()
        self._taken = trio.Event()
        self._taken.set()
        self._hurry = trio.Event()
        self.given_up = False
        """Whether brokerd no longer takes events of this turn."""

    def emit(self, event: TurnEvent) -> None:
        """Queue an event; its `n` is given later."""
        if self.given_up:
            return
        if self._left_out:
            self._left_out += 1
            return
        size = len(msgspec.json.encode(event))
        self._waiting.append((event, size))
        self._waiting_bytes += size
        while len(self._waiting) > WAITING_EVENTS_MAX or self._waiting_bytes > WAITING_BYTES_MAX:
            self._waiting_bytes -= self._waiting.popleft()[1]
            self._dropped += 1
        if self._taken.is_set():
            self._taken = trio.Event()
        self._wake.set()

    async def run(self) -> None:
        """Send what is emitted, until cancelled or given up."""
        while not self.given_up:
            await self._wake.wait()
            self._wake = trio.Event()
            await self._send(self._next_batch())
            if self._waiting:
                self._wake.set()
            else:
                self._taken.set()
            with trio.move_on_after(GATHER_S):
                await self._hurry.wait()

    async def flush(self) -> None:
        """Wait until everything emitted so far was taken (or given up). `run` must be running."""
        self._hurry.set()
        await self._taken.wait()
        if self._left_out and not self.given_up:
            text = f"{self._left_out} events were left out here: the hive keeps no more of this turn"
            await self._send((Noted(self._next_n, self._now_ms(), text),))

    def _next_batch(self) -> tuple[AnyTurnEvent, ...]:
        batch: list[TurnEvent] = []
        size = 0
        if self._dropped:
            text = f"{self._dropped} events are missing here: the broker was away and the queue was full"
            batch.append(Noted(0, self._now_ms(), text))
            size += NOTE_BYTES
            self._dropped = 0
        while self._waiting and len(batch) < TURN_EVENTS_BATCH_MAX:
            event, event_size = self._waiting[0]
            if batch and size + event_size > BATCH_BYTES_MAX:
                break
            self._waiting.popleft()
            self._waiting_bytes -= event_size
            batch.append(event)
            size += event_size
        numbered = tuple(
            msgspec.structs.replace(event, n=self._next_n + place) for place, event in enumerate(batch)
        )
        self._next_n += len(batch)
        return numbered  # type: ignore[return-value]  # every TurnEvent is one of AnyTurnEvent

    async def _send(self, batch: tuple[AnyTurnEvent, ...]) -> None:
        """Send one batch until it is taken; the same numbers each time, so a repeat adds nothing."""
        request = PublishEvents(self._turn, batch)
        waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
        defects = 0
        while True:
            try:
                await self._broker.call(request, patience_s=PATIENCE_S)
            except Disconnected as fault:
                self._log.warning(
                    "the turn's events wait for brokerd", waiting=len(self._waiting), error=str(fault)
                )
            except Refused as refused:
                defects += 1
                if refused.problem is Problem.LIMIT:
                    self._leave_out(batch, refused)
                    return
                if refused.problem in FINAL or defects >= DEFECTS_MAX:
                    self._give_up(refused)
                    return
            else:
                return
            await trio.sleep(next(waits))

    def _leave_out(self, batch: tuple[AnyTurnEvent, ...], refused: Refused) -> None:
        """Publish no more of this turn but their number."""
        if not self._left_out:
            self._log.warning("the turn has more events than are kept", turn=self._turn, refusal=str(refused))
            self._next_n -= len(batch)
        self._left_out += len(batch) + len(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._taken.set()

    def _give_up(self, refused: Refused) -> None:
        self.given_up = True
        self._log.error("brokerd takes no more events of this turn", turn=self._turn, refusal=str(refused))
        self._waiting.clear()
        self._waiting_bytes = 0
        self._taken.set()
