"""A place for one thing that is asked for: what comes later takes the place of what was not taken yet."""

from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Latest(Generic[T]):
    """Filled by whoever asks, emptied by the one task that answers."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._came = trio.Event()

    def put(self, value: T) -> None:
        self._value = value
        self._came.set()

    async def taken(self) -> T:
        """The latest value, once there is one."""
        while self._value is None:
            await self._came.wait()
            self._came = trio.Event()
        value, self._value = self._value, None
        return value
