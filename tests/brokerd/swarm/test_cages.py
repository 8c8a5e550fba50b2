"""Following privd: agents come, change and go, cages crash, privd goes away and comes back."""

from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from brokerd.policy.guards import Guards
from brokerd.policy.notices import crash_notice, missed_crash_notice
from brokerd.store.schema import shape_of
from protocol.agent import WatchCommands
from protocol.brokerd import AgentGone, WatchFeed
from protocol.limits import AGENTS_MAX
from protocol.messages import DeliveryState, Message, SystemEvent
from protocol.privd import Cage, CageChanged, CageCrashed, Power
from protocol.problem import Refused
from protocol.settings import AgentRole
from protocol.tools import Ask, WhoAmI
from protocol.turns import Outcome
from runtime.client import Client, Disconnected
from runtime.clock import new_key, now_ms
from runtime.store import connect
from tests.brokerd.hive import Hive, Privd, cage
from tests.support.quiet import settled
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def names(hive: Hive) -> list[str]:
    return [now.agent.name for now in (await hive.snapshot()).agents]


def eventually(ask: Callable[[], Awaitable[object]], expected: object) -> Awaitable[bool]:
    async def is_so() -> bool:
        return await ask() == expected

    return until(is_so, what=repr(expected))


async def test_a_new_agent_gets_its_socket(hive: Hive) -> None:
    hive.privd.change(cage("damocles", Power.STOPPED))
    await hive.served("damocles")
    assert (await hive.agent("damocles").call(WhoAmI())).name == "damocles"
    assert await hive.activity("damocles") == "absent"
    assert (await hive.send("operator", "damocles")).recipients == ("damocles",)


async def test_a_socket_waits_for_its_folder(hive: Hive) -> None:
    hive.privd.cages["late"] = cage("late")
    hive.privd.events.publish(CageChanged(hive.privd.cages["late"]))
    await eventually(lambda: _is_known(hive, "late"), True)
    folder = hive.settings.agent_socket("late").parent
    assert not folder.exists()
    folder.mkdir(parents=True)
    await hive.served("late")
    assert (await hive.agent("late").call(WhoAmI())).name == "late"


async def _is_known(hive: Hive, name: str) -> bool:
    return name in await names(hive)


async def test_what_is_only_kept_has_no_socket_and_no_turn(hive: Hive) -> None:
    sent = await hive.send("operator", "iris")
    await hive.begun("iris")
    hive.privd.change(cage("iris", Power.KEPT))
    await eventually(lambda: names(hive), ["atlas", "hm1nd"])
    assert not hive.settings.agent_socket("iris").exists()
    with pytest.raises(Disconnected):
        await hive.agent("iris").call(WhoAmI())
    with pytest.raises(Refused, match="there is no agent iris"):
        await hive.send("operator", "iris")
    assert await hive.states(sent.message) == [DeliveryState.QUEUED]
    hive.privd.change(cage("iris"))
    await hive.served("iris")
    assert (await hive.taken("iris")).message.id == sent.message


async def test_an_agent_that_was_purged_leaves_nothing_open(hive: Hive) -> None:
    start = await hive.snapshot()
    sent = [(await hive.send("operator", "iris")).message for _ in range(3)]
    await hive.begun("iris")
    hive.privd.remove("iris")
    await eventually(lambda: names(hive), ["atlas", "hm1nd"])

    async def states() -> set[DeliveryState]:
        return {state for message in sent for state in await hive.states(message)}

    await eventually(states, {DeliveryState.DEAD})
    assert not hive.settings.agent_socket("iris").exists()
    async with hive.operator.watch(WatchFeed(start.epoch, start.seq)) as events:
        async for event in events:
            if event.body == AgentGone("iris"):
                break
    assert [message.id for message in (await hive.snapshot()).wanting] == sent
    hive.privd.change(cage("iris"))
    await hive.served("iris")
    assert await hive.take("iris") is None  # a namesake does not get the old one's mail


