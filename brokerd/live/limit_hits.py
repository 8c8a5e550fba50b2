"""Limits that cages met: counted at once, told to the agent at once, and then not more often than is worth a turn."""

from typing import Final

from brokerd.live.alarm import Alarm
from brokerd.live.digests import Digests
from brokerd.live.feed import Feed
from brokerd.live.inboxes import Inboxes
from brokerd.policy.notices import NOTICE_BYTES_MAX
from brokerd.policy.recipients import manager_of
from brokerd.store import limit_hits
from brokerd.store.limit_hits import Untold
from brokerd.swarm.roster import Roster
from protocol.messages import SystemEvent
from protocol.names import SYSTEM
from protocol.privd import CageLimitHit
from protocol.problem import Refused
from runtime.clock import now_ms
from runtime.log import Log
from runtime.store import Store

AGAIN_MS: Final = 60 * 1000
"""After so long, an agent whose inbox was full may be told."""


class LimitHits:
    """One task tells; it sleeps until something may be told."""

    def __init__(
        self, store: Store, feed: Feed, inboxes: Inboxes, digests: Digests, roster: Roster, log: Log
    ) -> None:
        self._store = store
        self._feed = feed
        self._inboxes = inboxes
        self._digests = digests
        self._roster = roster
        self._log = log
        self._alarm = Alarm()

    async def hit(self, event: CageLimitHit) -> None:
        """A cage met a limit, as privd says."""
        await self._feed.write_surely(limit_hits.count, event)
        self._alarm.bring_forward(now_ms())

    async def tell_on(self) -> None:
        """For ever; first what was left when brokerd stopped."""
        next_ms: int | None = now_ms()
        while True:
            await self._alarm.due(next_ms)
            self._alarm.forget()
            next_ms = await self._tell_due()

    async def _tell_due(self) -> int | None:
        """Tell what may be told now; when something else may be."""
        later: list[int] = []
        for each in await self._store.read(limit_hits.untold):
            if self._roster.get(each.agent) is None:
                continue
            due_ms = each.due_ms(now_ms())
            if due_ms > now_ms():
                later.append(due_ms)
            elif not await self._tell(each):
                later.append(now_ms() + AGAIN_MS)
        return min(later, default=None)

    async def _tell(self, untold: Untold) -> bool:
        """Whether the agent was told."""
        try:
            reserved = self._inboxes.reserve((untold.agent,), NOTICE_BYTES_MAX, SYSTEM)
        except Refused as refused:
            self._log.warning("an agent cannot be told of its limits; trying later", reason=str(refused))
            return False
        try:
            manager = manager_of(self._roster.roles)
            if await self._feed.write_surely(limit_hits.tell, untold.agent, untold.resource, manager):
                self._digests.add(SystemEvent.LIMIT_HIT)
        finally:
            self._inboxes.release(reserved)
        return True
