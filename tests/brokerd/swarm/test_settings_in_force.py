"""Deployed settings are in force in brokerd at once: reminders, recipients, checks, the model; faults are told."""

from typing import Any

import pytest
from msgspec.structs import replace

from protocol.agent import BeginTurn, ProveHealth, ReportHealth, WatchCommands
from protocol.approvals import Deployment, DeploymentKind, DeploymentState
from protocol.brokerd import ChooseModel, FireReminder
from protocol.messages import DeliveryState, SystemEvent
from protocol.names import MANAGER_NAME, SYSTEM
from protocol.privd import Cage, Power
from protocol.problem import Problem, Refused
from protocol.reminders import Reminder
from protocol.settings import StandingReminder
from protocol.tools import CancelReminder, ListAgents, ListReminders, Remind, WhoAmI
from runtime.clock import new_key
from tests.brokerd.hive import Hive, cage
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ROUNDS = StandingReminder("rounds", "make your rounds", every_s=3_600)
NIGHTLY = StandingReminder("nightly", "tidy up", cron="0 3 * * *", zone="Europe/Berlin")


async def standing(hive: Hive, agent: str = "iris") -> dict[str, Reminder]:
    page = await hive.operator.call(ListReminders(agent=agent))
    assert len({each.standing for each in page.reminders}) == len(page.reminders), "doubled"
    return {str(each.standing): each for each in page.reminders}


async def has(hive: Hive, *names: str, agent: str = "iris") -> dict[str, Reminder]:
    """The reminders of an agent, once they have these names and no others."""

    async def found() -> list[dict[str, Reminder]] | None:
        there = await standing(hive, agent)
        return [there] if set(there) == set(names) else None

    [there] = await until(found, what=f"the reminders {names}")
    return there


def iris(*reminders: StandingReminder, **settings: Any) -> Cage:
    return cage("iris", reminders=reminders, **settings)


async def test_reminders_come_change_and_go_with_each_deployment(hive: Hive) -> None:
    hive.privd.change(iris(ROUNDS, NIGHTLY))
    first = await has(hive, "rounds", "nightly")
    for power in (Power.STOPPING, Power.STOPPED, Power.STARTING, Power.RUNNING):
        hive.privd.change(replace(iris(ROUNDS, NIGHTLY), power=power))
    hive.privd.change(iris(replace(ROUNDS, body="quickly")))
    after = await has(hive, "rounds")

    async def quick() -> bool:
        return (await standing(hive))["rounds"].body == "quickly"

    await until(quick, what="the new words")
    assert after["rounds"].id == first["rounds"].id
    hive.privd.change(iris())
    await has(hive)


async def test_a_broker_that_comes_back_doubles_none_and_makes_what_it_missed(unserved: Hive) -> None:
    hive = unserved
    async with hive.broker():
        hive.privd.change(iris(ROUNDS, model="sonnet"))
        first = await has(hive, "rounds")
        await hive.operator.call(ChooseModel("iris", "opus"))
    async with hive.broker():
        assert (await standing(hive))["rounds"] == first["rounds"]
        await hive.attach("iris")
        assert await model(hive) == "opus"
    hive.privd.cages["iris"] = iris(NIGHTLY, ROUNDS, model="haiku")
    async with hive.broker():
        both = await has(hive, "rounds", "nightly")
        assert both["rounds"] == first["rounds"]
        await hive.attach("iris")
        assert await model(hive) is None
    hive.privd.cages["iris"] = iris()
    async with hive.broker():
        await has(hive)


async def test_an_agent_that_is_destroyed_or_purged_leaves_none(hive: Hive) -> None:
    hive.privd.change(iris(ROUNDS))
    first = await has(hive, "rounds")
    hive.privd.change(replace(iris(ROUNDS), power=Power.KEPT))
    await has(hive)
    hive.privd.change(iris(ROUNDS))
    second = await has(hive, "rounds")
    assert second["rounds"].id > first["rounds"].id
    hive.privd.remove("iris")
    await has(hive)


async def test_nobody_but_the_operator_ends_what_a_configuration_sets(hive: Hive) -> None:
    hive.privd.change(iris(ROUNDS))
    number = (await has(hive, "rounds"))["rounds"].id
    for who in ("iris", MANAGER_NAME):
        with pytest.raises(Refused, match="stands in iris's configuration, as rounds") as refused:
            await hive.agent(who).call(CancelReminder(number))
        assert refused.value.problem is Problem.DENIED
    await hive.operator.call(CancelReminder(number))
    hive.privd.change(iris(ROUNDS, model="opus"))
    hive.privd.change(iris(ROUNDS, NIGHTLY))
    await has(hive, "nightly")


async def test_a_reminder_that_cannot_be_is_a_fault_of_the_deployment(hive: Hive) -> None:
    """The harness is well; the configuration is not in force."""
    wrong = replace(NIGHTLY, cron="61 3 * * *")
    async with hive.agent("iris").watch(WatchCommands()) as commands:
        hive.privd.change(replace(iris(ROUNDS, wrong), started_ms=50))
        await has(hive, "rounds")
        checking = Deployment("iris", 2, DeploymentKind.CONFIG, DeploymentState.CHECKING, "c" * 40, 5, 6)
        hive.privd.deploy(checking)
        assert await anext(commands) == ProveHealth(50)
        await hive.agent("iris").call(ReportHealth(50))
        await until(lambda: hive.privd.confirmed, what="privd to be told")
        [told] = hive.privd.confirmed
        assert told.fault.startswith("reminder nightly: cron: ")
        hive.privd.change(replace(iris(ROUNDS, NIGHTLY), started_ms=60))
        assert await anext(commands) == ProveHealth(60)
        await hive.agent("iris").call(ReportHealth(60))
        await until(lambda: len(hive.privd.confirmed) == 2, what="privd to be told again")
    assert hive.privd.confirmed[-1].fault == ""
    assert set(await standing(hive)) == {"rounds", "nightly"}


