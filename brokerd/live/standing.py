"""What of the deployed settings brokerd itself lives by, beside who may write to whom: standing reminders."""

from collections.abc import Iterable
from typing import Final

from brokerd.live.feed import Feed
from brokerd.live.health import Health
from brokerd.live.scheduler import Scheduler
from brokerd.store import standing
from brokerd.store.agents import Known
from brokerd.store.feed import FeedLog
from brokerd.store.standing import Set
from protocol.settings import StandingReminder
from runtime.log import Log
from runtime.store import Db

_Said = tuple[tuple[StandingReminder, ...], bool]
"""The reminders of a configuration, and whether it limits the agent's shell commands."""
NOTHING: Final[_Said] = ((), False)


class StandingReminders:
    """Follows what privd reports. Told the same again, it does nothing."""

    def __init__(self, feed: Feed, scheduler: Scheduler, health: Health, log: Log) -> None:
        self._feed = feed
        self._scheduler = scheduler
        self._health = health
        self._log = log
        self._followed: dict[str, _Said] = {}

    async def deployed(self, known: Iterable[Known]) -> None:
        """Agents have these settings now. What of them cannot be is logged, and told with their harness's health."""
        settings = {
            each.name: (each.settings.reminders, each.settings.allowed_commands is not None) for each in known
        }
        news = {name: said for name, said in settings.items() if self._followed.get(name) != said}
        if news:
            await self._follow(news)

    async def gone(self, agent: str) -> None:
        """Its configuration is not in force any more, and so are none of its reminders."""
        if self._followed.get(agent) != NOTHING:
            await self._follow({agent: NOTHING})

    async def _follow(self, news: dict[str, _Said]) -> None:
        wanted = {name: said for name, (said, _) in news.items()}
        limited = [name for name, (_, is_limited) in news.items() if is_limited]
        found = await self._feed.write_surely(_apply, wanted, limited, self._scheduler.wall())
        self._followed |= news
        for reminder in found.reminders:
            self._scheduler.mind(reminder)
        for name in news:
            faults = found.faults.get(name, ())
            for fault in faults:
                self._log.error("a configured reminder cannot be set", agent=name, fault=fault)
            self._health.lacks(name, "; ".join(faults))


def _apply(
    db: Db,
    log: FeedLog,
    wanted: dict[str, tuple[StandingReminder, ...]],
    limited: Iterable[str],
    at_ms: int,
) -> Set:
    for agent in limited:
        standing.forget_checks(db, log, agent)
    return standing.follow(db, log, wanted, at_ms)
