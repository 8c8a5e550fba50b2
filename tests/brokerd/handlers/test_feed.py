"""The feed over the socket: every number exactly once, whoever comes back from wherever."""

import random
from typing import Any

import msgspec
import pytest
import trio

from brokerd.store import feed as stored
from protocol.brokerd import (
    AgentChanged,
    DeliveryChanged,
    FeedEvent,
    MessageSent,
    TakeSnapshot,
    TurnChanged,
    WatchFeed,
)
from protocol.limits import FEED_BACKLOG_ROWS_MAX
from protocol.messages import DeliveryState
from protocol.problem import Problem, Refused
from protocol.tools import SetStatus
from protocol.turns import Outcome
from runtime.client import Client, Events
from tests.brokerd.hive import Hive
from tests.support.quiet import settled
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def read_to(events: Events[FeedEvent], seq: int) -> list[FeedEvent]:
    read: list[FeedEvent] = []
    with trio.fail_after(20):
        async for event in events:
            read.append(event)
            if event.seq >= seq:
                break
    return read


async def test_the_life_of_a_message_is_told_in_order(hive: Hive) -> None:
    await hive.attach("iris")
    start = await hive.snapshot()
    sent = await hive.send("operator", "iris")
    delivery, turn = await hive.begun("iris")
    await hive.end("iris", turn)
    end = await hive.snapshot()
    async with hive.operator.watch(WatchFeed(start.epoch, start.seq)) as events:
        told = await read_to(events, end.seq)
    assert [event.seq for event in told] == list(range(start.seq + 1, end.seq + 1))
    changes = [event.body for event in told if isinstance(event.body, TurnChanged)]
    deliveries = [receipt for change in changes for receipt in change.deliveries]
    assert [(receipt.id, receipt.state) for receipt in deliveries] == [
        (delivery.id, DeliveryState.IN_TURN),
        (delivery.id, DeliveryState.DONE),
    ]
    turns = [change.turn for change in changes]
    assert [(each.id, each.outcome) for each in turns] == [(turn, None), (turn, Outcome.DONE)]
    (iris,) = [now.agent for now in start.agents if now.agent.name == "iris"]
    assert [iris.after(each).activity for each in turns] == ["thinking", "idle"]
    (message,) = [event.body.message for event in told if isinstance(event.body, MessageSent)]
    assert message.id == sent.message
    assert told[0].seq == sent.seq


async def test_a_lease_is_told(hive: Hive) -> None:
    start = await hive.snapshot()
    await hive.send("operator", "iris")
    delivery = await hive.taken("iris")
    async with hive.operator.watch(WatchFeed(start.epoch, start.seq)) as events:
        told = await read_to(events, start.seq + 2)
    body = told[-1].body
    assert isinstance(body, DeliveryChanged)
    assert (body.delivery.id, body.delivery.state) == (delivery.id, DeliveryState.LEASED)


def apply(state: dict[str, Any], event: FeedEvent) -> None:
    """A dashboard: whole rows by their number."""
    body = event.body
    if isinstance(body, MessageSent):
        state["messages"][body.message.id] = {each.id: each.state for each in body.message.deliveries}
    elif isinstance(body, DeliveryChanged):
        state["messages"].setdefault(body.delivery.message, {})[body.delivery.id] = body.delivery.state
    elif isinstance(body, AgentChanged):
        state["agents"][body.agent.name] = body.agent
    elif isinstance(body, TurnChanged):
        state["agents"][body.turn.agent] = state["agents"][body.turn.agent].after(body.turn)
        for receipt in body.deliveries:
            state["messages"].setdefault(receipt.message, {})[receipt.id] = receipt.state


async def test_a_snapshot_and_what_follows_it_are_the_whole(hive: Hive) -> None:
    """Snapshots are taken in the middle of everything; each, continued by the feed, comes to the same end."""
    watched: list[dict[str, Any]] = []

    async def work(name: str) -> None:
        for number in range(15):
            await hive.send("operator", name, str(number))
            _, turn = await hive.begun(name)
            await hive.end(name, turn, Outcome.DONE if number % 3 else Outcome.OVERLOADED)

    async def dashboard(delay: int) -> None:
        async with Client(hive.settings.operator_socket) as client:
            for _ in range(delay):
                await client.call(TakeSnapshot())
            start = await client.call(TakeSnapshot())
            state: dict[str, Any] = {
                "messages": {m.id: {r.id: r.state for r in m.deliveries} for m in start.messages},
                "agents": {now.agent.name: now.agent for now in start.agents},
            }
            async with client.watch(WatchFeed(start.epoch, start.seq)) as events:
                await done.wait()
                end = (await hive.snapshot()).seq
                seen = start.seq
                while seen < end:
                    event = await anext(events)
                    assert event.seq == seen + 1
                    seen = event.seq
                    apply(state, event)
            watched.append(state)

    done = trio.Event()
    async with trio.open_nursery() as nursery:
        for delay in range(12):
            nursery.start_soon(dashboard, delay)
        async with trio.open_nursery() as workers:
            for name in ("iris", "atlas", "hm1nd"):
                workers.start_soon(work, name)
        done.set()
    assert len(watched) == 12
    end = await hive.snapshot()
    for state in watched:
        assert state["agents"] == {now.agent.name: now.agent for now in end.agents}
        for message in end.messages:
            assert state["messages"][message.id] == {each.id: each.state for each in message.deliveries}