@pytest.mark.parametrize(
    ("power", "outcome"),
    [(Power.STOPPED, Outcome.INTERRUPTED), (Power.CRASHED, Outcome.CRASHED), (Power.FAILED, Outcome.CRASHED)],
)
async def test_the_end_of_a_cage_is_the_end_of_its_turn(hive: Hive, power: Power, outcome: Outcome) -> None:
    await hive.attach("iris")
    sent = await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    hive.privd.change(cage("iris", power))
    await eventually(lambda: hive.activity("iris"), "absent")
    assert await hive.states(sent.message) == [DeliveryState.QUEUED]
    assert (await hive.end("iris", turn, Outcome.DONE)).requeued == 1  # it ended before
    assert (await hive.taken("iris")).attempt == (1 if outcome is Outcome.INTERRUPTED else 2)


@pytest.mark.parametrize("power", [Power.STARTING, Power.RUNNING, Power.STOPPING])
async def test_a_cage_that_lives_keeps_its_turn(hive: Hive, power: Power) -> None:
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    hive.privd.change(cage("iris", power))
    hive.privd.change(cage("damocles"))  # told after the other
    await hive.served("damocles")
    assert (await hive.end("iris", turn)).done == 1


async def test_late_news_of_an_earlier_cage_ends_nothing_of_the_next(hive: Hive) -> None:
    """A cage that is started anew can have its harness at work before brokerd has read that the last one ended."""
    before_ms = now_ms() - 1
    await hive.attach("iris")
    sent = await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    for power in (Power.CRASHED, Power.STOPPED, Power.STARTING, Power.RUNNING):
        hive.privd.change(replace(cage("iris", power), since_ms=before_ms))
    hive.privd.events.publish(CageCrashed("iris", before_ms, "ended with status 70", ()))
    assert (await hive.taken("hm1nd", wait_s=10)).message.event == SystemEvent.CONTAINER_CRASH
    assert await hive.activity("iris") == "thinking"
    assert await hive.states(sent.message) == [DeliveryState.IN_TURN]
    assert (await hive.end("iris", turn)).done == 1
    hive.privd.change(cage("iris", Power.STOPPED))
    await eventually(lambda: hive.activity("iris"), "absent")


async def test_the_end_of_a_cage_gives_back_a_lease(hive: Hive) -> None:
    await hive.send("operator", "iris")
    delivery = await hive.taken("iris")
    hive.privd.change(cage("iris", Power.STOPPED))
    hive.privd.change(cage("damocles"))
    await hive.served("damocles")
    with pytest.raises(Refused, match="was lost"):
        await hive.begin("iris", delivery)
    assert (await hive.taken("iris")).id == delivery.id


async def test_a_crash_is_told_to_the_manager(hive: Hive) -> None:
    sent = await hive.send("operator", "iris")
    await hive.begun("iris")
    hive.privd.events.publish(CageCrashed("iris", 7, "ended with status 70", ("one", "two")))
    notice = (await hive.taken("hm1nd", wait_s=10)).message
    assert (notice.sender, notice.to, notice.event) == ("system", "hm1nd", SystemEvent.CONTAINER_CRASH)
    assert notice.body == crash_notice("iris", "ended with status 70", ("one", "two"))
    assert notice.body.endswith("iris| one\niris| two")
    assert await hive.states(sent.message) == [DeliveryState.QUEUED]


async def test_the_managers_own_crash_is_told_to_the_operator(hive: Hive) -> None:
    hive.privd.events.publish(CageCrashed("hm1nd", 7, "ended with status 70", ()))
    hive.privd.events.publish(CageCrashed("atlas", 8, "ended with status 71", ()))
    notice = (await hive.taken("hm1nd", wait_s=10)).message
    assert "atlas" in notice.body
    assert [(each.to, each.event) for each in await hive.messages()] == [
        ("operator", SystemEvent.CONTAINER_CRASH),
        ("hm1nd", SystemEvent.CONTAINER_CRASH),
    ]
    assert (await hive.snapshot()).operator_unread == 1


