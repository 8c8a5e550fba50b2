"""What webd hears: exactly one watch on privd's cages and one on brokerd's feed, opened again whenever they end.

While a daemon is away everything that is known stays shown, the hive's row says who is away, and the watch goes on from
where it ended as soon as somebody answers. Only a feed that began anew is taken up by a snapshot.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeVar

import trio

from protocol.approvals import Deployment
from protocol.brokerd import FeedEvent, ListMessages, Snapshot, TakeSnapshot, WatchFeed
from protocol.configuration import DecisionsNow, ReadBuildLog, WatchDeployments
from protocol.hello import Hello
from protocol.messages import Message
from protocol.privd import (
    AnyCageEvent,
    CageChanged,
    CageCrashed,
    CageGone,
    CageLimitHit,
    CageRebuilt,
    CagesNow,
    WatchCages,
)
from protocol.problem import Problem, Refused
from protocol.rpc import Call
from protocol.tools import ListReminders, ReminderPage
from runtime.backoff import delays
from runtime.client import Client, Disconnected
from runtime.log import Log
from webd.live.flow import WINDOW_MESSAGES
from webd.live.hub import Hub
from webd.live.schedules import WINDOW_REMINDERS
from webd.live.tails import Tails
from webd.live.world import ANEW, Change, Unknown, World
from webd.policy.topics import REMINDERS, TAIL

AGAIN_FIRST_S: Final = 0.05
AGAIN_MAX_S: Final = 0.4
"""A daemon that is back is noticed this soon."""
ASK_S: Final = 5.0
GREET_EVERY_S: Final = 10.0
TICK_S: Final = 10.0

R = TypeVar("R")

Clock = Callable[[], int]


class Picture:
    """The world and the hub that tells of it, as one: whatever changes the former is told by the latter."""

    def __init__(self, world: World, hub: Hub, now_ms: Clock) -> None:
        self.world = world
        self.hub = hub
        self.now_ms = now_ms
        self._moved = trio.Event()

    def tell(self, changes: list[Change]) -> None:
        self.hub.publish(changes)
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    async def until(self, holds: Callable[[], bool], within_s: float) -> bool:
        """Wait until something holds of the world; False when it does not in time."""
        with trio.move_on_after(within_s):
            while not holds():
                await self._moved.wait()
        return holds()

    async def tick(self) -> None:
        """For as long as webd lives: what changes with time alone."""
        while True:
            await trio.sleep(TICK_S)
            self.tell(self.world.tick(self.now_ms()))


class Source(Protocol):
    """One daemon's watch: runs until the daemon leaves; calls `here` once it is being watched."""

    client: Client

    @property
    def name(self) -> str: ...

    async def watch(self, here: Callable[[], None]) -> None: ...


async def follow(source: Source, picture: Picture, log: Log) -> None:
    """For as long as webd lives: watch a daemon, again and again, and say whether it is there."""
    log = log.bind(of=source.name)
    waits = delays(AGAIN_FIRST_S, AGAIN_MAX_S)
    lost_s: float | None = None

    def say(*, up: bool) -> None:
        picture.tell(picture.world.daemon(source.name, up=up, now_ms=picture.now_ms()))

    def here() -> None:
        nonlocal waits, lost_s
        say(up=True)
        away_s = None if lost_s is None else round(trio.current_time() - lost_s, 2)
        log.info("a daemon is here", away_s=away_s)
        waits, lost_s = delays(AGAIN_FIRST_S, AGAIN_MAX_S), None

    while True:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_greet, source, picture)
                await source.watch(here)
        except* (Disconnected, Refused) as fault:
            if lost_s is None:
                log.warning("a daemon is out of sight", reason=str(_first(fault)))
                lost_s = trio.current_time()
        say(up=False)
        await trio.sleep(next(waits))


def _first(fault: BaseException) -> BaseException:
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault


async def _greet(source: Source, picture: Picture) -> None:
    """Ask now and then who is there: a daemon that hangs is as good as away."""
    while True:
        greeting = await _asked(source.client, Hello(), source.name)
        picture.tell(picture.world.greeted(greeting, picture.now_ms()))
        await trio.sleep(GREET_EVERY_S)


async def _asked(client: Client, request: Call[R], name: str) -> R:
    try:
        with trio.fail_after(ASK_S):
            return await client.call(request)
    except trio.TooSlowError:
        raise Disconnected(f"{name} does not answer within {ASK_S:g} s") from None


class Presence:
    """A daemon that has nothing to watch: whether it answers."""

    def __init__(self, name: str, client: Client) -> None:
        self.name: Final = name
        self.client = client

    async def watch(self, here: Callable[[], None]) -> None:
        await _asked(self.client, Hello(), self.name)
        here()
        await trio.sleep_forever()


