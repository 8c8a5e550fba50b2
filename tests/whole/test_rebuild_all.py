"""Everything rebuilt: the manager first, each agent told once, the manager told of the others in one message."""

import pytest

from protocol.brokerd import ListMessages
from protocol.messages import DeliveryState, Message, SystemEvent
from protocol.names import MANAGER_NAME
from runtime.client import Client
from tests.support.hive import RunningHive, hive
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole, pytest.mark.cage]


async def test_the_manager_comes_first_and_hears_of_the_others_at_once() -> None:
    with hive("--runner", "demo", "--agents", "iris") as running:
        running.hivectl("spawn", "atlas")
        running.hivectl("stop", "atlas")
        await rebuilt(running)


async def rebuilt(running: RunningHive) -> None:
    answer = running.hivectl("rebuild-all")
    assert answer["failed"] == {}
    started = {cage["agent"]: cage["started_ms"] for cage in running.hivectl("cages")}
    assert [cage["agent"] for cage in answer["rebuilt"]] == [MANAGER_NAME, "iris"]
    assert started["atlas"] is None, "a cage that was stopped stays stopped"
    assert started[MANAGER_NAME] < started["iris"]
    async with Client(running.socket("brokerd")) as brokerd:

        async def told() -> list[Message] | None:
            page = await brokerd.call(ListMessages(limit=200))
            found = [each for each in page.messages if each.event is SystemEvent.REBUILT]
            done = all(each.deliveries[0].state is DeliveryState.DONE for each in found)
            return found if done and len(found) == 3 else None

        messages = await until(told, what="three messages that are done")
    assert sorted(each.to for each in messages) == [MANAGER_NAME, MANAGER_NAME, "iris"]
    digest = next(each for each in messages if "Each was told" in each.body)
    assert digest.to == MANAGER_NAME
    assert "iris" in digest.body
