"""Agents of one model account: held together at its first limit, going on one by one, whatever happens in between."""

import pytest
import trio
from trio.testing import MockClock

from brokerd.live.accounts import CLOCK_LOOK_S
from brokerd.live.digests import LINGER_S, LINGER_S_MAX
from brokerd.policy.accounts import EGRESSD, HELD_MS_MAX, HOUR_MS, RESET_MARGIN_MS, RESUME_EVERY_S
from protocol.agent import ReportParked, Unpark, WatchCommands
from protocol.brokerd import (
    AccountChanged,
    Activity,
    ListAccounts,
    ResumeAccount,
    ResumeAgent,
    WakeParked,
    WatchFeed,
)
from protocol.egressd import Account, AccountWindow
from protocol.limited import ModelAccount
from protocol.messages import Message, SystemEvent
from protocol.problem import Problem, Refused
from protocol.settings import AgentSettings, Credential
from protocol.turns import Outcome
from runtime.clock import now_ms
from tests.brokerd.conftest import Wall
from tests.brokerd.hive import Egressd, Hive, cage
from tests.support.quiet import settled
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

HOUR_S = HOUR_MS / 1000
MARGIN_S = RESET_MARGIN_MS / 1000
DAY_S = 24 * 3600.0
ALL = ("atlas", "hm1nd", "iris")


async def pass_s(clock: MockClock, seconds: float) -> None:
    clock.jump(seconds)
    await settled()


async def limit(hive: Hive, name: str = "iris", for_s: float = HOUR_S) -> int:
    """A turn of an agent meets the limit of its account; until when."""
    await hive.attach(name)
    await hive.send("operator", name)
    _, turn = await hive.begun(name)
    until_ms = now_ms() + round(for_s * 1000)
    await hive.end(name, turn, Outcome.RATE_LIMITED, until_ms)
    return until_ms


async def account(hive: Hive, name: str = "default") -> ModelAccount:
    rows = await hive.operator.call(ListAccounts())
    return next(row for row in rows if row.name == name)


async def held(hive: Hive) -> list[str]:
    return [now.agent.name for now in (await hive.snapshot()).agents if now.agent.limited_by is not None]


async def told(hive: Hive, to: str = "hm1nd") -> list[Message]:
    return [message for message in await hive.messages() if message.to == to and message.sender == "system"]


async def test_the_first_limit_holds_everybody_of_the_account(hive: Hive) -> None:
    for name in ALL:
        await hive.attach(name)
    await hive.send("operator", "atlas", "before")
    until_ms = await limit(hive)
    for name in ALL:
        row = await hive.row(name)
        assert (row.activity, row.parked) == (Activity.PARKED, Outcome.RATE_LIMITED)
        assert (row.limited_by, row.until_ms) == ("default", until_ms)
        assert row.detail.startswith("account default is limited until ")
        assert await hive.take(name) is None
    known = await account(hive)
    assert (known.limited_until_ms, known.said_by, known.held) == (
        until_ms,
        "iris",
        ("hm1nd", "atlas", "iris"),
    )
    assert (await hive.snapshot()).accounts == (known,)


async def test_another_account_is_left_alone(hive: Hive) -> None:
    hive.privd.change(cage("other", account="second"))
    await hive.served("other")
    await limit(hive)
    assert await held(hive) == list(ALL)
    await hive.send("operator", "other")
    await hive.taken("other")


async def test_a_limit_of_unknown_end_holds_nobody_else(hive: Hive) -> None:
    await hive.attach("iris")
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    await hive.end("iris", turn, Outcome.RATE_LIMITED)
    assert await held(hive) == []


async def test_what_was_leased_waits_again_and_a_running_turn_ends_by_itself(hive: Hive) -> None:
    await hive.send("operator", "atlas", "leased")
    await hive.send("operator", "hm1nd", "running")
    leased = await hive.taken("atlas")
    _, running = await hive.begun("hm1nd")
    await limit(hive)
    with pytest.raises(Refused, match=r"lease .* was lost"):
        await hive.begin("atlas", leased)
    assert (await hive.row("hm1nd")).activity is Activity.THINKING
    await hive.send("operator", "hm1nd", "pulled")
    await hive.end("hm1nd", running)
    assert (await hive.row("hm1nd")).activity is not Activity.THINKING
    assert await hive.take("hm1nd") is None