class Cages:
    """privd's cages, and what is proposed, decided and deployed."""

    name: Final[str] = "privd"

    def __init__(self, client: Client, picture: Picture) -> None:
        self.client = client
        self._picture = picture

    async def watch(self, here: Callable[[], None]) -> None:
        decided = trio.Event()
        async with trio.open_nursery() as both:
            both.start_soon(self._decisions, decided)
            async with self.client.watch(WatchCages()) as events:
                async for event in events:
                    self._picture.tell(self._changes(event))
                    if isinstance(event, CagesNow):
                        await decided.wait()
                        here()

    async def _decisions(self, begun: trio.Event) -> None:
        picture = self._picture
        async with self.client.watch(WatchDeployments()) as events:
            async for event in events:
                picture.tell(picture.world.decided(event, picture.now_ms()))
                if isinstance(event, DecisionsNow):
                    begun.set()
                    for deployment in picture.world.decisions.going():
                        await self._log_until_now(deployment)

    async def _log_until_now(self, deployment: Deployment) -> None:
        """What its log said while nobody listened. One that cannot be read hides nothing else."""
        agent, number = deployment.agent, deployment.number
        try:
            page = await _asked(self.client, ReadBuildLog(agent=agent, number=number), self.name)
        except Refused as refused:
            text = f"the log of deployment {number} of {agent} could not be read: {refused.detail}"
            self._picture.tell(self._picture.world.failed_late(text, self._picture.now_ms()))
            return
        self._picture.tell(self._picture.world.log_read(agent, number, page.lines))

    def _changes(self, event: AnyCageEvent) -> list[Change]:
        world, now_ms = self._picture.world, self._picture.now_ms()
        match event:
            case CagesNow(cages):
                return world.cages_now(cages, now_ms)
            case CageChanged(cage):
                return world.cage_changed(cage, now_ms)
            case CageGone(agent):
                return world.cage_gone(agent, now_ms)
            case CageCrashed() | CageRebuilt() | CageLimitHit():
                return []  # its row follows and says why; brokerd tells of limits


class Feed:
    """brokerd's feed: a snapshot once, then everything after it, by number."""

    name: Final[str] = "brokerd"

    def __init__(self, client: Client, picture: Picture, tails: Tails, log: Log) -> None:
        self.client = client
        self._picture = picture
        self._tails = tails
        self._log = log
        self._epoch: str | None = None

    async def watch(self, here: Callable[[], None]) -> None:
        while True:
            if self._epoch is None:
                await self._begin()
            try:
                await self._go_on(here)
            except Refused as refused:
                if refused.problem is not Problem.NOT_FOUND:
                    raise
                self._log.warning("the feed began anew", reason=refused.detail)
                self._epoch = None

    async def _begin(self) -> None:
        """Take everything up as it is now. Streams are told by snapshots of their own."""
        snapshot = await _asked(self.client, TakeSnapshot(), self.name)
        older = await self._older_than(snapshot)
        reminders = await self._next_reminders()
        picture = self._picture
        picture.tell(picture.world.broker_now(snapshot, older, picture.now_ms()))
        picture.world.schedules.start_from(reminders.reminders, more=reminders.after is not None)
        picture.hub.break_off(*ANEW)
        self._epoch = snapshot.epoch
        await self._tails.reload()
        picture.hub.break_off(TAIL)

    async def _older_than(self, snapshot: Snapshot) -> list[Message]:
        """What a snapshot had no room for, up to a whole window; oldest first."""
        older: list[Message] = []
        before = snapshot.messages[0].id if snapshot.messages else None
        while before is not None and len(snapshot.messages) + len(older) < WINDOW_MESSAGES:
            left = WINDOW_MESSAGES - len(snapshot.messages) - len(older)
            page = await _asked(self.client, ListMessages(before=before, limit=left), self.name)
            older = [*reversed(page.messages), *older]
            before = page.before if page.messages else None
        return older

    async def _next_reminders(self) -> ReminderPage:
        """Those that are due soonest, as many as are shown. What goes wrong with them hides nothing else."""
        try:
            return await _asked(self.client, ListReminders(limit=WINDOW_REMINDERS), self.name)
        except Refused as refused:
            self._log.warning("the reminders could not be read", reason=refused.detail)
            text = f"the reminders could not be read: {refused.detail}"
            self._picture.tell(self._picture.world.failed_late(text, self._picture.now_ms()))
            return ReminderPage(())

    async def _go_on(self, here: Callable[[], None]) -> None:
        world = self._picture.world
        async with self.client.watch(WatchFeed(epoch=self._epoch or "", since=world.seq)) as events:
            here()
            async for event in events:
                await self._take_in(event)

    async def _take_in(self, event: FeedEvent) -> None:
        world, now_ms = self._picture.world, self._picture.now_ms()
        try:
            changes = world.heard(event, now_ms)
        except Unknown as unknown:
            await self._fetch(unknown.messages)
            changes = world.heard(event, now_ms)
        for change in changes:
            if change.topic.startswith(TAIL):
                self._tails.take(change.topic.removeprefix(TAIL), change.data)
        self._picture.tell(changes)
        if world.schedules.is_thin:
            soonest = await self._next_reminders()
            world.schedules.start_from(soonest.reminders, more=soonest.after is not None)
            self._picture.hub.break_off(REMINDERS)

    async def _fetch(self, numbers: Iterable[int]) -> None:
        """Messages that were let go. One that brokerd itself has let go is shown no more: its change is not either."""
        found: list[Message] = []
        for number in numbers:
            page = await _asked(self.client, ListMessages(before=number + 1, limit=1), self.name)
            if page.messages and page.messages[0].id == number:
                found.append(page.messages[0])
            else:
                self._picture.world.expire(number)
        self._picture.world.fetched(found)
