"""How many requests a caller may have told in the audit log: more would push out what others did. Pure.

Each role and uid has a stock of lines that fills again with time, and a smaller one of refusals, which change nothing
and cost as many lines. What goes beyond is refused before anything is written, and counted.
"""

from typing import Final

from msgspec import Struct

from protocol.problem import Problem, Refused

REQUESTS_MAX: Final = 600
"""At once; a hive of 120 agents is started, stopped and made anew within it."""
REQUEST_S: Final = 3.0
"""Until one more is allowed. The whole log is as long as three weeks of them."""
REFUSALS_MAX: Final = 120
REFUSAL_S: Final = 30.0
"""Until one more refusal is allowed. The whole log is as long as half a year of them."""

Who = tuple[str, int]
"""A role's name and a uid."""


class Stock(Struct):
    """What one caller has left as of a time, and how many of its requests the log does not tell of."""

    at_s: float
    requests: float = REQUESTS_MAX
    refusals: float = REFUSALS_MAX
    untold: int = 0

    def fill(self, at_s: float) -> None:
        passed_s, self.at_s = max(0.0, at_s - self.at_s), at_s
        self.requests = min(REQUESTS_MAX, self.requests + passed_s / REQUEST_S)
        self.refusals = min(REFUSALS_MAX, self.refusals + passed_s / REFUSAL_S)

    def wait_s(self) -> float:
        """Until one more request is allowed; 0 when it is now."""
        return max((1 - self.requests) * REQUEST_S, (1 - self.refusals) * REFUSAL_S, 0.0)


class Pace:
    """All callers; who they are is the kernel's word, so there are no more than may connect."""

    def __init__(self) -> None:
        self._stocks: dict[Who, Stock] = {}

    def take(self, who: Who, at_s: float) -> int:
        """Allow one request; how many were refused here since the last one. Refused(limit) when it is too many."""
        stock = self._stocks.setdefault(who, Stock(at_s))
        stock.fill(at_s)
        if wait_s := stock.wait_s():
            stock.untold += 1
            raise Refused(
                Problem.LIMIT,
                f"{who[0]} has asked, or was refused, too often: at most {REQUESTS_MAX} requests, and "
                f"{REFUSALS_MAX} that are refused, are taken at once; ask again in {wait_s:.0f} s",
            )
        stock.requests -= 1
        untold, stock.untold = stock.untold, 0
        return untold

    def refused(self, who: Who) -> None:
        """One that was allowed has changed nothing."""
        self._stocks[who].refusals -= 1
