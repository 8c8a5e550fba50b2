"""Who was turned away, told to watchers: repeats are folded, and what one agent can make us remember is bounded.

The first refusal of a kind is told at once. Repeats within FOLD_S are counted and told at its end in one event with
their number. Kinds beyond FOLDS_PER_AGENT_MAX go into one without host and port.
"""

from collections.abc import Callable
from typing import Final

import trio
from msgspec import Struct

from protocol.egressd import EgressRefused, Refusal

FOLD_S: Final = 10.0
FOLDS_PER_AGENT_MAX: Final = 32
HOST_CHARS_MAX: Final = 100


class Key(Struct, frozen=True):
    """Refusals of one kind."""

    why: Refusal
    host: str
    port: int


class _Fold(Struct):
    """Repeats since an event told of this kind."""

    began_s: float
    times: int = 0
    at_ms: int = 0


Tell = Callable[[EgressRefused], None]


class Refusals:
    """What is folded at the moment, for every agent."""

    def __init__(self, tell: Tell, now_ms: Callable[[], int]) -> None:
        self._tell = tell
        self._now_ms = now_ms
        self._folds: dict[str, dict[Key, _Fold]] = {}
        self._any = trio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._folds.values()))

    def note(self, agent: str, why: Refusal, host: str = "", port: int = 0) -> None:
        """One agent was turned away. `host` as it wrote it: escaped and cut here."""
        folds = self._folds.setdefault(agent, {})
        key = Key(why, ascii(host)[1:-1][:HOST_CHARS_MAX], port)
        if key not in folds and len(folds) >= FOLDS_PER_AGENT_MAX:
            key = Key(why, "", 0)
        fold = folds.get(key)
        if fold is None:
            folds[key] = _Fold(trio.current_time())
            self._tell(EgressRefused(agent, self._now_ms(), why, key.host, key.port, 1))
            self._any.set()
            return
        fold.times += 1
        fold.at_ms = self._now_ms()

    async def serve(self) -> None:
        """Tell what was folded when its time is over, for ever."""
        while True:
            await self._any.wait()
            self._any = trio.Event()
            while self._folds:
                first = min(fold.began_s for folds in self._folds.values() for fold in folds.values())
                await trio.sleep_until(first + FOLD_S)
                self._tell_due(trio.current_time())

    def _tell_due(self, now_s: float) -> None:
        for agent, folds in tuple(self._folds.items()):
            for key, fold in tuple(folds.items()):
                if fold.began_s + FOLD_S > now_s:
                    continue
                if fold.times:
                    self._tell(EgressRefused(agent, fold.at_ms, key.why, key.host, key.port, fold.times))
                    folds[key] = _Fold(now_s)
                else:
                    del folds[key]
            if not folds:
                del self._folds[agent]
