"""Agents that keep each other busy stop by themselves, and go on when the operator says so."""

from typing import Any

import pytest

from protocol.brokerd import ListMessages
from protocol.messages import DeliveryState
from runtime.client import Client
from tests.support.hive import hive
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole, pytest.mark.cage]

SETTINGS = "[guards]\nhops_max = 3\n"
CHAIN = "tell iris tell hm1nd tell iris tell hm1nd tell iris what is new?"
"""Each passes it on to the other, and all the answers back."""


async def test_a_chain_of_agents_is_held_and_goes_on_when_it_is_released() -> None:
    with hive("--runner", "demo", "--agents", "iris", settings=SETTINGS) as running:
        running.hivectl("send", "hm1nd", CHAIN)
        releases = 0

        async def parked() -> list[Any]:
            return list(running.hivectl("status")["parked"])

        async def parked_or_answered() -> bool:
            return bool(await parked()) or await answered()

        async def answered() -> bool:
            async with Client(running.socket("brokerd")) as brokerd:
                found = (await brokerd.call(ListMessages())).messages
            return any((each.sender, each.to) == ("hm1nd", "operator") for each in found)

        while True:
            await until(parked_or_answered, what="the chain to stop, or the answer")
            held = await parked()
            if not held:
                break
            (thread,) = held
            assert (thread["agents"], thread["hops"], thread["held"]) == (["hm1nd", "iris"], 4, 1)
            shown = running.hivectl_raw("status").stdout
            assert f"`release {thread['thread']}` lets it go on" in shown
            running.hivectl("release", str(thread["thread"]))
            releases += 1
        assert releases == 2  # five there and five back, of which three in a row are free
        async with Client(running.socket("brokerd")) as brokerd:
            found = (await brokerd.call(ListMessages())).messages
        states = {
            receipt.state for each in found for receipt in each.deliveries if receipt.recipient != "operator"
        }
        assert states == {DeliveryState.DONE}
        assert "what is new?" in found[0].body


async def test_a_paused_agent_waits_in_its_cage() -> None:
    with hive("--runner", "demo", "--agents", "iris") as running:
        running.hivectl("pause", "iris")
        sent = running.hivectl("send", "iris", "are you there?")

        async def standing() -> list[DeliveryState]:
            async with Client(running.socket("brokerd")) as brokerd:
                found = (await brokerd.call(ListMessages())).messages
            (message,) = [each for each in found if each.id == sent["message"]]
            return [receipt.state for receipt in message.deliveries]

        running.hivectl("restart", "iris")
        await until(
            lambda: "idle, paused" in running.hivectl_raw("status").stdout, what="the harness to come back"
        )
        assert await standing() == [DeliveryState.QUEUED]
        running.hivectl("resume", "iris")

        async def done() -> bool:
            return await standing() == [DeliveryState.DONE]

        await until(done, what="iris to answer")
