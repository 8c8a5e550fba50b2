"""Whether egressd is followed, and what it means for the operator when it is not."""

from typing import Final

import trio

AWAY_S: Final = 60.0
"""After so long without egressd, the operator is told."""
AWAY: Final = (
    "brokerd has not heard egressd for a while: limits of model accounts are known only from turns that met them, and "
    "refusals of the way out are not shown; look at egressd's log"
)


class Egress:
    """Since when egressd is away, in trio's time; from the start until it was heard."""

    def __init__(self) -> None:
        self._away_since: float | None = trio.current_time()
        self._was_told = False

    def came(self) -> bool:
        """Something was heard; whether that is news."""
        is_news, self._away_since = self._away_since is not None, None
        self._was_told = False
        return is_news

    def went(self) -> bool:
        """Nobody answers; whether that is to be said."""
        if self._away_since is None:
            self._away_since = trio.current_time()
        is_news, self._was_told = not self._was_told, True
        return is_news

    def fault(self) -> str | None:
        """What the operator is told; None while there is nothing."""
        since = self._away_since
        return AWAY if since is not None and trio.current_time() - since >= AWAY_S else None
