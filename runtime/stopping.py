"""How a process goes down: what only waits ends at once, work in hand finishes."""

from types import TracebackType

import trio


class Stopping:
    """Set once. Scopes opened by `ends` are cancelled at that moment, later ones at once."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self._scopes: set[trio.CancelScope] = set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()
        for scope in tuple(self._scopes):
            scope.cancel()

    async def wait(self) -> None:
        await self._event.wait()

    def ends(self) -> "Waiting":
        """A scope for waiting: nothing is lost when it is cancelled."""
        return Waiting(self, self._scopes)


class Waiting:
    """The scope of `Stopping.ends`. A class: every request waits in one, and a generator costs thrice as much."""

    __slots__ = ("_scope", "_scopes")

    def __init__(self, stopping: Stopping, scopes: set[trio.CancelScope]) -> None:
        self._scope = trio.CancelScope()
        self._scopes = scopes
        if stopping:
            self._scope.cancel()

    def __enter__(self) -> trio.CancelScope:
        self._scopes.add(self._scope)
        return self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._scopes.discard(self._scope)
        return self._scope.__exit__(kind, error, trace)