async def test_whoever_comes_back_misses_nothing_and_hears_nothing_twice(hive: Hive) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    start = await hive.snapshot()
    seen: list[int] = []
    sent: list[int] = []

    async def talk() -> None:
        for number in range(150):
            await hive.agent("atlas").call(SetStatus(str(number)))
            sent.append((await hive.send("operator", "iris", str(number))).seq)
        await hive.agent("atlas").call(
            SetStatus("over")
        )  # one more to hear, should the last have come before its reply

    async def watch() -> None:
        since = start.seq
        while not (len(sent) == 150 and since >= sent[-1]):
            async with Client(hive.settings.operator_socket) as client:
                async with client.watch(WatchFeed(start.epoch, since)) as events:
                    for _ in range(chance.randrange(1, 20)):
                        event = await anext(events)
                        since = event.seq
                        seen.append(since)
                        if len(sent) == 150 and since >= sent[-1]:
                            break

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            nursery.start_soon(watch)
    assert seen == list(range(start.seq + 1, seen[-1] + 1))
    assert set(sent) <= set(seen)


async def test_the_feed_goes_on_over_a_restart(unserved: Hive) -> None:
    hive = unserved
    async with hive.broker():
        start = await hive.snapshot()
        first = await hive.send("operator", "iris")
    async with hive.broker():
        second = await hive.send("operator", "iris")
        assert (await hive.snapshot()).epoch == start.epoch
        async with hive.operator.watch(WatchFeed(start.epoch, start.seq)) as events:
            told = await read_to(events, second.seq)
    assert [event.seq for event in told] == list(range(start.seq + 1, second.seq + 1))
    assert first.seq in {event.seq for event in told}


@pytest.mark.parametrize("place", ["another epoch", "the future"])
async def test_a_place_that_never_was_needs_a_snapshot(hive: Hive, place: str) -> None:
    now = await hive.snapshot()
    epoch, since = ("0" * 32, now.seq) if place == "another epoch" else (now.epoch, now.seq + 1_000)
    with pytest.raises(Refused, match="take a snapshot") as refused:
        async with hive.operator.watch(WatchFeed(epoch, since)) as events:
            await anext(events)
    assert refused.value.problem is Problem.NOT_FOUND


async def test_a_place_too_far_back_needs_a_snapshot(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FEED_BACKLOG_ROWS_MAX == 20_000
    monkeypatch.setattr(stored, "FEED_BACKLOG_ROWS_MAX", 5)
    start = await hive.snapshot()
    for number in range(6):
        await hive.agent("iris").call(SetStatus(str(number)))
    with pytest.raises(Refused, match=f"{start.seq} is too far back: take a snapshot"):
        async with hive.operator.watch(WatchFeed(start.epoch, start.seq)) as events:
            await anext(events)
    async with hive.operator.watch(WatchFeed(start.epoch, start.seq + 1)) as events:
        assert (await anext(events)).seq == start.seq + 2


async def test_an_entry_that_cannot_be_read_hides_no_other(
    hive: Hive, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = await hive.snapshot()
    for number in range(3):
        await hive.agent("iris").call(SetStatus(str(number)))
    real = stored._body_decoder

    class Broken:
        def decode(self, body: bytes) -> object:
            if b'"status":"1"' in body:
                raise msgspec.DecodeError("worms")
            return real.decode(body)

    monkeypatch.setattr(stored, "_body_decoder", Broken())
    async with hive.operator.watch(WatchFeed(start.epoch, start.seq)) as events:
        told = await read_to(events, start.seq + 3)
    assert [event.seq for event in told] == [start.seq + 1, start.seq + 3]
    assert "a feed entry cannot be read" in "".join(capsys.readouterr())


async def test_a_watcher_that_falls_behind_is_told_where_to_go_on(hive: Hive) -> None:
    """It does not read at all; others are served as ever, and it finds out when it reads again."""
    start = await hive.snapshot()
    async with hive.operator.watch(WatchFeed(start.epoch, start.seq)) as events:
        for number in range(40):
            await hive.send("operator", "iris", f"{number} " + "x" * 60_000)
        end = (await hive.snapshot()).seq
        told = await read_to(events, end)
    assert [event.seq for event in told] == list(range(start.seq + 1, end + 1))


async def test_a_snapshot_shows_what_waits_for_the_operator(hive: Hive) -> None:
    sent = await hive.send("iris", "operator", "please look")
    shown = await hive.snapshot()
    assert [message.id for message in shown.wanting] == [sent.message]
    assert (shown.operator_unread, shown.messages_hour) == (1, 1)


async def test_a_watch_that_waits_hears_at_once(hive: Hive) -> None:
    start = await hive.snapshot()
    heard: list[int] = []

    async def watch() -> None:
        async with hive.operator.watch(WatchFeed(start.epoch, start.seq)) as events:
            while True:
                heard.append((await anext(events)).seq)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await settled()
        sent = await hive.send("operator", "iris")
        await until(lambda: sent.seq in heard, what="the message in the feed")
        nursery.cancel_scope.cancel()
