"""What is known of agents: what they say themselves, what their harness says, whether it is there at all."""

import pytest

from protocol.agent import ReportParked, Unpark, WatchCommands
from protocol.brokerd import Agent, WakeParked
from protocol.problem import Problem, Refused
from protocol.settings import AgentRole, Runner
from protocol.tools import AgentCard, Identity, ListAgents, SetStatus, WhoAmI
from protocol.turns import Outcome
from tests.brokerd.hive import Hive, cage
from tests.support.quiet import settled
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def shown(hive: Hive, name: str) -> Agent:
    return next(now.agent for now in (await hive.snapshot()).agents if now.agent.name == name)


async def becomes(hive: Hive, name: str, activity: str) -> None:
    async def is_so() -> bool:
        return await hive.activity(name) == activity

    await until(is_so, what=f"{name} to be {activity}")


async def test_an_agent_says_what_it_is_doing(hive: Hive) -> None:
    await hive.agent("iris").call(SetStatus("reading the mail"))
    assert (await shown(hive, "iris")).status == "reading the mail"
    assert (await shown(hive, "atlas")).status == ""
    await hive.agent("iris").call(SetStatus(""))
    assert (await shown(hive, "iris")).status == ""


async def test_an_agent_knows_who_it_is(hive: Hive) -> None:
    hive.privd.change(cage("iris", allowed_recipients=("atlas",), model="opus"))

    async def identity() -> Identity | None:
        told = await hive.agent("iris").call(WhoAmI())
        return told if told.model == "opus" else None

    assert await until(identity, what="the new settings") == Identity(
        "iris", AgentRole.AGENT, Runner.DEMO, "opus", ("atlas",)
    )
    manager = await hive.agent("hm1nd").call(WhoAmI())
    assert (manager.role, manager.allowed_recipients) == (AgentRole.MANAGER, None)


async def test_an_agent_sees_the_others(hive: Hive) -> None:
    await hive.attach("atlas")
    await hive.agent("atlas").call(SetStatus("idle hands"))
    assert await hive.agent("iris").call(ListAgents()) == (
        AgentCard("atlas", AgentRole.AGENT, "idle", "idle hands"),
        AgentCard("hm1nd", AgentRole.MANAGER, "absent", ""),
        AgentCard("iris", AgentRole.AGENT, "absent", ""),
    )


async def test_a_harness_is_there_as_long_as_it_listens(hive: Hive) -> None:
    assert await hive.activity("iris") == "absent"
    async with hive.agent("iris").watch(WatchCommands()):
        await becomes(hive, "iris", "idle")
        async with hive.agent("iris").watch(WatchCommands()):
            await becomes(hive, "iris", "idle")
        assert await hive.activity("iris") == "idle"
    await becomes(hive, "iris", "absent")


async def test_a_harness_that_comes_and_goes_ends_up_as_it_is(hive: Hive) -> None:
    for _ in range(20):
        async with hive.agent("iris").watch(WatchCommands()):
            pass
    async with hive.agent("iris").watch(WatchCommands()):
        await becomes(hive, "iris", "idle")
        await settled()
        assert await hive.activity("iris") == "idle"


async def test_a_turn_shows(hive: Hive) -> None:
    await hive.attach("iris")
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    thinking = await shown(hive, "iris")
    assert (thinking.activity, thinking.turn, thinking.last_turn_ms) == ("thinking", turn, None)
    await hive.end("iris", turn)
    idle = await shown(hive, "iris")
    assert (idle.activity, idle.turn, idle.last_turn_ms is not None) == ("idle", None, True)


async def test_a_parked_harness_says_why_and_until_when(hive: Hive) -> None:
    await hive.attach("iris")
    await hive.agent("iris").call(ReportParked(Outcome.RATE_LIMITED, "until noon", 1_900_000_000_000))
    parked = await shown(hive, "iris")
    assert (parked.activity, parked.parked) == ("parked", Outcome.RATE_LIMITED)
    assert (parked.detail, parked.until_ms) == ("until noon", 1_900_000_000_000)
    await hive.agent("iris").call(ReportParked())
    awake = await shown(hive, "iris")
    assert (awake.activity, awake.parked, awake.detail, awake.until_ms) == ("idle", None, "", None)


async def test_the_operator_wakes_a_parked_harness(hive: Hive) -> None:
    with pytest.raises(Refused, match="there is no agent nobody") as refused:
        await hive.operator.call(WakeParked("nobody"))
    assert refused.value.problem is Problem.NOT_FOUND
    with pytest.raises(Refused, match="iris is not parked") as refused:
        await hive.operator.call(WakeParked("iris"))
    assert refused.value.problem is Problem.CONFLICT
    await hive.agent("iris").call(ReportParked(Outcome.AUTH))
    with pytest.raises(Refused, match="does not listen now"):
        await hive.operator.call(WakeParked("iris"))
    async with hive.agent("iris").watch(WatchCommands()) as commands:
        await hive.operator.call(WakeParked("iris"))
        assert await anext(commands) == Unpark()


async def test_after_a_restart_of_brokerd_a_harness_is_there_when_it_listens_again(unserved: Hive) -> None:
    hive = unserved
    async with hive.broker():
        await hive.attach("iris")
        await hive.agent("iris").call(SetStatus("busy"))
        assert await hive.activity("iris") == "idle"
    async with hive.broker():
        assert await hive.activity("iris") == "absent"
        assert (await shown(hive, "iris")).status == "busy"
        async with hive.agent("iris").watch(WatchCommands()):
            await becomes(hive, "iris", "idle")
