"""One cage's meetings with its limits, told as events: the first at once, what follows it folded and now and then."""

from collections.abc import Callable

from privd.cages.limit_counts import LimitCounts
from privd.policy.limits import Tally, add, hit_detail
from protocol.privd import CageLimitHit, Resource
from protocol.settings import CageLimits


class LimitHits:
    """Remembers what was counted, and what was told."""

    def __init__(self, agent: str, tell: Callable[[CageLimitHit], None]) -> None:
        self._agent = agent
        self._tell = tell
        self._counts = LimitCounts()
        self._tallies = dict.fromkeys(Resource, Tally())

    def begin(self, counts: LimitCounts) -> None:
        """A cage that was started, or adopted with what had been counted before."""
        self._counts = counts

    def look(self, counts: LimitCounts, limits: CageLimits, now_ms: int) -> None:
        """What the kernel has counted until now. Call it now and then: what was held back is told, too."""
        ended = counts.ended_for_memory - self._counts.ended_for_memory
        refused = counts.tasks_refused - self._counts.tasks_refused
        self._counts = counts
        self._add(Resource.MEMORY, ended, limits, now_ms)
        self._add(Resource.TASKS, refused, limits, now_ms)

    def disk_is_full(self, limits: CageLimits, now_ms: int) -> None:
        """Seen once more."""
        self._add(Resource.DISK, 1, limits, now_ms)

    def _add(self, resource: Resource, times: int, limits: CageLimits, now_ms: int) -> None:
        self._tallies[resource], due = add(self._tallies[resource], times, now_ms)
        if due:
            self._tell(CageLimitHit(self._agent, now_ms, resource, due, hit_detail(resource, limits)))