async def test_they_go_on_one_by_one_and_the_manager_first(hive: Hive, clock: MockClock) -> None:
    for name in ALL:
        await hive.send("operator", name)
    await limit(hive)
    await pass_s(clock, HOUR_S)
    assert await held(hive) == list(ALL)
    await pass_s(clock, MARGIN_S)
    assert await held(hive) == ["atlas", "iris"]
    assert (await account(hive)).limited_until_ms is None
    await hive.taken("hm1nd")
    await pass_s(clock, RESUME_EVERY_S - 1)
    assert await held(hive) == ["atlas", "iris"]
    await pass_s(clock, 1.1)
    assert await held(hive) == ["iris"]  # which had a turn, and atlas had none
    await pass_s(clock, RESUME_EVERY_S)
    assert await held(hive) == []
    await hive.taken("iris")


async def test_one_who_waits_for_a_message_is_woken_when_it_may_go_on(hive: Hive, clock: MockClock) -> None:
    await limit(hive)
    got: list[object] = []

    async def wait() -> None:
        got.append(await hive.take("hm1nd", wait_s=170))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await settled()
        await hive.send("operator", "hm1nd")
        await settled()
        assert got == []
        await hive.operator.call(ResumeAccount("default"))
    assert len(got) == 1
    assert got[0] is not None


async def test_the_first_to_meet_it_again_spares_the_others(hive: Hive, clock: MockClock) -> None:
    await hive.send("operator", "hm1nd")
    await limit(hive)
    await pass_s(clock, HOUR_S + MARGIN_S)
    _, turn = await hive.begun("hm1nd")
    until_ms = now_ms() + HOUR_MS
    await hive.end("hm1nd", turn, Outcome.RATE_LIMITED, until_ms)
    assert await held(hive) == list(ALL)
    await pass_s(clock, 4 * RESUME_EVERY_S)
    assert await held(hive) == list(ALL)
    assert (await account(hive)).limited_until_ms == until_ms


async def test_it_survives_the_end_of_brokerd(unserved: Hive, clock: MockClock) -> None:
    hive = unserved
    async with hive.broker():
        await limit(hive)
    async with hive.broker():
        assert await held(hive) == list(ALL)
        await hive.send("operator", "atlas")
        assert await hive.take("atlas") is None
        await pass_s(clock, HOUR_S + MARGIN_S)
        assert await held(hive) == ["atlas", "iris"]
    async with hive.broker():
        await settled()
        assert await held(hive) == ["iris"]
        await pass_s(clock, RESUME_EVERY_S)
        assert await held(hive) == []


async def test_a_clock_that_is_put_forward_ends_it_early(hive: Hive, clock: MockClock, wall: Wall) -> None:
    await limit(hive)
    wall.set_by_s += DAY_S
    await pass_s(clock, CLOCK_LOOK_S)
    assert await held(hive) == ["atlas", "iris"]


async def test_a_clock_that_is_put_back_makes_nobody_wait_longer(
    hive: Hive, clock: MockClock, wall: Wall
) -> None:
    await limit(hive)
    wall.set_by_s -= DAY_S
    await pass_s(clock, CLOCK_LOOK_S)
    assert await held(hive) == list(ALL)
    await pass_s(clock, HOUR_S + MARGIN_S)
    assert await held(hive) == ["atlas", "iris"]


async def test_a_clock_put_back_while_brokerd_is_away_is_bounded(
    unserved: Hive, clock: MockClock, wall: Wall
) -> None:
    hive = unserved
    async with hive.broker():
        await limit(hive)
    wall.set_by_s -= 365 * DAY_S
    async with hive.broker():
        await pass_s(clock, HELD_MS_MAX / 1000 - 60)
        assert await held(hive) == list(ALL)
        await pass_s(clock, 60)
        assert await held(hive) == ["atlas", "iris"]


async def test_the_operator_lets_one_go_on_and_the_others_wait(hive: Hive, clock: MockClock) -> None:
    for name in ALL:
        await hive.attach(name)
    until_ms = await limit(hive)
    await hive.send("operator", "atlas")
    await hive.operator.call(ResumeAgent("atlas"))
    assert await held(hive) == ["hm1nd", "iris"]
    _, turn = await hive.begun("atlas")
    await hive.end("atlas", turn)
    await limit_again(hive, "hm1nd", until_ms)
    assert await held(hive) == ["hm1nd", "iris"]
    await pass_s(clock, HOUR_S + MARGIN_S + 2 * RESUME_EVERY_S)
    await pass_s(clock, 2 * RESUME_EVERY_S)
    assert await held(hive) == []
    await limit(hive, "iris")
    assert await held(hive) == list(ALL)  # its leave ended with that limit


