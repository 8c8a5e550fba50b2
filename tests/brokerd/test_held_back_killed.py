"""What the operator holds back stays held back when brokerd is killed: pauses, parked threads, and their ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from brokerd.policy.guards import Guards
from protocol.brokerd import CloseThread, PauseAgent, ReleaseThread, ResumeAgent, Snapshot
from protocol.messages import DeliveryState
from protocol.tools import Sent
from tests.brokerd.hive import Hive
from tests.brokerd.test_service import Process
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]


@asynccontextmanager
async def until_killed(hive: Hive) -> AsyncIterator[None]:
    """A brokerd of its own process, killed at the end of the block."""
    process = Process(hive)
    async with trio.open_nursery() as nursery:
        running = await process.start(nursery)
        await until(process.serves, what="brokerd to answer")
        await hive.served("iris", "atlas", "hm1nd")
        yield
        running.kill()
        await running.wait()
    await hive.forget_connections()


def paused(snapshot: Snapshot) -> list[str]:
    return [now.agent.name for now in snapshot.agents if now.agent.paused]


async def test_a_pause_and_its_end_survive_kill_nine(unserved: Hive) -> None:
    hive = unserved
    async with until_killed(hive):
        sent = await hive.send("operator", "iris")
        await hive.taken("iris")
        await hive.operator.call(PauseAgent("iris"))
    async with until_killed(hive):
        assert paused(await hive.snapshot()) == ["iris"]
        assert await hive.take("iris", wait_s=1) is None
        assert await hive.states(sent.message) == [DeliveryState.QUEUED]
        await hive.operator.call(ResumeAgent("iris"))
    async with until_killed(hive):
        assert paused(await hive.snapshot()) == []
        assert (await hive.taken("iris")).message.id == sent.message


async def far(hive: Hive) -> Sent:
    """The second message of agents in a row, which is one too many."""
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    await hive.send("iris", "atlas")
    await hive.end("iris", turn)
    _, turn = await hive.begun("atlas")
    sent = await hive.send("atlas", "hm1nd")
    await hive.end("atlas", turn)
    assert sent.held
    return sent


@pytest.mark.parametrize("guards", [Guards(hops_max=1)])
async def test_a_parked_thread_and_its_end_survive_kill_nine(unserved: Hive) -> None:
    hive = unserved
    async with until_killed(hive):
        released, closed = await far(hive), await far(hive)
    async with until_killed(hive):
        snapshot = await hive.snapshot()
        assert [(each.thread, each.held) for each in snapshot.parked] == [
            (released.thread, 1),
            (closed.thread, 1),
        ]
        assert await hive.take("hm1nd") is None
        assert (await hive.send("atlas", "iris")).held  # still in the chain of its last turn
        await hive.operator.call(ReleaseThread(released.thread))
        await hive.operator.call(CloseThread(closed.thread))
    async with until_killed(hive):
        assert await hive.states(closed.message) == [DeliveryState.DEAD]
        assert (await hive.taken("hm1nd")).message.id == released.message
        assert (await hive.send("atlas", "iris", in_reply_to=closed.message)).held
