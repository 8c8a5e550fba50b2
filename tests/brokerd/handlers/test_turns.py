"""Turns over the sockets: begun once, ended once, ended by brokerd when their harness is gone."""

from contextlib import suppress

import msgspec
import pytest
import trio
from trio.testing import MockClock

from protocol.agent import (
    Attach,
    Attached,
    BeginTurn,
    CancelTurn,
    EndTurn,
    ExtendLease,
    PublishEvents,
    TurnClosed,
    WatchCommands,
)
from protocol.brokerd import ReadTail, StopTurn
from protocol.limits import LEASE_MS
from protocol.messages import DeliveryState
from protocol.problem import Problem, Refused
from protocol.settings import AgentRole
from protocol.turns import AnyTurnEvent, Outcome, Said, ToolCalled, Usage
from runtime.clock import new_key
from tests.brokerd.hive import Hive
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_from_send_to_done(hive: Hive) -> None:
    sent = await hive.send("operator", "iris")
    delivery, turn = await hive.begun("iris")
    assert await hive.states(sent.message) == [DeliveryState.IN_TURN]
    assert await hive.end("iris", turn) == TurnClosed(done=1, requeued=0, dead=0)
    (receipt,) = await hive.receipts(sent.message)
    assert (receipt.id, receipt.state, receipt.turn, receipt.attempts) == (
        delivery.id,
        DeliveryState.DONE,
        turn,
        1,
    )


async def test_beginning_again_is_the_same_turn(hive: Hive) -> None:
    await hive.send("operator", "iris")
    delivery = await hive.taken("iris")
    turns: set[int] = set()

    async def begin() -> None:
        turns.add(await hive.begin("iris", delivery))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(begin)
    assert len(turns) == 1


async def test_ending_again_gets_the_first_answer(hive: Hive) -> None:
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    first = await hive.end("iris", turn, Outcome.CRASHED)
    assert first == TurnClosed(done=0, requeued=1, dead=0)
    assert await hive.end("iris", turn, Outcome.DONE) == first


async def test_a_turn_is_ended_by_its_own_agent(hive: Hive) -> None:
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    with pytest.raises(Refused, match=f"atlas has no turn {turn}") as refused:
        await hive.end("atlas", turn)
    assert refused.value.problem is Problem.NOT_FOUND


async def test_what_a_harness_says_of_a_turn_is_in_its_tail(hive: Hive) -> None:
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    events: tuple[AnyTurnEvent, ...] = (
        Said(0, 1, "let me see"),
        ToolCalled(1, 2, "c1", "send", "to atlas", "{}"),
    )
    await hive.agent("iris").call(PublishEvents(turn, events))
    await hive.agent("iris").call(PublishEvents(turn, events))
    usage = Usage(input_tokens=10, output_tokens=3, cost_microusd=120)
    await hive.agent("iris").call(EndTurn(turn, Outcome.DONE, "fine", usage, conversation="c-1"))
    page = await hive.operator.call(ReadTail("iris"))
    (shown,) = page.turns
    assert (shown.turn.id, shown.turn.outcome, shown.turn.detail, shown.turn.usage) == (
        turn,
        "done",
        "fine",
        usage,
    )
    assert shown.events == events
    assert page.before is None


