"""How fast one agent's refusals are answered: each costs us as much as a good request, and all others wait for it.

So many at once cost nobody anything; the next ones wait for their turn, and their connections with them. Times are
seconds on any clock that only goes forward.
"""

import math
from typing import Final

REFUSALS_AT_ONCE_MAX: Final = 100
REFUSALS_PER_S_MAX: Final = 50
"""Past those; measured: 5 800 a second of one agent made another's requests three times slower."""


class Pace:
    """One agent's."""

    def __init__(self) -> None:
        self._due_s = -math.inf

    def wait_s(self, now_s: float) -> float:
        """Take the next turn; in how many seconds it comes."""
        rested_s = now_s - REFUSALS_AT_ONCE_MAX / REFUSALS_PER_S_MAX
        self._due_s = max(self._due_s, rested_s) + 1 / REFUSALS_PER_S_MAX
        return max(0.0, self._due_s - now_s)
