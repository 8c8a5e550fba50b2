"""Waiting for something that another process does: ask again until a deadline, never sleep and hope."""

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeVar, overload

import trio

ASK_AGAIN_AFTER_MS = 20
DEADLINE_MS = 60_000


T = TypeVar("T")


@overload
async def until(
    ask: Callable[[], Awaitable[T | None]], *, what: str, deadline_ms: int = DEADLINE_MS
) -> T: ...
@overload
async def until(ask: Callable[[], T | None], *, what: str, deadline_ms: int = DEADLINE_MS) -> T: ...
async def until(ask: Callable[[], Any], *, what: str, deadline_ms: int = DEADLINE_MS) -> Any:
    """The first truthy answer of `ask`; an AssertionError that says `what` never came."""
    last: object = None
    with trio.move_on_after(deadline_ms / 1000):
        while True:
            answer = ask()
            known = await answer if isawaitable(answer) else answer
            if known:
                return known
            last = known
            await trio.sleep(ASK_AGAIN_AFTER_MS / 1000)
    raise AssertionError(f"waited {deadline_ms} ms for {what}; the last answer was {last!r}")