async def test_whom_an_agent_may_write_to_changes_with_the_settings(hive: Hive) -> None:
    await hive.send("iris", "atlas")
    hive.privd.change(iris(allowed_recipients=(MANAGER_NAME,)))

    async def is_refused() -> bool:
        try:
            await hive.send("iris", "atlas")
        except Refused as refused:
            return refused.problem is Problem.DENIED
        return False

    await until(is_refused, what="the refusal")
    assert (await hive.agent("iris").call(WhoAmI())).allowed_recipients == (MANAGER_NAME,)
    hive.privd.change(iris())

    async def is_taken() -> bool:
        return not await is_refused()

    await until(is_taken, what="the message to be taken")


async def test_an_agent_whose_commands_are_limited_sets_no_checks(hive: Hive) -> None:
    def remind(text: str, only_if: str | None = "true", **more: str) -> Remind:
        return Remind(text=text, key=new_key(), in_s=3_600, only_if=only_if, **more)  # type: ignore[arg-type]  # any field

    mine = await hive.agent("iris").call(remind("mine"))
    hive.privd.change(iris(allowed_commands=("git *",)))

    async def check() -> str | None:
        page = await hive.operator.call(ListReminders(agent="iris"))
        return next(each.only_if for each in page.reminders if each.id == mine.id)

    async def is_gone() -> bool:
        return await check() is None

    await until(is_gone, what="the check to go")
    for who, more in (("iris", {}), (MANAGER_NAME, {"agent": "iris"})):
        with pytest.raises(Refused, match="only_if: iris may run some shell commands only") as refused:
            await hive.agent(who).call(remind("again", **more))
        assert refused.value.problem is Problem.DENIED
        await hive.agent(who).call(remind("without", None, **more))
    assert (await hive.operator.call(remind("theirs", agent="iris"))).only_if == "true"
    assert (await hive.agent("atlas").call(remind("free"))).only_if == "true"


async def test_icon_and_pronouns_are_known_to_colleagues(hive: Hive) -> None:
    hive.privd.change(iris(icon="Y", pronouns="it/its"))

    async def known() -> bool:
        cards = {each.name: each for each in await hive.agent("atlas").call(ListAgents())}
        return (cards["iris"].icon, cards["iris"].pronouns) == ("Y", "it/its")

    await until(known, what="the card")
    me = await hive.agent("iris").call(WhoAmI())
    assert (me.icon, me.pronouns) == ("Y", "it/its")


async def model(hive: Hive, agent: str = "iris") -> str | None:
    """What a turn that begins now is told, and whether everybody sees the same."""
    await hive.send("operator", agent)
    delivery = await hive.taken(agent)
    begun = await hive.agent(agent).call(BeginTurn(delivery.id, delivery.token))
    assert (await hive.agent(agent).call(BeginTurn(delivery.id, delivery.token))).model == begun.model
    await hive.end(agent, begun.turn)
    row = await hive.row(agent)
    assert row.model == begun.model
    return begun.model


async def test_the_operators_model_counts_until_the_settings_name_another(hive: Hive) -> None:
    hive.privd.change(iris(model="sonnet"))
    await hive.attach("iris")
    assert await model(hive) is None
    await hive.operator.call(ChooseModel("iris", "opus"))
    assert await model(hive) == "opus"
    assert (await hive.agent("iris").call(WhoAmI())).model == "opus"
    for same in (iris(ROUNDS, model="sonnet"), replace(iris(model="sonnet"), power=Power.STOPPED)):
        hive.privd.change(same)
    hive.privd.change(iris(NIGHTLY, model="sonnet"))
    await has(hive, "nightly")
    assert await model(hive) == "opus"
    hive.privd.change(iris(model="haiku"))
    await has(hive)
    assert await model(hive) is None
    hive.privd.change(iris(ROUNDS, model="sonnet"))
    await has(hive, "rounds")
    assert await model(hive) is None, "the choice has ended, and does not come back"


async def test_the_operator_takes_the_choice_back(hive: Hive) -> None:
    await hive.attach("iris")
    for words in ({"model": "opus"}, {"model": "haiku"}, {"model": "opus"}, {}):
        seq = (await hive.operator.call(ChooseModel("iris", **words))).seq
        assert (await hive.snapshot()).seq >= seq
        assert await model(hive) == ("opus" if words.get("model") == "opus" else None)
    with pytest.raises(Refused, match="there is no agent nobody"):
        await hive.operator.call(ChooseModel("nobody", "opus"))


async def test_a_reminder_of_a_configuration_drives_a_turn(hive: Hive) -> None:
    hive.privd.change(iris(ROUNDS))
    number = (await has(hive, "rounds"))["rounds"].id
    await hive.attach("iris")
    await hive.operator.call(FireReminder(number))
    delivery, turn = await hive.begun("iris")
    assert (delivery.message.sender, delivery.message.event) == (SYSTEM, SystemEvent.REMINDER)
    await hive.end("iris", turn)
    assert await hive.states(delivery.message.id) == [DeliveryState.DONE]
    assert (await standing(hive))["rounds"].delivered == 1
