"""Ends of proposals and deployments on their way to whom they concern: told once, in the order in which they came."""

from collections.abc import Iterable

from brokerd.live.feed import Feed
from brokerd.live.inboxes import Inboxes
from brokerd.policy.bodies import bytes_of
from brokerd.policy.decisions import End, Telling, of_proposal
from brokerd.policy.recipients import manager_of
from brokerd.store import decisions, news
from brokerd.store.messages import Draft
from brokerd.swarm.roster import Roster
from protocol.approvals import Proposal, ProposalState
from protocol.names import SYSTEM


class Decisions:
    """What of privd's decisions is told. `known` is what the database says was told."""

    def __init__(self, feed: Feed, inboxes: Inboxes, roster: Roster, known: Iterable[End]) -> None:
        self._feed = feed
        self._inboxes = inboxes
        self._roster = roster
        self._known = set(known)
        self._withdrawing: set[tuple[str, int]] = set()

    def withdrawing(self, agent: str, number: int) -> None:
        """The manager takes a proposal back, and need not be told that it did."""
        self._withdrawing.add((agent, number))

    def not_withdrawn(self, agent: str, number: int) -> None:
        self._withdrawing.discard((agent, number))

    async def begin(self, ended: Iterable[Telling]) -> None:
        """What ended before anybody ever listened is no news."""
        self._known.update(await self._feed.write_surely(decisions.begin, [each.end for each in ended]))

    async def proposal(self, row: Proposal) -> None:
        """A proposal stands as the row says. Refused(limit) while somebody's inbox has no room: tell it again."""
        telling = of_proposal(row)
        if telling is None:
            return
        if row.state is ProposalState.WITHDRAWN and (row.agent, row.number) in self._withdrawing:
            await self._tell(telling.end, ())
            self.not_withdrawn(row.agent, row.number)
            return
        await self.tell(telling)

    async def tell(self, telling: Telling) -> None:
        """Tell whom it concerns, unless that was done. Refused(limit) as above."""
        if telling.end in self._known:
            return
        drafts = self._drafts(telling)
        if drafts is not None:
            await self._tell(telling.end, drafts)

    def _drafts(self, telling: Telling) -> tuple[Draft, ...] | None:
        """The messages; None while the one who asked is not known yet."""
        manager, agent = manager_of(self._roster.roles), telling.end.agent
        drafts = []
        if telling.to_manager:
            if manager is None:
                return None
            drafts.append(news.notice(manager, telling.event, telling.to_manager))
        told_already = bool(drafts) and agent == manager
        if telling.to_agent and not told_already and self._roster.get(agent) is not None:
            drafts.append(news.notice(agent, telling.event, telling.to_agent))
        return tuple(drafts)

    async def _tell(self, end: End, drafts: tuple[Draft, ...]) -> None:
        recipients = [each.to for each in drafts]
        size = max((bytes_of(each.body) for each in drafts), default=0)
        reserved = self._inboxes.reserve(recipients, size, SYSTEM)
        try:
            await self._feed.write_surely(decisions.tell, end, drafts)
        finally:
            self._inboxes.release(reserved)
        self._known.add(end)