async def limit_again(hive: Hive, name: str, until_ms: int) -> None:
    """A turn that ran on meets the same limit."""
    await hive.operator.call(ResumeAgent(name))
    await hive.send("operator", name)
    _, turn = await hive.begun(name)
    await hive.end(name, turn, Outcome.RATE_LIMITED, until_ms)


async def test_one_that_was_let_go_on_and_meets_the_limit_is_held_again(hive: Hive) -> None:
    until_ms = await limit(hive)
    await limit_again(hive, "atlas", until_ms)
    assert await held(hive) == list(ALL)


async def test_the_operator_lets_all_go_on_one_by_one(hive: Hive, clock: MockClock) -> None:
    await limit(hive)
    await hive.operator.call(ResumeAccount("default"))
    await settled()
    assert await held(hive) == ["atlas", "iris"]
    await pass_s(clock, RESUME_EVERY_S)
    await pass_s(clock, RESUME_EVERY_S)
    assert await held(hive) == []
    with pytest.raises(Refused, match="account default is not limited") as refusal:
        await hive.operator.call(ResumeAccount("default"))
    assert refusal.value.problem is Problem.CONFLICT


async def test_a_harness_that_waits_by_itself_is_told_to_go_on(hive: Hive) -> None:
    until_ms = await limit(hive)
    await hive.agent("iris").call(ReportParked(Outcome.RATE_LIMITED, "said the API", until_ms))
    async with hive.agent("iris").watch(WatchCommands()) as commands:
        await until(lambda: _attached(hive, "iris"), what="the harness to listen")
        await hive.operator.call(WakeParked("iris"))
        assert await anext(aiter(commands)) == Unpark()
    assert await held(hive) == ["atlas", "hm1nd"]


async def _attached(hive: Hive, name: str) -> bool:
    return (await hive.row(name)).activity is not Activity.ABSENT


async def test_waking_one_that_only_its_account_holds_needs_no_harness(hive: Hive) -> None:
    await limit(hive)
    await hive.operator.call(WakeParked("atlas"))
    assert await held(hive) == ["hm1nd", "iris"]
    with pytest.raises(Refused, match="atlas is not parked"):
        await hive.operator.call(WakeParked("atlas"))


async def test_who_comes_while_it_is_limited_is_held_too(hive: Hive) -> None:
    await limit(hive)
    hive.privd.change(cage("late"))
    await hive.served("late")
    await until(lambda: _is_held(hive, "late"), what="the new agent to be held")
    hive.privd.change(cage("late", account="second"))
    await until(lambda: _is_free(hive, "late"), what="the agent of another account to go on")


async def _is_held(hive: Hive, name: str) -> bool:
    return name in await held(hive)


async def _is_free(hive: Hive, name: str) -> bool:
    return name not in await held(hive)


async def test_an_agent_that_is_purged_is_held_no_more(hive: Hive) -> None:
    await limit(hive)
    hive.privd.remove("atlas")
    await until(lambda: _is_free(hive, "atlas"), what="the agent to be gone")
    assert "atlas" not in (await account(hive)).held


# --------------------------------------------------------------------------------------------------- told by egressd


async def test_egressd_sees_the_limit_first(hive: Hive, clock: MockClock) -> None:
    windows = (AccountWindow("tokens", 1_000, 0, 1_000, now_ms() + HOUR_MS),)
    egressd = Egressd(hive.folder)
    async with egressd.serving():
        until_ms = now_ms() + HOUR_MS
        egressd.says(Account("default", now_ms(), until_ms, "429: slow down", windows))
        await settled()
        assert await held(hive) == list(ALL)
        known = await account(hive)
        assert (known.said_by, known.detail, known.windows) == (EGRESSD, "429: slow down", windows)
        egressd.says(Account("default", now_ms(), until_ms + HOUR_MS))
        await settled()
        assert (await account(hive)).limited_until_ms == until_ms + HOUR_MS
        await pass_s(clock, HOUR_S + MARGIN_S)
        assert await held(hive) == list(ALL)  # it ends later
        egressd.says(Account("default", now_ms()))
        await settled()
        assert await held(hive) == ["atlas", "iris"]  # or earlier


