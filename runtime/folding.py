"""Lines of the log that somebody else can cause as often as they like: so many in a while, and of the rest a number."""

import math
from typing import Final

FOLD_S: Final = 10.0
LINES_MAX: Final = 30
"""Within FOLD_S; whoever wants to fill a disk with more gets them counted."""


class Folding:
    """Lines of one kind and one cause. Times are seconds on any clock that only goes forward."""

    __slots__ = ("_began_s", "_left_out", "_lines")

    def __init__(self) -> None:
        self._began_s = -math.inf
        self._lines = 0
        self._left_out = 0

    def admit(self, now_s: float) -> int | None:
        """How many lines were left out before this one; None: leave this one out as well."""
        if now_s - self._began_s >= FOLD_S:
            self._began_s, self._lines = now_s, 0
        if self._lines >= LINES_MAX:
            self._left_out += 1
            return None
        self._lines += 1
        left_out, self._left_out = self._left_out, 0
        return left_out
