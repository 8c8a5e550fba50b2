"""What brokerd's handlers act on."""

from brokerd.live.accounts import Accounts
from brokerd.live.backups import Backups
from brokerd.live.behind import Behind
from brokerd.live.deadlines import Deadlines
from brokerd.live.decisions import Decisions
from brokerd.live.digests import Digests
from brokerd.live.egress import Egress
from brokerd.live.feed import Feed
from brokerd.live.harnesses import Harnesses
from brokerd.live.health import Health
from brokerd.live.hops import Hops
from brokerd.live.inboxes import Inboxes
from brokerd.live.leases import Leases
from brokerd.live.limit_hits import LimitHits
from brokerd.live.outbox import Outbox
from brokerd.live.rates import Rates
from brokerd.live.room import Room
from brokerd.live.scheduler import Scheduler
from brokerd.live.shares import Shares
from brokerd.live.standing import StandingReminders
from brokerd.live.sweeping import Sweeping
from brokerd.live.tellings import Tellings
from brokerd.live.together import Together
from brokerd.policy.decisions import End
from brokerd.settings import BrokerSettings
from brokerd.store import agents, behind, decisions, deliveries, feed, pauses, pulls, turns
from brokerd.store.feed import Entry
from brokerd.store.turns import Beginning, Ended
from brokerd.swarm.roster import Roster
from protocol.agent import TurnClosed
from runtime.client import Client
from runtime.log import Log
from runtime.store import Store


class Host:
    """The store and everything that is known in memory. Made by `open_host`."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: Store,
        place: feed.FeedPlace,
        inboxes: Inboxes,
        roster: Roster,
        hops: Hops,
        told: frozenset[End],
        log: Log,
    ) -> None:
        self.settings = settings
        self.store = store
        self.roster = roster
        self.inboxes = inboxes
        self.hops = hops
        self.rates = Rates(settings.guards)
        self.shares = Shares(store, inboxes, roster, settings.guards)
        self.log = log
        self.room = Room(settings, log)
        self.backups = Backups(settings, self.room, log)
        self.feed = Feed(store, place, self._arrived, log, self.room)
        self.tellings = Tellings(self.feed, log)
        self.leases = Leases(inboxes, self.tellings.tell)
        self.outbox = Outbox(self.feed, inboxes)
        self.beginnings: Together[Beginning, int] = Together(self.feed.write, lambda: turns.begin)
        self.endings: Together[Ended, TurnClosed] = Together(self.feed.write, lambda: turns.end_together)
        self.harnesses = Harnesses(self.feed)
        self.behind = Behind(store, self.feed, inboxes, self.room, log)
        self.sweeping = Sweeping(store, settings.retention, log)
        self.scheduler = Scheduler(self.feed, store, inboxes, self.room, log)
        self.deadlines = Deadlines(store, self.feed, log)
        self.digests = Digests(store, self.feed, inboxes, roster, log)
        self.accounts = Accounts(
            store, self.feed, inboxes, self.leases, self.harnesses, self.digests, roster, log
        )
        self.limit_hits = LimitHits(store, self.feed, inboxes, self.digests, roster, log)
        self.egress = Egress()
        self.privd = Client(settings.swarm)
        self.health = Health(self.harnesses, log)
        self.standing = StandingReminders(self.feed, self.scheduler, self.health, log)
        self.decisions = Decisions(self.feed, inboxes, roster, told)

    def _arrived(self, entry: Entry) -> None:
        self.inboxes.follow(entry)
        if entry.opened < 0:
            self.deadlines.follow(entry)


async def open_host(settings: BrokerSettings, store: Store, boot: str, log: Log) -> Host:
    """Take up where brokerd stopped: turns that ran may go on for another lease, nobody is attached yet."""
    place = await store.write(feed.open_feed, boot)
    inboxes = Inboxes(
        await store.read(deliveries.open_counts),
        await store.read(deliveries.open_bytes),
        await store.read(pauses.read_all),
        await store.read(agents.held_by_limits),
        settings.guards,
    )
    hops = Hops(await store.read(pulls.hops_of_last))
    roster = Roster()
    for row in await store.read(agents.read_known):
        if row.known is None:
            log.error(
                "an agent's settings cannot be read; privd will tell them anew",
                agent=row.name,
                fault=row.fault,
            )
        else:
            roster.know(row.known)
    roster.models |= await store.read(agents.chosen_models)
    told = await store.read(decisions.read_all)
    host = Host(settings, store, place, inboxes, roster, hops, told, log)
    host.behind.must_begin_anew = await store.read(behind.is_ahead)
    await host.feed.write(agents.start_anew)
    for running in await store.read(turns.read_open):
        host.leases.resume(running, await store.read(pulls.waiting_of, running.delivery))
    host.accounts.follow()
    return host