async def test_without_a_manager_a_crash_is_told_to_the_operator(hive: Hive) -> None:
    hive.privd.remove("hm1nd")
    hive.privd.events.publish(CageCrashed("atlas", 7, "ended with status 71", ()))
    hive.privd.change(cage("damocles"))
    await hive.served("damocles")
    assert [message.to for message in await hive.messages()] == ["operator"]


@pytest.mark.parametrize("guards", [Guards(inbox_deliveries_max=1)])
async def test_a_manager_whose_inbox_is_full_is_not_told_and_the_log_says_so(
    hive: Hive, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the hive says is refused last, but it is."""
    await hive.send("operator", "hm1nd")
    for at_ms in (7, 8):
        hive.privd.events.publish(CageCrashed("iris", at_ms, "ended with status 70", ()))
    hive.privd.change(cage("damocles"))
    await hive.served("damocles")
    assert [message.sender for message in await hive.messages()] == ["operator", "system"]
    assert "nobody can be told" in "".join(capsys.readouterr())


async def test_a_crash_that_nobody_heard_of_is_told_once(unserved: Hive) -> None:
    """Of whatever happened while brokerd was away, and of nothing else."""
    hive = unserved
    async with hive.broker():
        hive.privd.events.publish(CageCrashed("iris", 1_000, "ended with status 70", ()))
        hive.privd.change(replace(cage("iris"), crashed_ms=1_000))
        await until(hive.messages, what="the crash to be told")
    async with hive.broker():
        assert len(await hive.messages()) == 1  # told before
    hive.privd.change(replace(cage("atlas"), crashed_ms=1_700_000_000_000))
    for _ in range(2):
        async with hive.broker():
            heard, missed = await until(lambda: _so_many(hive, 2), what="the other crash to be told")
            assert heard.body == crash_notice("iris", "ended with status 70", ())
            assert missed.body == missed_crash_notice("atlas", 1_700_000_000_000)
            assert (missed.to, missed.event) == ("hm1nd", SystemEvent.CONTAINER_CRASH)


async def test_a_crash_that_privd_tells_late_is_told_once(unserved: Hive) -> None:
    """A cage ended while privd was away: its row says so first, and then an event, or only one of the two."""
    hive = unserved
    hive.privd.change(replace(cage("iris"), crashed_ms=1_000))
    async with hive.broker():
        await until(lambda: _so_many(hive, 1), what="the crash to be told")
        for _ in range(2):
            hive.privd.events.publish(
                CageCrashed("iris", 1_000, "ended while privd was away", ("last words",))
            )
        hive.privd.events.publish(CageCrashed("atlas", 2_000, "ended while privd was away", ()))
        missed, heard = await until(lambda: _so_many(hive, 2), what="the other crash to be told")
        assert missed.body == missed_crash_notice("iris", 1_000)
        assert heard.body == crash_notice("atlas", "ended while privd was away", ())
        hive.privd.change(replace(cage("atlas"), crashed_ms=2_000))
        hive.privd.change(cage("damocles"))
        await hive.served("damocles")
    async with hive.broker():
        assert len(await hive.messages()) == 2


async def _so_many(hive: Hive, count: int) -> tuple[Message, ...] | None:
    found = await hive.messages()
    return found if len(found) == count else None


async def test_a_rebuild_that_nobody_heard_of_is_told_once(unserved: Hive) -> None:
    hive = unserved
    hive.privd.change(replace(cage("iris"), rebuilt_ms=1_000))
    for _ in range(2):
        async with hive.broker():
            (told,) = await until(hive.messages, what="the rebuild to be told")
            assert (told.to, told.event) == ("iris", SystemEvent.REBUILT)


async def test_what_a_purge_left_half_done_is_done_at_the_next_start(unserved: Hive) -> None:
    """A brokerd was killed after it had forgotten the agent, before all that waits for it was given up."""
    hive = unserved
    async with hive.broker():
        sent = await hive.send("operator", "iris")
        await hive.agent("iris").call(Ask(question="may I?", key=new_key()))
    with closing(connect(shape_of(hive.settings.database, hive.settings.events_database))) as db:
        db.execute("DELETE FROM agents WHERE name = 'iris'")
    del hive.privd.cages["iris"]
    async with hive.broker():
        await eventually(lambda: hive.states(sent.message), [DeliveryState.DEAD])
        assert (await hive.snapshot()).questions == ()


async def test_another_role_or_uid_is_another_door(hive: Hive) -> None:
    """Connections of the old harness end; whoever comes then is who privd says."""
    async with hive.agent("iris").watch(WatchCommands()) as commands:
        hive.privd.change(_with_role(AgentRole.MANAGER))
        with pytest.raises((Disconnected, Refused)):
            await anext(commands)
    await eventually(lambda: _role(hive), AgentRole.MANAGER)


def _with_role(role: AgentRole) -> Cage:
    return msgspec.structs.replace(
        cage("iris"), settings=msgspec.structs.replace(cage("iris").settings, role=role)
    )


async def _role(hive: Hive) -> AgentRole | None:
    try:
        return (await hive.agent("iris").call(WhoAmI())).role
    except (Disconnected, Refused):
        return None


async def test_a_socket_that_was_removed_is_made_again_when_its_cage_changes(hive: Hive) -> None:
    hive.settings.agent_socket("iris").unlink()
    hive.privd.change(cage("iris", Power.STARTING))
    await hive.served("iris")
    assert (await hive.agent("iris").call(WhoAmI())).name == "iris"


async def test_another_uid_is_turned_away_unheard(hive: Hive) -> None:
    hive.privd.change(msgspec.structs.replace(cage("damocles"), harness_uid=4_242))
    await hive.served("damocles")
    async with await trio.open_unix_socket(hive.settings.agent_socket("damocles")) as stream:
        assert await stream.receive_some(1) == b""


async def test_while_privd_is_away_everything_goes_on(short_folder: Path) -> None:
    hive = Hive(short_folder, Privd(short_folder))
    hive.privd.change(cage("iris"))
    hive.privd.change(cage("atlas"))
    async with hive.privd.serving(), hive.broker():
        await hive.send("operator", "iris", "one")
    async with hive.broker():  # nobody answers at swarm.sock
        assert await names(hive) == ["atlas", "iris"]
        await hive.send("atlas", "iris", "two")
        _, turn = await hive.begun("iris")
        await hive.end("iris", turn)
        hive.privd.change(cage("damocles"))
        async with hive.privd.serving():
            await hive.served("damocles")
        assert (await hive.taken("iris")).message.body == "two"
        await eventually(lambda: names(hive), ["atlas", "damocles", "iris"])
        del hive.privd.cages["damocles"]
        async with hive.privd.serving():
            await eventually(lambda: names(hive), ["atlas", "iris"])
    await hive.forget_connections()


async def test_privds_absence_is_told_once(
    short_folder: Path, clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    hive = Hive(short_folder, Privd(short_folder))
    async with hive.broker():
        async with hive.privd.serving():
            hive.privd.change(cage("iris"))
            await hive.served("iris")
        for _ in range(5):  # several tries
            clock.jump(3)
            await settled()
    told = "".join(capsys.readouterr())
    assert told.count("not following privd just now") == 2
    assert told.count("following privd again") == 1
    await hive.forget_connections()


async def test_a_full_hive_is_served(hive: Hive) -> None:
    for number in range(AGENTS_MAX - 3):
        hive.privd.change(cage(f"a{number}"))
    await hive.served(*(f"a{number}" for number in range(AGENTS_MAX - 3)))
    sent = await hive.send("hm1nd", "*", "everyone")
    assert len(sent.recipients) == AGENTS_MAX - 1
    for name in ("iris", "a0", f"a{AGENTS_MAX - 4}"):
        async with Client(hive.settings.agent_socket(name)) as client:
            assert (await client.call(WhoAmI())).name == name
        assert (await hive.taken(name)).message.broadcast
