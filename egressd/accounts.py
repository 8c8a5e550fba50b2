"""The model accounts of this hive while egressd runs: what each reply told, and whom a limit holds back.

While the API refuses an account, egressd answers for it: agents that try on would only lengthen the limit for all.
One request each PROBE_S goes through all the same, so that a limit that ended early, or was lifted, is noticed.
"""

import math
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import trio

from egressd.policy.account import (
    LIMIT_MS_MIN,
    REFUSED_KEY,
    TOO_MANY,
    detail_of,
    is_news,
    learned,
    limited_until,
)
from egressd.policy.answers import OVERLOADED
from egressd.policy.head import Headers
from protocol.egressd import Account, AccountChanged

PROBE_S: Final = 30.0
SECOND_MS: Final = 1000
OK, REDIRECT = 200, 300

Tell = Callable[[AccountChanged], None]


class Live:
    """One account."""

    def __init__(self, name: str, tell: Tell, now_ms: Callable[[], int]) -> None:
        self.known = Account(name)
        self._tell = tell
        self._now_ms = now_ms
        self._limited_at_s = -math.inf
        """When the limit was last told, on the loop's clock."""
        self._probe_at_s = -math.inf
        self.changed = trio.Event()

    def held_back_s(self) -> int:
        """For how many seconds a request is refused here without asking the API; 0 lets it through."""
        until = self.known.limited_until_ms
        now_ms, now_s = self._now_ms(), trio.current_time()
        if until is None or until <= now_ms:
            return 0
        if now_s >= self._probe_at_s:
            self._probe_at_s = now_s + PROBE_S
            return 0
        return max(1, -(-(until - now_ms) // SECOND_MS))

    def heard(self, status: int, headers: Headers, asked_at_s: float) -> None:
        """Take note of a reply's head. `asked_at_s`: when its request began, on the loop's clock."""
        account = learned(self.known, headers, self._now_ms())
        if OK <= status < REDIRECT and asked_at_s >= self._limited_at_s:
            account = msgspec.structs.replace(account, limited_until_ms=None, detail="")
        self._become(account)

    def refused(self, status: int, headers: Headers, body: bytes) -> None:
        """Take note of an error and the beginning of its body: a limit, or a key that the API does not take."""
        now_ms = self._now_ms()
        until = limited_until(status, headers, now_ms)
        account = learned(self.known, headers, now_ms)
        if until is not None:
            self._limited_at_s = trio.current_time()
            self._probe_at_s = self._limited_at_s + PROBE_S
            if not _is_same(self.known.limited_until_ms, until):
                account = msgspec.structs.replace(account, limited_until_ms=until, detail=detail_of(body))
        elif status in REFUSED_KEY:
            account = msgspec.structs.replace(account, detail=detail_of(body))
        self._become(account)

    def unusable(self, why: str) -> None:
        """Its key cannot be used: say so where the account is shown."""
        self._become(msgspec.structs.replace(self.known, detail=why))

    async def serve(self) -> None:
        """Lift each limit when its time has come, for ever."""
        while True:
            self.changed = trio.Event()
            until = self.known.limited_until_ms
            wait_s = math.inf if until is None else max(0.0, (until - self._now_ms()) / SECOND_MS)
            with trio.move_on_after(wait_s) as due:
                await self.changed.wait()
            if due.cancelled_caught and until == self.known.limited_until_ms:
                self._become(msgspec.structs.replace(self.known, limited_until_ms=None, detail=""))

    def _become(self, account: Account) -> None:
        before, self.known = self.known, account
        if is_news(before, account):
            self.changed.set()
            self._tell(AccountChanged(account))


def _is_same(known_ms: int | None, told_ms: int) -> bool:
    """Whether a limit is the one that is known: told in seconds from now, its end moves a little each time."""
    return known_ms is not None and abs(told_ms - known_ms) < LIMIT_MS_MIN


class Accounts:
    """Every account that the settings name."""

    def __init__(self, names: Iterable[str], tell: Tell, now_ms: Callable[[], int]) -> None:
        self._live = {name: Live(name, tell, now_ms) for name in names}

    def __getitem__(self, name: str) -> Live:
        return self._live[name]

    def rows(self) -> tuple[Account, ...]:
        return tuple(self._live[name].known for name in sorted(self._live))

    async def serve(self) -> None:
        async with trio.open_nursery() as nursery:
            for live in self._live.values():
                nursery.start_soon(live.serve)


def tells_in_body(status: int) -> bool:
    """Whether a reply's body says why an account is refused."""
    return status in REFUSED_KEY or status in (TOO_MANY, OVERLOADED)
