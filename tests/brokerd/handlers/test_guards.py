"""Guards over the sockets: floods are refused, loops are parked, what the operator holds back stays where it is."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from brokerd.handlers import guards as handlers
from brokerd.policy.guards import HOUR_S, MINUTE_S, Guards
from protocol.agent import BeginTurn, Delivery, PublishEvents, ReportParked, WatchCommands
from protocol.brokerd import (
    AgentChanged,
    CloseThread,
    FeedEvent,
    PauseAgent,
    ReleaseThread,
    ResumeAgent,
    RetryDelivery,
    Snapshot,
    ThreadParked,
    ThreadReleased,
    WakeParked,
    WatchFeed,
)
from protocol.limits import BODY_BYTES_MAX
from protocol.messages import DeliveryState
from protocol.privd import Power
from protocol.problem import Problem, Refused
from protocol.tools import Recv, Sent
from protocol.turns import Noted, Outcome, Said
from runtime.clock import new_key
from tests.brokerd.hive import Hive, cage
from tests.support.quiet import settled
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

HELD, QUEUED, DEAD, DONE = DeliveryState.HELD, DeliveryState.QUEUED, DeliveryState.DEAD, DeliveryState.DONE
SHORT = Guards(
    messages_per_minute=100_000,
    pair_messages_per_minute=100_000,
    bytes_per_minute=2**40,
    hops_max=6,
)
DEFAULTS = pytest.mark.parametrize("guards", [Guards()])
SHORT_CHAINS = pytest.mark.parametrize("guards", [SHORT])


async def refusal(asking: Awaitable[object]) -> str:
    with pytest.raises(Refused) as refused:
        await asking
    assert refused.value.problem is Problem.LIMIT
    return refused.value.detail


# Rates.


@DEFAULTS
async def test_a_pair_and_an_agent_are_slowed_down_and_go_on(hive: Hive, clock: MockClock) -> None:
    for _ in range(20):
        await hive.send("iris", "atlas")
    refused = await refusal(hive.send("iris", "atlas"))
    assert refused.startswith(
        "iris to atlas: at most 20 messages in a minute; nothing was stored, try again in "
    )
    for to in ("hm1nd", "operator"):
        for _ in range(20):
            await hive.send("iris", to)
    assert "iris: at most 60 messages in a minute" in await refusal(hive.send("iris", "manager"))
    await hive.send("atlas", "iris")
    assert len(await hive.messages()) == 61
    clock.jump(MINUTE_S)
    assert (await hive.send("iris", "atlas")).recipients == ("atlas",)


@DEFAULTS
async def test_a_repeat_is_answered_whatever_was_sent_since_and_costs_nothing(hive: Hive) -> None:
    key = new_key()
    first = await hive.send("iris", "atlas", key=key)
    for _ in range(30):
        assert await hive.send("iris", "atlas", key=key) == first
    for _ in range(19):
        await hive.send("iris", "atlas")
    await refusal(hive.send("iris", "atlas"))
    assert await hive.send("iris", "atlas", key=key) == first


@DEFAULTS
async def test_what_is_refused_for_another_reason_costs_nothing(hive: Hive) -> None:
    for _ in range(70):
        with pytest.raises(Refused, match="there is no agent"):
            await hive.send("iris", "nobody")
    await hive.send("iris", "atlas")


@DEFAULTS
async def test_the_operator_and_the_hive_are_not_slowed_down_as_agents_are(hive: Hive) -> None:
    for _ in range(100):
        await hive.send("operator", "iris")
    assert len(await hive.messages()) == 100


@pytest.mark.parametrize("to", ["operator", "atlas"])
@DEFAULTS
async def test_a_flood_stores_no_more_than_the_bound(hive: Hive, clock: MockClock, to: str) -> None:
    """A harness that sends the longest bodies as fast as it can, for a long time."""
    bounds, stored = Guards(), 0
    for _ in range(60):
        while await was_stored(hive, to):
            stored += BODY_BYTES_MAX
        clock.jump(MINUTE_S)
    assert bounds.share_bytes_max - BODY_BYTES_MAX < stored <= bounds.share_bytes_max
    assert "bytes of iris's messages wait" in await refusal(hive.send("iris", to, "x" * BODY_BYTES_MAX))
    assert (await hive.send("hm1nd", to, "x" * BODY_BYTES_MAX)).recipients == (to,)


async def was_stored(hive: Hive, to: str) -> bool:
    """Send the longest body; False when it was one too much."""
    try:
        await hive.send("iris", to, "x" * BODY_BYTES_MAX)
    except Refused as refused:
        if refused.problem is not Problem.LIMIT:
            raise
        return False
    return True


@pytest.mark.parametrize("guards", [Guards(inbox_bytes_max=BODY_BYTES_MAX)])
async def test_bytes_wait_until_their_messages_are_settled(unserved: Hive) -> None:
    hive, half = unserved, "é" * (BODY_BYTES_MAX // 4)
    async with hive.broker():
        await hive.send("operator", "iris", half)
        await hive.send("operator", "iris", half)
        assert await refusal(hive.send("operator", "iris", "x")) == (
            "iris has 65536 bytes of messages waiting, at most 65536 are allowed; nothing was stored"
        )
    async with hive.broker():
        await refusal(hive.send("operator", "iris", "x"))
        _, turn = await hive.begun("iris")
        await refusal(hive.send("operator", "iris", "x"))
        await hive.end("iris", turn)
        await hive.send("operator", "iris", half)
        await refusal(hive.send("operator", "iris", "x"))


@pytest.mark.parametrize("guards", [Guards(turn_events_max=4)])
async def test_a_turn_publishes_so_much_and_a_note_of_what_is_missing(hive: Hive) -> None:
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    await hive.agent("iris").call(PublishEvents(turn, tuple(Said(n, 1, "x") for n in range(4))))
    with pytest.raises(Refused, match="at most 4 turn events are kept of one turn") as refused:
        await hive.agent("iris").call(PublishEvents(turn, (Said(4, 1, "x"),)))
    assert refused.value.problem is Problem.LIMIT
    await hive.agent("iris").call(PublishEvents(turn, (Noted(4, 1, "1 event was left out"),)))
    await hive.end("iris", turn)
    with pytest.raises(Refused) as refused:  # whose turn it is comes first
        await hive.agent("iris").call(PublishEvents(turn, (Said(9, 1, "x"),)))
    assert refused.value.problem is Problem.CONFLICT


@pytest.mark.parametrize("guards", [Guards(turns_per_hour=2)])
async def test_turns_that_begin_are_counted_and_what_is_refused_waits(hive: Hive, clock: MockClock) -> None:
    """A harness that begins and interrupts a turn for ever writes a row for each."""
    await hive.send("operator", "iris")
    for _ in range(2):
        _, turn = await hive.begun("iris")
        await hive.end("iris", turn, Outcome.INTERRUPTED)
    delivery = await hive.taken("iris")
    with pytest.raises(Refused, match="iris: at most 2 turns in an hour") as refused:
        await hive.begin("iris", delivery)
    assert refused.value.problem is Problem.LIMIT
    clock.jump(HOUR_S / 2)
    again, _ = await hive.begun("iris")
    assert (again.id, again.attempt) == (delivery.id, 1)


# Hops.


async def answer_for_ever(hive: Hive, name: str, other: str, *, replying: bool, sent: list[Sent]) -> None:
    """An agent that answers whatever it gets."""
    await hive.attach(name)
    while True:
        delivery = await hive.take(name, wait_s=60)
        if delivery is None:
            continue
        turn = await hive.begin(name, delivery)
        reply_to = {"in_reply_to": delivery.message.id} if replying else {}
        sent.append(await hive.send(name, other, f"and you? ({len(sent)})", **reply_to))
        await hive.end(name, turn)


async def came_to_rest(hive: Hive, sent: list[Sent]) -> None:
    async def held() -> bool:
        return bool(sent) and sent[-1].held

    await until(held, what="the chain to be held")
    await settled()


@pytest.mark.parametrize("replying", [True, False], ids=["one thread", "no threads"])
@SHORT_CHAINS
async def test_two_agents_that_answer_each_other_for_ever_stop_and_go_on_when_released(
    hive: Hive, replying: bool
) -> None:
    sent: list[Sent] = []
    async with trio.open_nursery() as agents:
        for name, other in (("iris", "atlas"), ("atlas", "iris")):
            agents.start_soon(partial(answer_for_ever, hive, name, other, replying=replying, sent=sent))
        await hive.send("operator", "iris", "say hello to atlas")
        for round_ in (1, 2):
            await came_to_rest(hive, sent)
            assert [each.held for each in sent] == ([False] * 6 + [True]) * round_
            (parked,) = (await hive.snapshot()).parked
            assert (parked.thread, parked.agents, parked.held) == (sent[-1].thread, ("atlas", "iris"), 1)
            assert (parked.hops, await hive.states(sent[-1].message)) == (7, [HELD])
            released = sent[-1]
            await hive.operator.call(ReleaseThread(parked.thread))
            assert (await hive.snapshot()).parked == () or sent[-1] is not released
            await until(partial(moved_on, sent, released), what="the agents to go on")
        agents.cancel_scope.cancel()
    assert await hive.states(sent[6].message) == [DONE]


async def moved_on(sent: list[Sent], before: Sent) -> bool:
    return sent[-1] is not before


@SHORT_CHAINS
async def test_a_message_counts_from_the_farthest_of_its_turn(hive: Hive) -> None:
    async def hops_of(sent: Sent) -> int:
        return next(each.hops for each in await hive.messages() if each.id == sent.message)

    assert await hops_of(await hive.send("operator", "iris")) == 0
    _, first = await hive.begun("iris")
    far = await hive.send("iris", "atlas")
    await hive.end("iris", first)
    assert await hops_of(far) == 1
    assert await hops_of(await hive.send("iris", "hm1nd")) == 1  # after the turn, as in it
    _, second = await hive.begun("atlas")
    assert await hops_of(await hive.send("atlas", "iris")) == 2
    await hive.end("atlas", second)
    await hive.send("operator", "iris")
    await hive.send("operator", "iris")
    taken = [await hive.begun("iris")]  # atlas's
    assert await hops_of(await hive.send("iris", "atlas")) == 3
    await hive.end("iris", taken[0][1])
    _, third = await hive.begun("iris")  # the operator's
    assert await hops_of(await hive.send("iris", "hm1nd")) == 1
    await hive.send("hm1nd", "iris", "pulled in between")
    await hive.agent("iris").call(Recv(third, new_key(), limit=10))
    assert await hops_of(await hive.send("iris", "hm1nd")) == 2


@SHORT_CHAINS
async def test_hops_are_known_after_a_restart(unserved: Hive) -> None:
    hive = unserved
    async with hive.broker():
        await hive.send("operator", "hm1nd")
        _, turn = await hive.begun("hm1nd")
        await hive.send("hm1nd", "iris")
        await hive.end("hm1nd", turn)
        await hive.send("operator", "iris", "first in the queue is the manager's")
        _, turn = await hive.begun("iris")
        await hive.agent("iris").call(Recv(turn, new_key(), limit=10))
    async with hive.broker():
        await hive.send("iris", "atlas")
        await hive.send("hm1nd", "atlas")
        assert [message.hops for message in await hive.messages()] == [0, 1, 0, 2, 1]


@SHORT_CHAINS
async def test_what_is_held_is_released_or_closed_and_the_feed_says_so(
    hive: Hive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "FREED_PER_JOB_MAX", 2)
    start = await hive.snapshot()
    last = await chain(hive, 7)
    assert last.held
    later = [await hive.send("iris", "atlas", in_reply_to=last.message) for _ in range(4)]
    assert [each.held for each in later] == [True] * 4
    assert (await hive.send("operator", "iris", in_reply_to=last.message)).held is False
    assert now_inbox(await hive.snapshot(), "atlas") == 5
    assert await hive.take("atlas") is None
    with pytest.raises(Refused, match="thread 999 is not parked"):
        await hive.operator.call(ReleaseThread(999))
    marked = await hive.operator.call(ReleaseThread(last.thread))
    assert [await hive.states(each.message) for each in (last, *later)] == [[QUEUED]] * 5
    assert (await hive.taken("atlas")).message.hops == 0
    seen = await feed_until(hive, start, marked.seq)
    parked = [event.body.parked.held for event in seen if isinstance(event.body, ThreadParked)]
    assert parked == [1, 2, 3, 4, 5, 3, 1]
    assert seen[-1].body == ThreadReleased(last.thread)


@SHORT_CHAINS
async def test_a_closed_thread_is_dead_and_each_delivery_of_it_may_be_retried(hive: Hive) -> None:
    last = await chain(hive, 7)
    await hive.operator.call(CloseThread(last.thread))
    (receipt,) = await hive.receipts(last.message)
    assert receipt.state is DEAD
    assert now_inbox(await hive.snapshot(), "atlas") == 0
    assert (await hive.snapshot()).parked == ()
    assert [message.id for message in (await hive.snapshot()).wanting] == [last.message]
    assert (await hive.send("iris", "atlas", in_reply_to=last.message)).held
    await hive.operator.call(RetryDelivery(receipt.id))
    delivery, turn = await hive.begun("atlas")
    assert (delivery.id, delivery.attempt) == (receipt.id, 1)
    await hive.end("atlas", turn)
    assert await hive.states(last.message) == [DONE]


async def chain(hive: Hive, length: int) -> Sent:
    """So many messages of agents, each sent in the turn that the one before it drove; the last is to atlas."""
    names = ["iris", "atlas"]
    sent = await hive.send("operator", names[(length - 1) % 2])
    for left in range(length, 0, -1):
        sender, to = names if left % 2 else names[::-1]
        _, turn = await hive.begun(sender)
        sent = await hive.send(sender, to)
        await hive.end(sender, turn)
    return sent


def now_inbox(snapshot: Snapshot, name: str) -> int:
    return next(now.inbox for now in snapshot.agents if now.agent.name == name)


async def feed_until(hive: Hive, start: Snapshot, seq: int) -> list[FeedEvent]:
    seen: list[FeedEvent] = []
    async with hive.operator.watch(WatchFeed(start.epoch, start.seq)) as events:
        async for event in events:
            seen.append(event)
            if event.seq == seq:
                return seen
    raise AssertionError("the feed ended")


# The dead letter.


async def test_a_dead_delivery_is_retried_from_the_start(hive: Hive) -> None:
    sent = await hive.send("iris", "atlas")
    for _ in range(3):
        _, turn = await hive.begun("atlas")
        await hive.end("atlas", turn, Outcome.CRASHED)
    (receipt,) = await hive.receipts(sent.message)
    assert (receipt.state, receipt.attempts) == (DEAD, 3)
    assert await hive.take("atlas") is None
    await hive.operator.call(RetryDelivery(receipt.id))
    with pytest.raises(Refused, match="is queued, not dead"):
        await hive.operator.call(RetryDelivery(receipt.id))
    assert now_inbox(await hive.snapshot(), "atlas") == 1
    delivery, turn = await hive.begun("atlas")
    assert (delivery.message.id, delivery.attempt) == (sent.message, 1)
    await hive.end("atlas", turn)
    assert now_inbox(await hive.snapshot(), "atlas") == 0


async def test_a_retry_wakes_the_one_who_waits(hive: Hive) -> None:
    sent = await hive.send("iris", "atlas")
    for _ in range(3):
        _, turn = await hive.begun("atlas")
        await hive.end("atlas", turn, Outcome.CRASHED)
    (receipt,) = await hive.receipts(sent.message)
    async with taking(hive, "atlas") as taken:
        await hive.operator.call(RetryDelivery(receipt.id))
    assert [each.id for each in taken] == [receipt.id]


# Pause.


@asynccontextmanager
async def taking(hive: Hive, name: str, wait_s: int = 60) -> AsyncIterator[list[Delivery]]:
    """A take that waits while the block runs; afterwards it has come back."""
    taken: list[Delivery] = []

    async def take() -> None:
        delivery = await hive.take(name, wait_s)
        if delivery is not None:
            taken.append(delivery)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await settled()
        yield taken


async def paused(hive: Hive, name: str) -> bool:
    return next(now.agent.paused for now in (await hive.snapshot()).agents if now.agent.name == name)


async def test_a_paused_agent_keeps_its_queue_until_it_is_resumed(hive: Hive) -> None:
    start = await hive.snapshot()
    await hive.operator.call(PauseAgent("iris"))
    assert (await paused(hive, "iris"), await paused(hive, "atlas")) == (True, False)
    sent = await hive.send("operator", "iris")
    assert await hive.take("iris") is None
    async with taking(hive, "iris") as taken:
        more = await hive.send("atlas", "iris")
        await settled()
        assert taken == []
        marked = await hive.operator.call(ResumeAgent("iris"))
    assert [each.message.id for each in taken] == [sent.message]
    assert await hive.states(more.message) == [QUEUED]
    seen = await feed_until(hive, start, marked.seq)
    told = [event.body.agent.paused for event in seen if isinstance(event.body, AgentChanged)]
    assert told == [True, False]


async def test_a_running_turn_ends_by_itself_and_still_pulls(hive: Hive) -> None:
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    await hive.operator.call(PauseAgent("iris"))
    await hive.send("atlas", "iris", "while you work")
    received = await hive.agent("iris").call(Recv(turn, new_key()))
    assert [message.body for message in received.messages] == ["while you work"]
    assert (await hive.end("iris", turn)).done == 2
    await hive.send("atlas", "iris")
    assert await hive.take("iris") is None


async def test_a_delivery_that_is_leased_and_not_begun_begins_no_turn(hive: Hive) -> None:
    sent = await hive.send("operator", "iris")
    delivery = await hive.taken("iris")
    await hive.operator.call(PauseAgent("iris"))
    with pytest.raises(Refused) as refused:
        await hive.begin("iris", delivery)
    assert refused.value.problem is Problem.CONFLICT
    assert await hive.take("iris") is None
    assert await hive.states(sent.message) == [QUEUED]
    await hive.operator.call(ResumeAgent("iris"))
    again, turn = await hive.begun("iris")
    assert (again.id, again.attempt) == (delivery.id, 1)
    await hive.end("iris", turn)


async def test_a_turn_that_begins_while_the_pause_is_written_has_begun_before_or_not_at_all(
    hive: Hive,
) -> None:
    """Both are asked for at once, many times: either the turn runs, or it is refused and the delivery waits."""
    for _ in range(20):
        sent = await hive.send("operator", "iris")
        delivery = await hive.taken("iris")
        begun: list[int] = []

        async with trio.open_nursery() as both:
            both.start_soon(begin_if_possible, hive, delivery, begun)
            both.start_soon(hive.operator.call, PauseAgent("iris"))
        if begun:
            await hive.end("iris", begun[0])
            assert await hive.states(sent.message) == [DONE]
        assert await hive.take("iris") is None
        await hive.operator.call(ResumeAgent("iris"))
        if not begun:
            _, turn = await hive.begun("iris")
            await hive.end("iris", turn)


async def begin_if_possible(hive: Hive, delivery: Delivery, begun: list[int]) -> None:
    try:
        begun.append(await hive.begin("iris", delivery))
    except Refused as refused:
        if refused.problem is not Problem.CONFLICT:
            raise


@pytest.mark.parametrize("way", ["wake", "attach", "cage"])
async def test_nothing_but_resume_starts_a_turn(hive: Hive, way: str) -> None:
    await hive.operator.call(PauseAgent("iris"))
    await hive.send("operator", "iris")
    match way:
        case "wake":
            await hive.agent("iris").call(ReportParked(Outcome.OVERLOADED))
            async with hive.agent("iris").watch(WatchCommands()) as commands:
                await hive.operator.call(WakeParked("iris"))
                await anext(commands)
            await hive.agent("iris").call(ReportParked())
        case "attach":
            await hive.attach("iris")
        case _:
            hive.privd.change(cage("iris", Power.KEPT))

            async def gone() -> bool:
                return "iris" not in {now.agent.name for now in (await hive.snapshot()).agents}

            await until(gone, what="iris to go")
            await hive.forget_connections()
            hive.privd.change(cage("iris"))
            await hive.served("iris")
    assert await paused(hive, "iris")
    assert await hive.take("iris") is None


async def test_a_pause_survives_a_restart(unserved: Hive) -> None:
    hive = unserved
    async with hive.broker():
        sent = await hive.send("operator", "iris")
        await hive.operator.call(PauseAgent("iris"))
    async with hive.broker():
        assert await paused(hive, "iris")
        assert await hive.take("iris") is None
        with pytest.raises(Refused):
            await hive.agent("iris").call(BeginTurn(sent.message << 7, "0" * 32))
        await hive.operator.call(ResumeAgent("iris"))
    async with hive.broker():
        assert not await paused(hive, "iris")
        assert (await hive.taken("iris")).message.id == sent.message


@pytest.mark.parametrize("request_of", [PauseAgent, ResumeAgent])
async def test_whoever_is_not_there_is_not_paused(
    hive: Hive, request_of: Callable[[str], PauseAgent | ResumeAgent]
) -> None:
    with pytest.raises(Refused, match="there is no agent nobody") as refused:
        await hive.operator.call(request_of("nobody"))
    assert refused.value.problem is Problem.NOT_FOUND


async def test_the_net_leaves_a_paused_agent_alone(
    hive: Hive, clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    await hive.operator.call(PauseAgent("iris"))
    await hive.send("operator", "iris")
    async with taking(hive, "iris", wait_s=12):
        for _ in range(3):
            clock.jump(5)
            await settled()
    assert "not woken" not in "".join(capsys.readouterr())
