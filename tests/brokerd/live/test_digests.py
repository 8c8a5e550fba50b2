"""What the manager is told of several agents at once, when, and what it is spared."""

import pytest
from trio.testing import MockClock

from brokerd.live.digests import LATER_S, LINGER_S, LINGER_S_MAX
from protocol.agent import ReportParked
from protocol.brokerd import PauseAgent, ResumeAgent
from protocol.messages import Message, SystemEvent
from protocol.privd import CageRebuilt
from protocol.turns import Outcome
from tests.brokerd.conftest import Wall
from tests.brokerd.hive import Hive, cage
from tests.support.quiet import settled
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

UNTIL_MS = 1_700_000_000_000


async def told(hive: Hive, to: str = "hm1nd") -> list[Message]:
    return [message for message in await hive.messages() if message.to == to]


async def pass_s(clock: MockClock, seconds: float) -> None:
    clock.jump(seconds)
    await settled()


async def park(hive: Hive, name: str, reason: Outcome | None, until_ms: int | None = None) -> None:
    await hive.agent(name).call(ReportParked(reason, "said the API", until_ms))
    await settled()


async def rebuild(hive: Hive, name: str, at_ms: int = 1_000) -> None:
    before = len(await told(hive, name))
    hive.privd.events.publish(CageRebuilt(name, at_ms))

    async def is_told() -> bool:
        return len(await told(hive, name)) > before

    await until(is_told, what=f"{name} to be told")


async def test_each_is_told_at_once_and_the_manager_of_all_together(hive: Hive, clock: MockClock) -> None:
    await rebuild(hive, "hm1nd")  # first, as a rebuild of all does
    for name in ("iris", "atlas"):
        await rebuild(hive, name)
        (message,) = await told(hive, name)
        assert (message.sender, message.event) == ("system", SystemEvent.REBUILT)
        assert message.body.startswith("rebuilt: your container was rebuilt.")
        await pass_s(clock, LINGER_S[SystemEvent.REBUILT] / 2)
    assert len(await told(hive)) == 1  # its own
    await pass_s(clock, LINGER_S[SystemEvent.REBUILT])
    _, digest = await told(hive)
    assert (digest.sender, digest.event) == ("system", SystemEvent.REBUILT)
    assert digest.body.startswith("rebuilt: iris, atlas. ")
    await pass_s(clock, LINGER_S_MAX)
    assert len(await told(hive)) == 2


async def test_rebuilds_without_end_are_told_all_the_same(hive: Hive, clock: MockClock) -> None:
    pause_s = LINGER_S[SystemEvent.REBUILT] / 2
    for at_ms in range(round(LINGER_S_MAX / pause_s)):
        await rebuild(hive, "iris", at_ms)
        assert await told(hive) == []
        await pass_s(clock, pause_s)
    await pass_s(clock, 0.1)
    assert len(await told(hive)) == 1


async def test_what_lingered_when_brokerd_ended_is_told_by_the_next(unserved: Hive, clock: MockClock) -> None:
    hive = unserved
    async with hive.broker():
        await rebuild(hive, "iris")
    async with hive.broker():
        assert await told(hive) == []
        await settled()
        await pass_s(clock, LINGER_S[SystemEvent.REBUILT])
        assert [message.event for message in await told(hive)] == [SystemEvent.REBUILT]


async def test_a_limit_and_its_end_are_told(hive: Hive, clock: MockClock) -> None:
    await park(hive, "iris", Outcome.RATE_LIMITED, UNTIL_MS)
    await park(hive, "atlas", Outcome.RATE_LIMITED)
    await pass_s(clock, LINGER_S[SystemEvent.RATE_LIMITED])
    (limited,) = await told(hive)
    assert limited.event is SystemEvent.RATE_LIMITED
    assert limited.body.splitlines()[1:] == [
        "- iris until about 2023-11-14 22:13:20 UTC",
        "- atlas until an unknown time",
    ]
    await park(hive, "iris", None)
    await pass_s(clock, LINGER_S[SystemEvent.RESUMED])
    _, resumed = await told(hive)
    assert resumed.event is SystemEvent.RESUMED
    assert resumed.body.startswith("resumed: iris. ")
    assert await told(hive, "iris") == []  # its queue goes on; another turn would only cost