async def test_an_event_that_cannot_be_read_is_shown_as_broken_and_logged(
    hive: Hive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    await hive.agent("iris").call(PublishEvents(turn, (Said(0, 1, "x"), Said(1, 2, "y"))))
    monkeypatch.setattr("brokerd.store.turn_events._decoder", msgspec.json.Decoder(int))
    (shown,) = (await hive.operator.call(ReadTail("iris"))).turns
    assert [event.n for event in shown.events] == [0, 1]
    assert "a turn event cannot be read" in "".join(capsys.readouterr())


async def test_events_of_a_turn_that_is_not_open_are_refused(hive: Hive) -> None:
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    publish = PublishEvents(turn, (Said(0, 1, "x"),))
    with pytest.raises(Refused) as refused:
        await hive.agent("atlas").call(publish)
    assert refused.value.problem is Problem.NOT_FOUND
    await hive.end("iris", turn)
    with pytest.raises(Refused) as refused:
        await hive.agent("iris").call(publish)
    assert refused.value.problem is Problem.CONFLICT


async def test_attaching_tells_who_one_is(hive: Hive) -> None:
    assert await hive.attach("iris") == Attached("iris", AgentRole.AGENT, 0)
    assert await hive.attach("hm1nd") == Attached("hm1nd", AgentRole.MANAGER, 0)
    assert await hive.activity("iris") == "idle"


async def test_a_harness_killed_in_its_turn_is_followed_by_another(hive: Hive) -> None:
    await hive.attach("iris")
    sent = await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    assert (await hive.attach("iris")).requeued == 1
    (receipt,) = await hive.receipts(sent.message)
    assert (receipt.state, receipt.turn, receipt.attempts) == (DeliveryState.QUEUED, None, 1)
    delivery, again = await hive.begun("iris")
    assert (delivery.attempt, again > turn) == (2, True)
    assert await hive.end("iris", turn) == TurnClosed(done=0, requeued=1, dead=0)  # the old harness, late
    assert (await hive.end("iris", again)).done == 1


async def test_a_harness_killed_between_lease_and_turn_is_followed_by_another(hive: Hive) -> None:
    await hive.attach("iris")
    await hive.send("operator", "iris")
    lost = await hive.taken("iris")
    assert (await hive.attach("iris")).requeued == 0
    with pytest.raises(Refused, match="was lost"):
        await hive.begin("iris", lost)
    delivery, _ = await hive.begun("iris")
    assert (delivery.id, delivery.attempt) == (lost.id, 1)


async def test_a_harness_that_attaches_again_keeps_its_turn(hive: Hive) -> None:
    instance = new_key()
    await hive.attach("iris", instance)
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    assert (await hive.attach("iris", instance)).requeued == 0
    assert (await hive.end("iris", turn)).done == 1


async def test_a_turn_whose_lease_runs_out_is_ended(hive: Hive, clock: MockClock) -> None:
    sent = await hive.send("operator", "iris")
    delivery, turn = await hive.begun("iris")
    clock.jump(LEASE_MS / 1000 + 1)

    async def ended() -> bool:
        return await hive.states(sent.message) == [DeliveryState.QUEUED]

    await until(ended, what="the turn to end")
    (shown,) = (await hive.operator.call(ReadTail("iris"))).turns
    assert (shown.turn.id, shown.turn.outcome) == (turn, Outcome.TIMEOUT)
    with pytest.raises(Refused, match="was lost"):
        await hive.agent("iris").call(ExtendLease(delivery.id, delivery.token))
    assert (await hive.taken("iris")).attempt == 2


async def test_a_turn_goes_on_as_long_as_its_lease_is_kept(hive: Hive, clock: MockClock) -> None:
    await hive.send("operator", "iris")
    delivery, turn = await hive.begun("iris")
    for _ in range(4):
        clock.jump(LEASE_MS / 1000 - 60)
        await hive.agent("iris").call(ExtendLease(delivery.id, delivery.token))
    assert (await hive.end("iris", turn)).done == 1


async def test_a_turn_outlives_brokerd(unserved: Hive) -> None:
    """Its harness ends it as if nothing had been, and may repeat what was under way when brokerd went."""
    hive = unserved
    async with hive.broker():
        sent = await hive.send("operator", "iris")
        await hive.send("operator", "iris", "next")
        delivery, turn = await hive.begun("iris")
    async with hive.broker():
        assert await hive.activity("iris") == "thinking"
        assert await hive.begin("iris", delivery) == turn
        await hive.agent("iris").call(ExtendLease(delivery.id, delivery.token))
        with pytest.raises(Refused, match="a turn of iris is open"):
            await hive.take("iris")
        closed = await hive.end("iris", turn)
        assert await hive.states(sent.message) == [DeliveryState.DONE]
    async with hive.broker():
        assert await hive.end("iris", turn) == closed
        assert (await hive.taken("iris")).message.body == "next"


async def test_a_turn_whose_harness_did_not_outlive_brokerd_is_ended(
    unserved: Hive, clock: MockClock
) -> None:
    hive = unserved
    async with hive.broker():
        sent = await hive.send("operator", "iris")
        await hive.begun("iris")
    async with hive.broker():
        clock.jump(LEASE_MS / 1000 + 1)

        async def waits() -> bool:
            return await hive.states(sent.message) == [DeliveryState.QUEUED]

        await until(waits, what="the turn to end")


async def test_a_lease_without_a_turn_ends_with_brokerd(unserved: Hive) -> None:
    hive = unserved
    async with hive.broker():
        await hive.send("operator", "iris")
        lost = await hive.taken("iris")
    async with hive.broker():
        with pytest.raises(Refused, match="was lost"):
            await hive.begin("iris", lost)
        delivery = await hive.taken("iris")
        assert (delivery.id, delivery.attempt) == (lost.id, 1)


async def test_the_queue_is_there_after_a_restart_in_its_order(unserved: Hive) -> None:
    hive = unserved
    async with hive.broker():
        sent = [(await hive.send("operator", "iris")).message for _ in range(5)]
    order = []
    async with hive.broker():
        for _ in range(5):
            delivery, turn = await hive.begun("iris")
            order.append(delivery.message.id)
            await hive.end("iris", turn)
    assert order == sent


async def test_the_operator_stops_a_turn_through_its_harness(hive: Hive) -> None:
    with pytest.raises(Refused, match="iris has no turn running"):
        await hive.operator.call(StopTurn("iris"))
    with pytest.raises(Refused, match="there is no agent nobody"):
        await hive.operator.call(StopTurn("nobody"))
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    with pytest.raises(Refused, match="does not listen now") as refused:
        await hive.operator.call(StopTurn("iris"))
    assert refused.value.problem is Problem.CONFLICT
    async with hive.agent("iris").watch(WatchCommands()) as commands:
        await hive.operator.call(StopTurn("iris"))
        assert await anext(commands) == CancelTurn(turn)


async def test_attaching_while_a_turn_begins_leaves_no_turn_without_a_lease(hive: Hive) -> None:
    """Whatever comes first, the old harness has no turn and the delivery waits for the new one."""
    for _ in range(10):
        await hive.attach("iris")
        await hive.send("operator", "iris")
        delivery = await hive.taken("iris")

        async def begin(request: BeginTurn) -> None:
            with suppress(Refused):  # when the new harness was first
                await hive.agent("iris").call(request)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin, BeginTurn(delivery.id, delivery.token))
            nursery.start_soon(hive.agent("iris").call, Attach(new_key(), "test"))
        again, turn = await hive.begun("iris")
        assert again.id == delivery.id
        assert (await hive.end("iris", turn)).done == 1
