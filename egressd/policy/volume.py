"""How many bytes one agent moved within the last hour, and whether more may follow.

An hour slides by minutes: what was moved is kept in one bucket for each minute and leaves an hour after it. Times are
seconds on any clock that only goes forward.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

BUCKET_S: Final = 60
BUCKETS: Final = 60
MIB: Final = 1024 * 1024


class Hour:
    """Bytes of one direction."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, int]] = deque()
        """Which minute, how many bytes; oldest first, at most BUCKETS + 1 of them."""
        self._total = 0

    def used(self, now_s: float) -> int:
        oldest = int(now_s // BUCKET_S) - BUCKETS
        while self._buckets and self._buckets[0][0] < oldest:
            self._total -= self._buckets.popleft()[1]
        return self._total

    def spend(self, count: int, mib_max: int | None, now_s: float) -> bool:
        """Note *count* bytes; False, and nothing noted, when the bound does not allow them."""
        if mib_max is not None and self.used(now_s) + count > mib_max * MIB:
            return False
        self.used(now_s)
        minute = int(now_s // BUCKET_S)
        if self._buckets and self._buckets[-1][0] == minute:
            count_before = self._buckets.pop()[1]
            self._buckets.append((minute, count_before + count))
        else:
            self._buckets.append((minute, count))
        self._total += count
        return True

    def frees_s(self, mib_max: int | None, now_s: float) -> int:
        """In how many seconds something may be moved again; 0 while it may."""
        over = -1 if mib_max is None else self.used(now_s) - mib_max * MIB
        for minute, count in self._buckets:
            if over < 0:
                break
            over -= count
            wait_s = (minute + BUCKETS + 1) * BUCKET_S - now_s
            if over < 0:
                return max(1, int(wait_s) + 1)
        return 0


@dataclass
class Ledger:
    """Both directions of one agent. It outlives changes of settings, and the cage."""

    outward: Hour = field(default_factory=Hour)
    inward: Hour = field(default_factory=Hour)
