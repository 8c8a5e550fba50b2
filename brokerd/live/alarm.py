"""Waking one task at a time of the wall clock, which may be set, and which goes on while the machine sleeps."""

from typing import Final

import trio

from runtime.clock import now_ms

CLOCK_LOOK_S: Final = 15.0
"""While something is due some day, the wall clock is looked at this often: so late is a jump noticed at most."""


class Alarm:
    """One task waits in `due`; whoever adds something that may be due earlier says so by `bring_forward`."""

    def __init__(self) -> None:
        self._next_ms: int | None = None
        self._moved = trio.Event()

    def bring_forward(self, at_ms: int) -> None:
        """Something is due at that time, in milliseconds since the epoch."""
        if self._next_ms is None or at_ms < self._next_ms:
            self._next_ms = at_ms
            self._moved.set()

    def forget(self) -> None:
        """Before the one who waits looks up what is due: what comes from now on is `bring_forward`'s."""
        self._next_ms = None

    async def due(self, at_ms: int | None) -> None:
        """Wait until then, or until something earlier is due; None waits for the first `bring_forward`."""
        if at_ms is not None:
            self.bring_forward(at_ms)
        while (wait_s := self._wait_s()) > 0:
            self._moved = trio.Event()
            with trio.move_on_after(wait_s):
                await self._moved.wait()

    def _wait_s(self) -> float:
        if self._next_ms is None:
            return float("inf")
        return min(CLOCK_LOOK_S, (self._next_ms - now_ms()) / 1000)
