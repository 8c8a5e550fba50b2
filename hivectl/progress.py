"""What is said on standard error while a command waits: a spinner for what is slow, a line for who is away."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from hivectl.tables import printable

FRAMES: Final = "◐◓◑◒"
FRAME_S: Final = 0.12
APPEARS_AFTER_S: Final = 0.3


@asynccontextmanager
async def shown(what: str) -> AsyncIterator[None]:
    """Spin beside *what* while the body runs; nothing is shown but on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_spin, what)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()


async def _spin(what: str) -> None:
    await trio.sleep(APPEARS_AFTER_S)
    began = trio.current_time()
    try:
        while True:
            for frame in FRAMES:
                sys.stderr.write(f"\r{frame} {what} {trio.current_time() - began:.0f}s ")
                sys.stderr.flush()
                await trio.sleep(FRAME_S)
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


class Absence:
    """Says once that a daemon went away, and once that it is back."""

    def __init__(self, daemon: str) -> None:
        self._daemon = daemon
        self._lasts = False

    def begins(self, fault: Exception) -> None:
        if not self._lasts:
            print(f"… {printable(str(fault))}; waiting for {self._daemon}", file=sys.stderr)
        self._lasts = True

    def ends(self) -> None:
        if self._lasts:
            print(f"… {self._daemon} is back", file=sys.stderr)
        self._lasts = False