async def test_what_egressd_knew_before_brokerd_came_counts(unserved: Hive) -> None:
    hive, egressd = unserved, Egressd(unserved.folder)
    egressd.accounts["default"] = Account("default", now_ms(), now_ms() + HOUR_MS)
    async with hive.broker(), egressd.serving():
        await settled()
        assert await held(hive) == list(ALL)


async def test_an_account_that_no_agent_has_is_not_kept(hive: Hive) -> None:
    egressd = Egressd(hive.folder)
    async with egressd.serving():
        egressd.says(Account("nobody", now_ms(), now_ms() + HOUR_MS))
        egressd.says(Account("default", now_ms()))
        await settled()
        assert [row.name for row in await hive.operator.call(ListAccounts())] == ["default"]


async def test_a_turn_whose_replies_egressd_saw_adds_nothing(hive: Hive) -> None:
    hive.privd.change(cage("iris", credential=Credential.EGRESS))
    await settled()
    egressd = Egressd(hive.folder)
    async with egressd.serving():
        egressd.says(Account("default", now_ms()))
        await settled()
        await limit(hive)
        assert await held(hive) == []
        await limit(hive, "atlas")  # whose key is its own: nobody sees its replies
        assert await held(hive) == list(ALL)
        egressd.says(Account("default", now_ms() + 1))
        await settled()
        await hive.operator.call(ResumeAgent("iris"))
    await until(lambda: not egressd.events, what="egressd to be gone")
    await settled()
    await limit(hive)
    assert await held(hive) == list(ALL)


async def test_the_feed_tells_of_an_account_what_a_snapshot_says(hive: Hive) -> None:
    start = await hive.snapshot()
    await limit(hive)
    now = await account(hive)
    async with hive.operator.watch(WatchFeed(start.epoch, start.seq)) as events:
        async for event in events:
            if isinstance(event.body, AccountChanged):
                assert event.body.account == now
                break


# ----------------------------------------------------------------------------------------- what the manager is told


async def test_the_manager_is_told_of_all_in_one_message_each_way(hive: Hive, clock: MockClock) -> None:
    hive.privd.change(cage("hm1nd", account="second"))
    hive.privd.change(cage("bob"))
    await hive.served("bob")
    await until(lambda: _has_account(hive, "hm1nd", "second"), what="the manager's own account")
    until_ms = await limit(hive)
    await hive.agent("iris").call(
        ReportParked(Outcome.RATE_LIMITED, "said the API", until_ms + RESET_MARGIN_MS)
    )
    await settled()
    await pass_s(clock, LINGER_S[SystemEvent.RATE_LIMITED])
    (limited,) = await told(hive)
    assert limited.event is SystemEvent.RATE_LIMITED
    assert limited.body.startswith("rate_limited: atlas, bob, iris. ")
    assert limited.body.endswith(", with account default")
    assert limited.body.count("\n- ") == 1
    await hive.agent("iris").call(ReportParked())
    await pass_s(clock, HOUR_S + MARGIN_S)
    for _ in range(3):
        await pass_s(clock, RESUME_EVERY_S)
    await pass_s(clock, LINGER_S_MAX)
    _, resumed = await told(hive)
    assert resumed.event is SystemEvent.RESUMED
    assert {"atlas", "bob", "iris"} == set(resumed.body.removeprefix("resumed: ").split(".")[0].split(", "))
    await pass_s(clock, LINGER_S_MAX)
    assert len(await told(hive)) == 2


async def _has_account(hive: Hive, name: str, wanted: str) -> bool:
    with hive.reader() as db:
        row = db.execute("SELECT settings FROM agents WHERE name = ?", (name,)).fetchone()
    return AgentSettings(name).account != wanted and f'"{wanted}"'.encode() in row["settings"]


async def test_a_manager_that_was_held_with_all_others_is_told_nothing(hive: Hive, clock: MockClock) -> None:
    await limit(hive)
    await pass_s(clock, LINGER_S[SystemEvent.RATE_LIMITED] + 1)
    assert await told(hive) == []
    await pass_s(clock, HOUR_S + MARGIN_S)
    for _ in range(40):
        await pass_s(clock, RESUME_EVERY_S)
    assert await told(hive) == []
