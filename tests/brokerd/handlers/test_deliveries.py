"""The life of a delivery over the sockets: woken by the write, leased, given back, handed out again."""

import pytest
import trio
from trio.testing import MockClock

from protocol.agent import Delivery, ExtendLease, ReleaseDelivery, TakeDelivery
from protocol.limits import LEASE_MS
from protocol.messages import DeliveryState
from protocol.problem import Problem, Refused
from protocol.tools import Received, Recv
from protocol.turns import Outcome
from runtime.client import Client
from runtime.clock import new_key, now_ms
from tests.brokerd.hive import Hive
from tests.support.quiet import settled
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def recv(hive: Hive, name: str, turn: int, wait_s: int = 0, key: str = "", limit: int = 5) -> Received:
    return await hive.agent(name).call(Recv(turn=turn, key=key or new_key(), wait_s=wait_s, limit=limit))


async def test_nothing_waits(hive: Hive) -> None:
    assert await hive.take("iris") is None


async def test_the_oldest_is_leased(hive: Hive) -> None:
    first = await hive.send("operator", "iris", "first")
    await hive.send("operator", "iris", "second")
    before_ms = now_ms()
    delivery = await hive.taken("iris")
    assert (delivery.message.id, delivery.message.body, delivery.attempt) == (first.message, "first", 1)
    assert before_ms + LEASE_MS <= delivery.expires_ms <= now_ms() + LEASE_MS
    await until(lambda: _is(hive, first.message, DeliveryState.LEASED), what="the lease in a snapshot")


async def _is(hive: Hive, message: int, state: DeliveryState) -> bool:
    shown = next(each for each in (await hive.snapshot()).messages if each.id == message)
    return [receipt.state for receipt in shown.deliveries] == [state]


async def test_a_waiting_take_is_woken_by_the_write(hive: Hive, clock: MockClock) -> None:
    """Long before the five-second net: here time stands still for as long as it takes."""
    clock.rate = 0.0
    taken: list[Delivery] = []

    async def take() -> None:
        taken.append(await hive.taken("iris", wait_s=60))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await settled()
        sent = await hive.send("operator", "iris")
    assert [delivery.message.id for delivery in taken] == [sent.message]


async def test_a_take_that_waited_in_vain_is_empty(hive: Hive, clock: MockClock) -> None:
    answers: list[Delivery | None] = []

    async def take() -> None:
        answers.append(await hive.take("iris", wait_s=60))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await settled()
        assert answers == []
        clock.jump(61)
    assert answers == [None]


async def test_one_take_at_a_time_the_older_returns_empty(hive: Hive) -> None:
    answers: dict[str, Delivery | None] = {}

    async def take(which: str) -> None:
        async with Client(hive.settings.agent_socket("iris")) as client:
            answers[which] = (await client.call(TakeDelivery(wait_s=60))).delivery

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, "older")
        await settled()
        nursery.start_soon(take, "newer")
        await until(lambda: "older" in answers, what="the older take to return")
        assert answers == {"older": None}
        await hive.send("operator", "iris")
    newer = answers["newer"]
    assert newer is not None


async def test_a_hundred_takes_at_once_get_one_delivery_between_them(hive: Hive) -> None:
    sent = await hive.send("operator", "iris")
    await hive.send("operator", "iris")
    taken: list[Delivery] = []

    async def take() -> None:
        delivery = await hive.take("iris")
        if delivery is not None:
            taken.append(delivery)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(take)
    assert {delivery.message.id for delivery in taken} == {sent.message}
    begun = 0
    for delivery in taken:
        begun += await _begins(hive, delivery)
    assert begun == 1


async def _begins(hive: Hive, delivery: Delivery) -> bool:
    try:
        await hive.begin("iris", delivery)
    except Refused as refused:
        return refused.problem is not Problem.CONFLICT
    return True


async def test_asking_again_hands_out_the_same_under_a_new_token(hive: Hive) -> None:
    """As a harness does that was restarted between its lease and its turn."""
    await hive.send("operator", "iris")
    await hive.send("operator", "iris")
    first, again = await hive.taken("iris"), await hive.taken("iris")
    assert (first.id, first.attempt) == (again.id, again.attempt)
    assert first.token != again.token
    with pytest.raises(Refused, match=f"the lease of delivery {first.id} was lost") as refused:
        await hive.begin("iris", first)
    assert refused.value.problem is Problem.CONFLICT
    assert await hive.begin("iris", again) > 0


async def test_a_lease_that_runs_out_gives_its_delivery_back(hive: Hive, clock: MockClock) -> None:
    sent = await hive.send("operator", "iris")
    lost = await hive.taken("iris")
    clock.jump(LEASE_MS / 1000 + 1)
    await until(lambda: _is(hive, sent.message, DeliveryState.QUEUED), what="the delivery to wait again")
    with pytest.raises(Refused, match="was lost"):
        await hive.agent("iris").call(ExtendLease(lost.id, lost.token))
    with pytest.raises(Refused, match="was lost"):
        await hive.agent("iris").call(ReleaseDelivery(lost.id, lost.token))
    again = await hive.taken("iris")
    assert (again.id, again.attempt) == (lost.id, 1)


