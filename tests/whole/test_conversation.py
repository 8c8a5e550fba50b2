"""The main job from end to end: a message drives a turn, a turn sends a message, the answer comes back."""

import pytest

from protocol.brokerd import ListMessages, ReadTail, TakeSnapshot
from protocol.hello import Hello
from protocol.messages import DeliveryState, Message
from protocol.tools import Send
from protocol.turns import Outcome, Said, ToolCalled
from runtime.client import Client
from runtime.clock import new_key
from tests.support.hive import RunningHive
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole, pytest.mark.cage]


async def messages(brokerd: Client) -> tuple[Message, ...]:
    page = await brokerd.call(ListMessages())
    return tuple(reversed(page.messages))


async def test_tell_iris_hello(any_hive: RunningHive) -> None:
    async with Client(any_hive.socket("brokerd")) as brokerd:
        sent = await brokerd.call(Send(to="hm1nd", body="tell iris hello", key=new_key()))

        async def answered() -> tuple[Message, ...] | None:
            found = await messages(brokerd)
            answer = next((m for m in found if m.sender == "hm1nd" and m.in_reply_to == sent.message), None)
            return found if answer and _settled(found) else None

        found = await until(answered, what="the answer to the operator")
        routes = [(message.sender, message.to) for message in found]
        assert routes == [("operator", "hm1nd"), ("hm1nd", "iris"), ("iris", "hm1nd"), ("hm1nd", "operator")]
        assert "iris" in found[-1].body
        tail = await brokerd.call(ReadTail(agent="iris"))
        turn = tail.turns[-1]
        assert turn.turn.outcome is Outcome.DONE
        assert any(isinstance(event, ToolCalled) for event in turn.events)
        assert any(isinstance(event, Said) for event in turn.events)


def _settled(found: tuple[Message, ...]) -> bool:
    """Whether every delivery to an agent is done; the operator's stay queued until they are read."""
    return all(
        receipt.state is DeliveryState.DONE
        for message in found
        for receipt in message.deliveries
        if receipt.recipient != "operator"
    )


async def test_the_banner_says_what_is_not_separated(any_hive: RunningHive) -> None:
    async with Client(any_hive.socket("privd")) as privd:
        greeting = await privd.call(Hello())
    owner = any_hive.places.state.stat().st_uid
    assert greeting.separated == (owner == 0)
    assert greeting.backend == ("nspawn" if owner == 0 else "bwrap")
    if owner != 0:
        assert any("no privilege separation" in text for text in greeting.degraded)
        assert any("no privilege separation" in line for line in any_hive.lines)


async def test_a_repeated_send_is_one_message(any_hive: RunningHive) -> None:
    key = new_key()
    async with Client(any_hive.socket("brokerd")) as brokerd:
        first = await brokerd.call(Send(to="iris", body="help", key=key))
        again = await brokerd.call(Send(to="iris", body="help", key=key))
        assert first.message == again.message


async def test_the_command_line_shows_the_same(any_hive: RunningHive) -> None:
    status = any_hive.hivectl("status")
    assert set(status["agents"]) == {"hm1nd", "iris"}
    assert all(status["daemons"].values())
    sent = any_hive.hivectl("send", "iris", "status counting stars")

    async def told() -> bool:
        async with Client(any_hive.socket("brokerd")) as brokerd:
            snapshot = await brokerd.call(TakeSnapshot())
        return any(
            row.agent.name == "iris" and row.agent.status == "counting stars" for row in snapshot.agents
        )

    assert await until(told, what="iris's status")
    assert any(message["id"] == sent["message"] for message in any_hive.hivectl("messages")["messages"])
