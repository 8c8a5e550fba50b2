"""The bug that was seen once: "container rebuilt" was marked delivered and drove no turn.

A harness is killed at every step at which it may hold the message, and each time exactly one turn follows that ends
well for it; the message is done then and never before. For the manager as for everybody.
"""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from privd.cages.running import Record
from protocol.brokerd import ListMessages, ReadTail
from protocol.messages import DeliveryState, Message, SystemEvent
from protocol.names import MANAGER_NAME
from protocol.privd import CageRebuilt
from protocol.settings import AgentRole, AgentSettings
from protocol.turns import Outcome, Turn
from runtime.client import Client
from runtime.clock import now_ms
from tests.brokerd.hive import Hive, Privd
from tests.brokerd.hive import cage as known_cage
from tests.brokerd.test_service import Process
from tests.harness.cage import Cage, cage
from tests.support.hive import RunningHive
from tests.support.relay import Relay, Side
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

MOMENTS = {
    "taken, and its turn not begun": ("begin_turn", Side.REQUEST),
    "begun, and the harness does not know": ("begin_turn", Side.REPLY),
    "in the turn": ("end_turn", Side.REQUEST),
    "ended, and the harness does not know": ("end_turn", Side.REPLY),
}


class Desk:
    """One agent's harness, which can be killed and started again, before a broker that is real."""

    def __init__(self, hive: Hive, agent: str) -> None:
        self.hive = hive
        self.agent = agent
        role = AgentRole.MANAGER if agent == MANAGER_NAME else AgentRole.AGENT
        self._settings = AgentSettings(agent, role=role)
        self._cages = hive.folder / "c"
        self._started = 0
        self.relay = Relay(
            self._cages / agent / "run/hive/broker/broker.sock", hive.settings.agent_socket(agent)
        )

    @asynccontextmanager
    async def harness(self) -> AsyncIterator[Cage]:
        self._started += 1
        async with cage(self._cages, self._settings) as running:
            await until(
                lambda: running.log().count("attached to brokerd") >= self._started,
                what="the harness to attach",
            )
            yield running

    async def rebuilt(self) -> Message:
        """Have the hive say that the cage was rebuilt, and find the message."""
        self.hive.privd.events.publish(CageRebuilt(self.agent, now_ms()))
        return await until(self._rebuilt, what="the message about it")

    async def _rebuilt(self) -> Message | None:
        return next((each for each in await self.hive.messages() if is_rebuilt(each, self.agent)), None)

    async def is_done(self, message: Message) -> bool:
        return await self.hive.states(message.id) == [DeliveryState.DONE]

    async def turns(self, message: Message) -> list[Turn]:
        page = await self.hive.operator.call(ReadTail(agent=self.agent, limit=50))
        return [item.turn for item in page.turns if item.turn.message == message.id]


def is_rebuilt(message: Message, agent: str) -> bool:
    return message.event is SystemEvent.REBUILT and message.to == agent


@asynccontextmanager
async def desk(place: Path, agent: str) -> AsyncIterator[Desk]:
    """A real broker, and a stand-in for privd that knows the agent's cage."""
    hive = Hive(place, Privd(place))
    for name in {MANAGER_NAME, agent}:
        hive.privd.change(known_cage(name))
    at = Desk(hive, agent)
    async with hive.privd.serving(), at.relay.open():
        with trio.fail_after(60):
            yield at
        await hive.forget_connections()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("agent", ["iris", MANAGER_NAME])
async def test_a_harness_killed_while_rebuilt_is_delivered(place: Path, agent: str, moment: str) -> None:
    async with desk(place, agent) as at, at.hive.broker():
        async with at.harness() as first:
            at.relay.hold(*MOMENTS[moment])
            message = await at.rebuilt()
            await at.relay.held.wait()
            was_ended = "ended" in moment
            assert await at.is_done(message) is was_ended
            first.harness.kill()
            await first.harness.wait()
            at.relay.cut()
        assert await at.is_done(message) is was_ended
        async with at.harness() as second:
            await until(lambda: at.is_done(message), what="the message to be done")
            after = await at.hive.send("operator", agent, "who")
            await until(lambda: at_rest(at, after.message), what="the next message to be done")
            assert await second.stop() == 0
        outcomes = [turn.outcome for turn in await at.turns(message)]
        begun_before = moment != "taken, and its turn not begun"
        assert sorted(map(str, outcomes)) == sorted(
            ["done"] + (["crashed"] if begun_before and not was_ended else [])
        )
        [receipt] = await at.hive.receipts(message.id)
        assert receipt.turn == next(
            turn.id for turn in await at.turns(message) if turn.outcome is Outcome.DONE
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
                await until(partial(at_rest, at, sent.message), what="the message to be done")
                answers = [each for each in await at.hive.messages() if each.in_reply_to == sent.message]
                assert [each.sender for each in answers] == [agent]
            assert harness.harness.returncode is None
            assert harness.log().count("ready") == 1
            assert await harness.stop() == 0
            with pytest.raises(OSError, match=r"."):
                await trio.open_unix_socket(harness.places.tools_socket)
        broker.terminate()


async def at_rest(at: Desk, message: int) -> bool:
    return await at.hive.states(message) == [DeliveryState.DONE]


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
