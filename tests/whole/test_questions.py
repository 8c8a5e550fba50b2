"""Questions from end to end: an agent asks in its turn, somebody answers much later, and the answer drives a turn."""

from typing import Any

import pytest

from protocol.brokerd import ListMessages
from protocol.messages import DeliveryState, Message, SystemEvent
from runtime.client import Client
from tests.support.hive import RunningHive
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole, pytest.mark.cage]


async def message(running: RunningHive, event: SystemEvent | None, sender: str, to: str) -> Message:
    """The newest message of that kind, once its deliveries to agents are done."""
    async with Client(running.socket("brokerd")) as brokerd:

        async def found() -> Message | None:
            page = await brokerd.call(ListMessages(limit=200))
            for each in page.messages:
                if (each.event, each.sender, each.to) == (event, sender, to):
                    states = {receipt.state for receipt in each.deliveries}
                    return each if to == "operator" or states == {DeliveryState.DONE} else None
            return None

        return await until(found, what=f"a message of {sender} to {to}")


def questions(running: RunningHive) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.hivectl("questions")["questions"]
    return found


async def test_the_operator_is_asked_and_answers_from_the_command_line(demo_hive: RunningHive) -> None:
    demo_hive.hivectl("send", "iris", "question which way? [left | right]")
    (asked,) = await until(lambda: questions(demo_hive), what="the question")
    assert (asked["asker"], asked["asked_of"], asked["options"]) == ("iris", "operator", ["left", "right"])
    refused = demo_hive.hivectl_raw("answer", str(asked["id"]), "straight on")
    assert refused.returncode != 0
    assert "choose exactly one of 'left', 'right'" in refused.stderr
    answered = demo_hive.hivectl("answer", str(asked["id"]), "--choices", "left")
    assert (answered["state"], answered["choices"]) == ("answered", ["left"])
    assert questions(demo_hive) == []
    told = await message(demo_hive, SystemEvent.ANSWERED, "operator", "iris")
    assert told.about == asked["id"]
    receipt = demo_hive.hivectl("receipt", str(told.id))["deliveries"]
    assert [each["state"] for each in receipt] == ["done"]


async def test_one_agent_asks_another(demo_hive: RunningHive) -> None:
    demo_hive.hivectl("send", "hm1nd", "ask iris which one? [this | that]")
    question = await message(demo_hive, SystemEvent.QUESTION, "hm1nd", "iris")
    answer = await message(demo_hive, SystemEvent.ANSWERED, "iris", "hm1nd")
    assert (answer.about, answer.in_reply_to) == (question.about, question.id)
    assert answer.hops == question.hops + 1
    told = await message(demo_hive, None, "hm1nd", "operator")
    assert "iris" in told.body
