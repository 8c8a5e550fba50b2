"""The bug that was seen once: "container rebuilt" was marked delivered and drove no turn.

A harness is killed at every step at which it may hold the message, and each time exactly one turn follows that ends
well for it; the message is done then and never before. For the manager as for everybody.
"""

import os
import signal
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from privd.cages.held import Record
from protocol.brokerd import ListMessages, ReadTail
from protocol.messages import DeliveryState, Message
from protocol.names import MANAGER_NAME
from protocol.turns import Outcome
from runtime.client import Client
from tests.brokerd.test_service import Process
from tests.support.desk import desk, is_rebuilt
from tests.support.hive import RunningHive
from tests.support.relay import Side
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

MOMENTS = {
    "taken, and its turn not begun": ("begin_turn", Side.REQUEST),
    "begun, and the harness does not know": ("begin_turn", Side.REPLY),
    "in the turn": ("end_turn", Side.REQUEST),
    "ended, and the harness does not know": ("end_turn", Side.REPLY),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("agent", ["iris", MANAGER_NAME])
async def test_a_harness_killed_while_rebuilt_is_delivered(place: Path, agent: str, moment: str) -> None:
    async with desk(place, agent) as at, at.hive.broker():
        async with at.harness() as first:
            at.relay.hold(*MOMENTS[moment])
            message = await at.rebuilt()
            await at.relay.held.wait()
            was_ended = "ended" in moment
            assert await at.is_done(message.id) is was_ended
            first.harness.kill()
            await first.harness.wait()
            at.relay.cut()
        assert await at.is_done(message.id) is was_ended
        async with at.harness() as second:
            await until(partial(at.is_done, message.id), what="the message to be done")
            after = await at.hive.send("operator", agent, "who")
            await until(partial(at.is_done, after.message), what="the next message to be done")
            assert await second.stop() == 0
        outcomes = [turn.outcome for turn in await at.turns(message.id)]
        begun_before = moment != "taken, and its turn not begun"
        assert sorted(map(str, outcomes)) == sorted(
            ["done"] + (["crashed"] if begun_before and not was_ended else [])
        )
        [receipt] = await at.hive.receipts(message.id)
        assert receipt.turn == next(
            turn.id for turn in await at.turns(message.id) if turn.outcome is Outcome.DONE
        )


@pytest.mark.parametrize("agent", ["iris", MANAGER_NAME])
async def test_a_harness_outlives_a_broker_killed_while_it_waits(place: Path, agent: str) -> None:
    """Its turn loop and its tools go on together: the next message drives a turn, whose tool calls reach brokerd."""
    async with desk(place, agent) as at, trio.open_nursery() as brokers:
        process = Process(at.hive)
        broker = await process.start(brokers)
        await until(process.serves, what="brokerd to answer")
        await at.hive.served(agent)
        async with at.harness() as harness:
            for _ in range(3):
                at.relay.hold("take_delivery", Side.REPLY)
                sent = await at.hive.send("operator", agent, "who")
                await at.relay.held.wait()
                broker.kill()
                await broker.wait()
                at.relay.cut()
                await at.hive.forget_connections()
                broker = await process.start(brokers)
                await until(process.serves, what="brokerd to answer again")
                await until(partial(at.is_done, sent.message), what="the message to be done")
                answers = [each for each in await at.hive.messages() if each.in_reply_to == sent.message]
                assert [each.sender for each in answers] == [agent]
            assert harness.harness.returncode is None
            assert harness.log().count("ready") == 1
            assert await harness.stop() == 0
            with pytest.raises(OSError, match=r"."):
                await trio.open_unix_socket(harness.places.tools_socket)
        broker.terminate()


@pytest.mark.cage
@pytest.mark.parametrize("moment", ["it runs", "it has the message"])
@pytest.mark.parametrize("agent", ["iris", MANAGER_NAME])
async def test_a_cage_killed_after_its_rebuild_still_hears_of_it(
    any_hive: RunningHive, agent: str, moment: str
) -> None:
    """The whole cage, by its init, as soon as *moment*: whatever it had reached, one turn ends well for the message."""
    async with Client(any_hive.socket("brokerd")) as brokerd:
        known = {each.id for each in (await brokerd.call(ListMessages(limit=200))).messages}
        assert any_hive.hivectl("rebuild", agent)["power"] == "running"

        async def rebuilt(*unlike: DeliveryState) -> Message | None:
            page = await brokerd.call(ListMessages(limit=200))
            message = next((m for m in page.messages if m.id not in known and is_rebuilt(m, agent)), None)
            return message if message and message.deliveries[0].state not in unlike else None

        async def done() -> Message | None:
            message = await rebuilt()
            return message if message and message.deliveries[0].state is DeliveryState.DONE else None

        if moment == "it has the message":
            await until(partial(rebuilt, DeliveryState.QUEUED), what="the message to be taken")
        os.kill(leader(any_hive, agent), signal.SIGKILL)
        message = await until(done, what="the message to be done", deadline_ms=60_000)
        tail = await brokerd.call(ReadTail(agent=agent, limit=50))
    outcomes = [item.turn.outcome for item in tail.turns if item.turn.message == message.id]
    assert outcomes.count(Outcome.DONE) == 1
    assert set(outcomes) <= {Outcome.DONE, Outcome.CRASHED}


def leader(hive: RunningHive, agent: str) -> int:
    """The init of an agent's cage, by privd's own record."""
    record = hive.places.state / "cages" / agent / "running.json"
    return msgspec.json.decode(record.read_bytes(), type=Record).leader.pid
