"""Limits of model accounts: whoever shares one is held at its first limit, and goes on one by one when it is over.

What is known is in the database (brokerd.store.accounts); this decides when. The end of a limit is a time of the wall
clock, which may be set: a limit is over when that says so, or when as much time has run as there was left.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import trio

from brokerd.live.digests import Digests
from brokerd.live.feed import Feed
from brokerd.live.harnesses import Harnesses
from brokerd.live.inboxes import Inboxes
from brokerd.live.leases import Leases
from brokerd.policy.accounts import RESUME_EVERY_S, left_ms
from brokerd.policy.recipients import manager_of
from brokerd.store import accounts
from brokerd.store.accounts import Released
from brokerd.store.agents import Known
from brokerd.swarm.roster import Roster
from protocol.agent import Unpark
from protocol.egressd import Account
from protocol.messages import SystemEvent
from protocol.settings import Credential
from runtime.clock import now_ms
from runtime.log import Log
from runtime.store import Store

CLOCK_LOOK_S: Final = 15.0
"""While an account is limited, the wall clock is looked at this often: so late is a jump noticed at most."""


@dataclass
class _Limited:
    """An account that is limited, or whose limit is over and holds somebody still (`until_ms` is None)."""

    until_ms: int | None
    ends: float
    """The latest end, in trio's time."""
    next_at: float = 0.0
    """When the next of its agents may go on."""


class Accounts:
    """One task ends limits; egressd, turns and the operator say what it is to mind."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        inboxes: Inboxes,
        leases: Leases,
        harnesses: Harnesses,
        digests: Digests,
        roster: Roster,
        log: Log,
    ) -> None:
        self._store = store
        self._feed = feed
        self._inboxes = inboxes
        self._leases = leases
        self._harnesses = harnesses
        self._digests = digests
        self._roster = roster
        self._log = log
        self._limited: dict[str, _Limited] = {}
        self._moved = trio.Event()
        self.watched: set[str] = set()
        """Accounts of which egressd sees replies just now: a turn whose replies it saw adds nothing."""

    # ------------------------------------------------------------------------------------------ what others say

    async def told(self, seen: Account) -> None:
        """How an account stands, as egressd says; one that no agent has is nobody's concern."""
        members = self._members(seen.name)
        if not members:
            return
        if seen.seen_ms is not None:
            self.watched.add(seen.name)
        self.follow(is_news=await self._feed.write_surely(accounts.told, seen, members, self._manager()))

    async def turn_ended(self, agent: str, until_ms: int, detail: str) -> None:
        """A turn of an agent met a limit whose end is known. Needs no task."""
        known = self._roster.get(agent)
        if known is None:
            return
        account = known.settings.account
        if known.settings.credential is Credential.EGRESS and account in self.watched:
            return
        is_news = await self._feed.write(
            accounts.turn_ended,
            agent,
            account,
            until_ms,
            detail,
            self._members(account),
            self._manager(),
        )
        self.follow(is_news=is_news)

    async def deployed(self, known: Iterable[Known]) -> None:
        """Agents came, or changed their account."""
        of = {each.name: each.settings.account for each in known}
        if of and self._limited:
            self.follow(is_news=await self._feed.write_surely(accounts.join, of, self._manager()))

    async def resume(self, account: str) -> int:
        """The operator takes a limit for over; the place in the feed. Refused: `conflict` when there is none."""
        seq = await self._feed.write(accounts.end, account)
        self.follow()
        return seq

    async def lift(self, agent: str) -> bool:
        """The operator lets one agent go on; whether a limit held it."""
        released = await self._feed.write(accounts.lift, agent)
        if released is not None:
            self._went_on(released)
        return released is not None

    # --------------------------------------------------------------------------------------------- what follows

    async def run(self) -> None:
        """For ever: end limits whose time has come, and let their agents go on."""
        while True:
            self._moved = trio.Event()
            await self.look()
            with trio.move_on_after(self._wait_s()):
                await self._moved.wait()

    async def look(self) -> None:
        """Do what is due now."""
        for name in list(self._limited):
            if await self._is_over(name) and trio.current_time() >= self._limited[name].next_at:
                await self._release_next(name)

    async def _is_over(self, name: str) -> bool:
        """Whether an account's limit is over; when that is news, it is written down."""
        limited = self._limited[name]
        if limited.until_ms is None:
            return True
        if left_ms(limited.until_ms, now_ms()) > 0 and trio.current_time() < limited.ends:
            return False
        self._log.info("the limit of an account is over", account=name)
        await self._feed.write_surely(accounts.over, name)
        self._limited[name] = _Limited(None, trio.current_time())
        return True

    async def _release_next(self, name: str) -> None:
        released = await self._feed.write_surely(accounts.release_next, name)
        if released is None:
            self._limited.pop(name, None)
            return
        if name in self._limited:
            self._limited[name].next_at = trio.current_time() + RESUME_EVERY_S
        self._went_on(released)

    def _went_on(self, released: Released) -> None:
        if released.is_parked:
            self._harnesses.command(released.agent, Unpark())
        if released.told is not None:
            self._digests.add(released.told)

    def follow(self, *, is_news: bool = False) -> None:
        """Take over what the database says; whoever is held and has begun nothing gives it back."""
        if is_news:
            self._digests.add(SystemEvent.RATE_LIMITED)
        found = self._store.look(accounts.read_limits)
        for name in self._limited.keys() - found.keys():
            del self._limited[name]
        for name, limit in found.items():
            until_ms = None if limit is None else limit.until_ms
            known = self._limited.get(name)
            if known is None or known.until_ms != until_ms:
                left_s = 0.0 if until_ms is None else left_ms(until_ms, now_ms()) / 1000
                self._limited[name] = _Limited(until_ms, trio.current_time() + left_s)
        for known_agent in self._roster.all():
            self._give_back(known_agent.name)
        self._moved.set()

    def _give_back(self, agent: str) -> None:
        lease = self._leases.of(agent)
        is_idle = lease is not None and lease.turn is None and not lease.is_beginning
        if is_idle and self._inboxes.of(agent).is_limited:
            self._leases.drop(agent)

    def _wait_s(self) -> float:
        if not self._limited:
            return float("inf")
        now = trio.current_time()
        return min(
            CLOCK_LOOK_S,
            *(
                max(0.0, each.next_at - now)
                if each.until_ms is None
                else min(left_ms(each.until_ms, now_ms()) / 1000, max(0.0, each.ends - now))
                for each in self._limited.values()
            ),
        )

    def _members(self, account: str) -> tuple[str, ...]:
        return tuple(each.name for each in self._roster.all() if each.settings.account == account)

    def _manager(self) -> str | None:
        return manager_of(self._roster.roles)
