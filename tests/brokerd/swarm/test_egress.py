"""Following egressd: whom it turned away is kept and shown, and nothing waits for it."""

import pytest
from trio.testing import MockClock

from brokerd.live.egress import AWAY, AWAY_S
from brokerd.live.sweeping import Sweeping
from brokerd.policy.retention import DAY_MS, Retention
from brokerd.store import egress, schema
from brokerd.store.egress import HOUR_MS, HOUR_ROWS_MAX
from brokerd.swarm.egress import HOST_CHARS_MAX, RETRY_MAX_S
from protocol.brokerd import EgressRefused as Told
from protocol.brokerd import ListEgress, WatchFeed
from protocol.egressd import EgressRefused, Refusal
from protocol.hello import Hello
from protocol.limited import EgressRefusal
from runtime.clock import now_ms
from runtime.log import logger
from runtime.store import open_store
from tests.brokerd.hive import Egressd, Hive
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


def turned(
    agent: str = "iris",
    host: str = "example.org",
    *,
    why: Refusal = Refusal.NOT_ALLOWED,
    at_ms: int | None = None,
    times: int = 1,
) -> EgressRefused:
    return EgressRefused(agent, now_ms() if at_ms is None else at_ms, why, host, 443, times)


async def listed(hive: Hive, times: int, agent: str | None = None) -> list[EgressRefusal]:
    """Oldest first, once so many are kept of all agents together."""

    async def are_kept() -> bool:
        rows = (await hive.operator.call(ListEgress(limit=200))).refusals
        return sum(row.times for row in rows) == times

    await until(are_kept, what=f"{times} refusals")
    return list((await hive.operator.call(ListEgress(agent=agent, limit=200))).refusals)[::-1]


async def test_repeats_of_an_hour_are_one_row(hive: Hive) -> None:
    egressd, start_ms = Egressd(hive.folder), now_ms()
    async with egressd.serving():
        for event in (
            turned(),
            turned(times=3),
            turned("atlas"),
            turned(why=Refusal.LEADS_INSIDE),
            turned(host="other.org"),
        ):
            egressd.events.publish(event)
        rows = await listed(hive, 7)
        assert [(row.agent, row.host, row.why, row.times) for row in rows] == [
            ("iris", "example.org", Refusal.NOT_ALLOWED, 4),
            ("atlas", "example.org", Refusal.NOT_ALLOWED, 1),
            ("iris", "example.org", Refusal.LEADS_INSIDE, 1),
            ("iris", "other.org", Refusal.NOT_ALLOWED, 1),
        ]
        egressd.events.publish(turned(at_ms=start_ms + 2 * HOUR_MS))
        assert [row.times for row in await listed(hive, 8, "iris")] == [4, 1, 1, 1]
        assert [row.agent for row in await listed(hive, 8, "atlas")] == ["atlas"]


async def test_pages_lead_back_to_the_first(hive: Hive) -> None:
    egressd = Egressd(hive.folder)
    async with egressd.serving():
        for number in range(7):
            egressd.events.publish(turned(host=f"h{number}.org"))
        await listed(hive, 7)
    found: list[str] = []
    before = None
    while True:
        page = await hive.operator.call(ListEgress(before=before, limit=3))
        found += [row.host for row in page.refusals]
        before = page.before
        if before is None:
            break
    assert found == [f"h{number}.org" for number in reversed(range(7))]


async def test_what_one_agent_can_have_kept_of_an_hour_is_bounded(hive: Hive) -> None:
    egressd, at_ms = Egressd(hive.folder), now_ms()
    async with egressd.serving():
        for number in range(HOUR_ROWS_MAX + 50):
            why = Refusal.NOT_ALLOWED if number % 2 else Refusal.LEADS_INSIDE
            egressd.events.publish(turned(host=f"h{number}.org", why=why, at_ms=at_ms))
        egressd.events.publish(turned(host="h0.org", why=Refusal.LEADS_INSIDE, at_ms=at_ms))
        rows = await listed(hive, HOUR_ROWS_MAX + 51)
        assert len(rows) == HOUR_ROWS_MAX + 2
        assert [(row.host, row.times) for row in rows[HOUR_ROWS_MAX:]] == [("", 25), ("", 25)]
        assert rows[0].times == 2
        egressd.events.publish(turned(host="later.org", at_ms=at_ms + HOUR_MS + 1))
        assert (await listed(hive, HOUR_ROWS_MAX + 52))[-1].host == "later.org"


async def test_what_egressd_says_of_nobody_is_not_kept_and_hosts_are_cut(hive: Hive) -> None:
    egressd = Egressd(hive.folder)
    async with egressd.serving():
        egressd.events.publish(turned("nobody"))
        egressd.events.publish(turned(host="x" * 10_000))
        (row,) = await listed(hive, 1)
        assert (row.agent, row.host) == ("iris", "x" * HOST_CHARS_MAX)


async def test_the_feed_and_the_next_snapshot_tell_of_it(unserved: Hive) -> None:
    hive, egressd = unserved, Egressd(unserved.folder)
    async with hive.broker():
        start = await hive.snapshot()
        async with egressd.serving():
            egressd.events.publish(turned())
            (row,) = await listed(hive, 1)
        async with hive.operator.watch(WatchFeed(start.epoch, start.seq)) as events:
            told = await anext(aiter(events))
            assert told.body == Told(row)
    async with hive.broker():
        assert (await hive.snapshot()).refusals == (row,)


async def test_it_is_removed_with_the_events_of_turns(unserved: Hive) -> None:
    hive, egressd = unserved, Egressd(unserved.folder)
    async with hive.broker(), egressd.serving():
        egressd.events.publish(turned())
        assert len(await listed(hive, 1)) == 1
    shape = schema.shape_of(hive.settings.database, hive.settings.events_database)
    async with open_store(shape, schema.migrate) as store:
        sweeping = Sweeping(store, Retention(turn_events_days=30), logger("test"))
        assert "egress_refusals" not in await sweeping.sweep(now_ms() + 29 * DAY_MS)
        assert (await sweeping.sweep(now_ms() + 31 * DAY_MS))["egress_refusals"] == 1
        assert await store.read(egress.newest, None, None, 10) == ()


async def test_brokerd_does_without_egressd_and_says_so_after_a_while(hive: Hive, clock: MockClock) -> None:
    assert (await hive.operator.call(Hello())).degraded == ()
    clock.jump(AWAY_S)
    assert (await hive.operator.call(Hello())).degraded == (AWAY,)
    egressd = Egressd(hive.folder)
    for _ in range(2):
        async with egressd.serving():
            assert (await hive.operator.call(Hello())).degraded == ()
        await until(lambda: not egressd.events, what="egressd to be gone")
        clock.jump(AWAY_S / 2)
        assert (await hive.operator.call(Hello())).degraded == ()
        clock.jump(AWAY_S + RETRY_MAX_S)  # brokerd may have noticed only after the other jump
        assert (await hive.operator.call(Hello())).degraded == (AWAY,)
    assert (await hive.send("operator", "iris")).recipients == ("iris",)