async def test_a_lease_that_is_extended_lasts(hive: Hive, clock: MockClock) -> None:
    await hive.send("operator", "iris")
    delivery = await hive.taken("iris")
    for _ in range(3):
        clock.jump(LEASE_MS / 1000 - 60)
        extended = await hive.agent("iris").call(ExtendLease(delivery.id, delivery.token))
        assert extended.expires_ms >= delivery.expires_ms
    assert await hive.begin("iris", delivery) > 0


async def test_a_delivery_given_back_waits_again_and_is_not_counted(hive: Hive) -> None:
    await hive.send("operator", "iris")
    delivery = await hive.taken("iris")
    release = ReleaseDelivery(delivery.id, delivery.token, "not now")
    await hive.agent("iris").call(release)
    await hive.agent("iris").call(release)  # a repeat is harmless
    again = await hive.taken("iris")
    assert (again.id, again.attempt) == (delivery.id, 1)
    with pytest.raises(Refused, match="was lost"):
        await hive.agent("iris").call(release)


async def test_a_lease_is_the_agents_own(hive: Hive) -> None:
    await hive.send("operator", "iris")
    delivery = await hive.taken("iris")
    with pytest.raises(Refused, match="was lost"):
        await hive.agent("atlas").call(ExtendLease(delivery.id, delivery.token))
    with pytest.raises(Refused, match="was lost"):
        await hive.agent("atlas").call(ReleaseDelivery(delivery.id, delivery.token))
    with pytest.raises(Refused, match="was lost"):
        await hive.begin("atlas", delivery)
    assert await hive.begin("iris", delivery) > 0


async def test_while_a_turn_runs_nothing_is_taken_or_given_back(hive: Hive) -> None:
    await hive.send("operator", "iris")
    await hive.send("operator", "iris")
    delivery, _ = await hive.begun("iris")
    with pytest.raises(Refused, match="a turn of iris is open") as refused:
        await hive.take("iris")
    assert refused.value.problem is Problem.CONFLICT
    with pytest.raises(Refused, match="end it instead"):
        await hive.agent("iris").call(ReleaseDelivery(delivery.id, delivery.token))


async def test_order_holds_over_requeues(hive: Hive) -> None:
    sent = [(await hive.send("operator", "iris")).message for _ in range(3)]
    order: list[int] = []
    for outcome in (Outcome.OVERLOADED, Outcome.DONE, Outcome.DONE, Outcome.DONE):
        delivery, turn = await hive.begun("iris")
        order.append(delivery.message.id)
        await hive.end("iris", turn, outcome)
    assert order == [sent[0], *sent]


async def test_messages_are_pulled_into_the_turn(hive: Hive) -> None:
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    assert (await recv(hive, "iris", turn)).messages == ()
    more = [await hive.send("atlas", "iris", body) for body in ("one", "two")]
    received = await recv(hive, "iris", turn)
    assert [(message.id, message.sender, message.body) for message in received.messages] == [
        (more[0].message, "atlas", "one"),
        (more[1].message, "atlas", "two"),
    ]
    assert await hive.states(more[0].message) == [DeliveryState.IN_TURN]
    assert (await hive.end("iris", turn)).done == 3


async def test_a_pull_waits_for_the_write(hive: Hive, clock: MockClock) -> None:
    clock.rate = 0.0
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    received: list[Received] = []

    async def pull() -> None:
        received.append(await recv(hive, "iris", turn, wait_s=60))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pull)
        await settled()
        sent = await hive.send("atlas", "iris")
    assert [message.id for message in received[0].messages] == [sent.message]


async def test_a_pull_that_waited_in_vain_is_empty(hive: Hive, clock: MockClock) -> None:
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    received: list[Received] = []

    async def pull() -> None:
        received.append(await recv(hive, "iris", turn, wait_s=60))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pull)
        await settled()
        clock.jump(61)
    assert received == [Received(())]


async def test_a_repeated_pull_gets_what_the_lost_answer_held(hive: Hive) -> None:
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    await hive.send("atlas", "iris")
    key = new_key()
    first = await recv(hive, "iris", turn, key=key)
    assert len(first.messages) == 1
    assert await recv(hive, "iris", turn, key=key) == first


async def test_a_pull_needs_ones_own_running_turn(hive: Hive) -> None:
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    with pytest.raises(Refused, match="atlas has no turn"):
        await recv(hive, "atlas", turn)
    await hive.end("iris", turn)
    with pytest.raises(Refused, match="ended: done"):
        await recv(hive, "iris", turn)


async def test_a_taker_that_left_leaves_nothing_behind(hive: Hive) -> None:
    """Its place is free, and what comes next is for the one who asks next."""
    with trio.move_on_after(0.1):
        await hive.take("iris", wait_s=60)
    sent = await hive.send("operator", "iris")
    assert (await hive.taken("iris")).message.id == sent.message


async def test_what_arrives_during_a_turn_is_taken_after_it(hive: Hive) -> None:
    await hive.send("operator", "iris", "first")
    _, turn = await hive.begun("iris")
    for number in range(3):
        await hive.send("operator", "iris", str(number))
    await hive.end("iris", turn)
    bodies = []
    for _ in range(3):
        delivery, turn = await hive.begun("iris")
        bodies.append(delivery.message.body)
        await hive.end("iris", turn)
    assert bodies == ["0", "1", "2"]
    assert await hive.take("iris") is None