async def test_trying_again_in_vain_is_no_news(hive: Hive, clock: MockClock) -> None:
    await park(hive, "iris", Outcome.RATE_LIMITED)
    await pass_s(clock, LINGER_S[SystemEvent.RATE_LIMITED])
    for _ in range(3):
        await park(hive, "iris", None)
        await pass_s(clock, LINGER_S[SystemEvent.RESUMED] / 2)
        await park(hive, "iris", Outcome.RATE_LIMITED)
        await pass_s(clock, LINGER_S_MAX + LATER_S)
    assert [message.event for message in await told(hive)] == [SystemEvent.RATE_LIMITED]


async def test_a_limit_that_is_over_before_it_is_told_is_no_news(hive: Hive, clock: MockClock) -> None:
    await park(hive, "iris", Outcome.RATE_LIMITED)
    await park(hive, "iris", None)
    await pass_s(clock, LINGER_S_MAX)
    await pass_s(clock, LINGER_S_MAX)
    assert await told(hive) == []


async def test_another_reason_is_not_the_managers_business(hive: Hive, clock: MockClock) -> None:
    for reason in (Outcome.OVERLOADED, Outcome.AUTH, None):
        await park(hive, "iris", reason)
    await park(hive, "hm1nd", Outcome.RATE_LIMITED)  # nor is its own
    await park(hive, "hm1nd", None)
    await pass_s(clock, LINGER_S_MAX)
    assert await told(hive) == []


async def test_a_new_harness_without_a_limit_is_told_as_its_end(hive: Hive, clock: MockClock) -> None:
    await hive.attach("iris")
    await park(hive, "iris", Outcome.RATE_LIMITED)
    await pass_s(clock, LINGER_S[SystemEvent.RATE_LIMITED])
    await hive.attach("iris")
    await settled()
    await pass_s(clock, LINGER_S[SystemEvent.RESUMED])
    assert [message.event for message in await told(hive)] == [
        SystemEvent.RATE_LIMITED,
        SystemEvent.RESUMED,
    ]


async def test_a_manager_that_is_held_up_itself_is_not_told_old_news(hive: Hive, clock: MockClock) -> None:
    for name in ("hm1nd", "iris", "atlas"):
        await park(hive, name, Outcome.RATE_LIMITED)
    await pass_s(clock, LINGER_S_MAX)
    assert await told(hive) == []
    await park(hive, "iris", None)
    await park(hive, "hm1nd", None)
    for _ in range(3):
        await pass_s(clock, LATER_S)
    (limited,) = await told(hive)
    assert limited.body.startswith("rate_limited: atlas. ")


async def test_the_end_of_a_long_pause_is_told(hive: Hive, clock: MockClock, wall: Wall) -> None:
    await hive.operator.call(PauseAgent("atlas"))
    await hive.operator.call(ResumeAgent("atlas"))  # nobody noticed
    await hive.operator.call(PauseAgent("iris"))
    wall.set_by_s += 3_600
    await hive.operator.call(ResumeAgent("iris"))
    await hive.operator.call(PauseAgent("iris"))
    await settled()
    await pass_s(clock, LINGER_S[SystemEvent.RESUMED])
    assert await told(hive) == []  # it does not work again yet
    await hive.operator.call(ResumeAgent("iris"))
    await pass_s(clock, LATER_S)
    (resumed,) = await told(hive)
    assert resumed.event is SystemEvent.RESUMED
    assert resumed.body.startswith("resumed: iris. ")
    assert "- iris: the operator had paused it at " in resumed.body


async def test_nobody_is_told_of_who_is_gone_or_when_there_is_no_manager(
    hive: Hive, clock: MockClock
) -> None:
    await rebuild(hive, "iris")
    hive.privd.remove("iris")
    await settled()
    await pass_s(clock, LINGER_S_MAX)
    assert await told(hive) == []
    hive.privd.remove("hm1nd")
    hive.privd.change(cage("damocles"))
    await hive.served("damocles")
    await rebuild(hive, "atlas")
    await pass_s(clock, LINGER_S_MAX)
    assert {message.to for message in await hive.messages()} == {"iris", "atlas"}
