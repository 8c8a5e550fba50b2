"""Bytes in both directions between an agent and a host, with half-close, until both have said their last."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import trio

from runtime.stopping import Stopping

CHUNK_BYTES: Final = 64 * 1024
IDLE_S: Final = 600.0
"""A tunnel that moves nothing for this long is ended."""
STOP_QUIET_S: Final = 1.0
"""When egressd stops, an answer under way may arrive; a tunnel that is quiet for this long is ended."""


class Ended(StrEnum):
    """How a tunnel came to its end."""

    CLOSED = "closed"
    """Both sides were done."""
    LOST = "lost"
    """One side broke off."""
    IDLE = "idle"
    REVOKED = "revoked"
    """The agent's settings no longer allow the destination, or so many tunnels."""
    VOLUME = "volume"
    """The agent's bytes of this hour are used up."""
    STOPPED = "stopped"
    """egressd stopped, or the cage is gone."""


def _always(count: int) -> bool:
    return True


@dataclass
class Tunnel:
    """One tunnel: its counters, and the scope that ends it early. Bytes are counted once the other side took them."""

    agent_side: trio.abc.HalfCloseableStream
    host_side: trio.abc.HalfCloseableStream
    may_send: Callable[[int], bool] = _always
    """Asked before bytes go to the host, and `may_fetch` before they go to the agent; a no ends the tunnel."""
    may_fetch: Callable[[int], bool] = _always
    bytes_out: int = 0
    bytes_in: int = 0
    ended: Ended = Ended.STOPPED

    def __post_init__(self) -> None:
        self._scope = trio.CancelScope()
        self._quiet_s = IDLE_S
        self._revoked: Ended | None = None

    def revoke(self) -> None:
        """End it: the agent's settings no longer allow it."""
        self._end(Ended.REVOKED)

    def _end(self, why: Ended) -> None:
        self._revoked = self._revoked or why
        self._scope.cancel()

    async def run(self, first: bytes, stopping: Stopping) -> None:
        """Carry bytes until the end, `first` to the host before all. `ended` says how it ended, even when cancelled."""
        try:
            with self._scope:
                self._moved()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._hurry_on_stop, stopping)
                    async with trio.open_nursery() as both:
                        both.start_soon(self._carry_out, first)
                        both.start_soon(self._carry_in)
                    nursery.cancel_scope.cancel()
            self.ended = self._how(stopping)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            self.ended = Ended.LOST

    def _how(self, stopping: Stopping) -> Ended:
        if self._revoked is not None:
            return self._revoked
        if not self._scope.cancelled_caught:
            return Ended.CLOSED
        return Ended.STOPPED if stopping else Ended.IDLE

    def _moved(self) -> None:
        if self._revoked is None:
            self._scope.deadline = trio.current_time() + self._quiet_s

    async def _hurry_on_stop(self, stopping: Stopping) -> None:
        await stopping.wait()
        self._quiet_s = STOP_QUIET_S
        self._moved()
        await trio.sleep(math.inf)

    async def _carry_out(self, first: bytes) -> None:
        data: bytes | bytearray = first or await self.agent_side.receive_some(CHUNK_BYTES)
        while data:
            await self._within(self.may_send, len(data))
            await self.host_side.send_all(data)
            self.bytes_out += len(data)
            self._moved()
            data = await self.agent_side.receive_some(CHUNK_BYTES)
        await _say_eof(self.host_side)

    async def _carry_in(self) -> None:
        while data := await self.host_side.receive_some(CHUNK_BYTES):
            await self._within(self.may_fetch, len(data))
            await self.agent_side.send_all(data)
            self.bytes_in += len(data)
            self._moved()
        await _say_eof(self.agent_side)

    async def _within(self, may: Callable[[int], bool], count: int) -> None:
        """Go on only when this many bytes may be moved."""
        if not may(count):
            self._end(Ended.VOLUME)
            await trio.lowlevel.checkpoint()


async def _say_eof(stream: trio.abc.HalfCloseableStream) -> None:
    try:
        await stream.send_eof()
    except trio.BrokenResourceError:
        return  # it left already: the other direction meets the same end and says how
