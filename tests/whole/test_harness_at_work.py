"""A real harness before a real broker: questions, reminders, pauses and bounds, and a turn that has to be repeated."""

from functools import partial
from pathlib import Path

import msgspec
import pytest

from protocol.brokerd import FireReminder, ListQuestions, PauseAgent, ResumeAgent
from protocol.names import MANAGER_NAME
from protocol.questions import Question
from protocol.reminders import Reminder
from protocol.tools import Answer, ListReminders, Remind, RollUpReminders
from protocol.turns import Noted, Outcome
from runtime.clock import new_key
from tests.brokerd.hive import UNHURRIED
from tests.support.desk import Desk, desk
from tests.support.relay import Side
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]


async def questions(at: Desk) -> tuple[Question, ...]:
    return (await at.hive.operator.call(ListQuestions(open=False))).questions


async def reminders(at: Desk) -> tuple[Reminder, ...]:
    return (await at.hive.operator.call(ListReminders(agent=at.agent, ended=True))).reminders


async def test_the_operator_is_asked_and_the_answer_comes_back(place: Path) -> None:
    async with desk(place, "iris") as at, at.hive.broker():
        async with at.harness() as running:
            asked = await at.hive.send("operator", "iris", "ask operator may I? [yes | no]")
            [question] = await until(partial(questions, at), what="the question")
            assert (question.asker, question.options) == ("iris", ("yes", "no"))
            await at.hive.operator.call(Answer(question.id, choices=("yes",), answer="but slowly"))

            async def told() -> list[str]:
                messages = await at.hive.messages()
                return [each.body for each in messages if each.in_reply_to == asked.message]

            [answer] = await until(told, what="the answer to be passed on")
            assert await running.stop() == 0
        assert answer.startswith("operator answers: ")
        assert "yes" in answer
        assert "but slowly" in answer


@pytest.mark.parametrize(
    "words", ["ask operator may I?", f"ask {MANAGER_NAME} which? [a | b]", "remind in 9999 look"]
)
async def test_a_turn_that_comes_again_asks_and_reminds_once(place: Path, words: str) -> None:
    """The harness dies after the tool call and before its turn's end is on disk: the same keys, the same answers."""
    async with desk(place, "iris") as at, at.hive.broker():
        sent = await at.hive.send("operator", "iris", words)
        async with at.harness() as first:
            at.relay.hold("end_turn", Side.REQUEST)
            await at.relay.held.wait()
            first.harness.kill()
            await first.harness.wait()
            at.relay.cut()
        async with at.harness() as second:
            await until(partial(at.is_done, sent.message), what="the message to be done")
            assert await second.stop() == 0
        outcomes = [turn.outcome for turn in await at.turns(sent.message)]
        assert sorted(map(str, outcomes)) == ["crashed", "done"]
        assert len(await questions(at)) + len(await reminders(at)) == 1
        assert len(await at.hive.messages()) == (2 if MANAGER_NAME in words else 1)


async def test_a_reminder_is_skipped_or_drives_a_turn_as_its_command_says(place: Path) -> None:
    async with desk(place, "iris") as at, at.hive.broker():
        request = Remind("look at it", new_key(), in_s=99_999, only_if="test -e wanted", agent="iris")
        reminder = await at.hive.operator.call(request)
        async with at.harness() as running:
            await at.hive.operator.call(FireReminder(reminder.id))
            await until(partial(rolled_up, at, "skipped"), what="the reminder to be skipped")
            assert await at.journal() == ()
            (running.places.state / "wanted").touch()
            await at.hive.operator.call(FireReminder(reminder.id))
            await until(partial(rolled_up, at, "delivered"), what="the reminder to be delivered")
            assert await running.stop() == 0
        [item] = await at.journal()
        assert (item.turn.outcome, item.turn.woke_by) == (Outcome.DONE, "operator")


async def rolled_up(at: Desk, what: str) -> bool:
    rollup = await at.hive.operator.call(RollUpReminders(agent="iris"))
    return bool(msgspec.to_builtins(rollup)[what])


async def test_a_paused_agent_waits_and_goes_on_without_a_new_harness(place: Path) -> None:
    async with desk(place, "iris") as at, at.hive.broker():
        async with at.harness() as running:
            at.relay.hold("begin_turn", Side.REQUEST)
            sent = await at.hive.send("operator", "iris", "who")
            await at.relay.held.wait()
            await at.hive.operator.call(PauseAgent("iris"))
            at.relay.let_go()
            await until(lambda: "the turn did not begin" in running.log(), what="the refusal")
            assert not await at.is_done(sent.message)
            await at.hive.operator.call(ResumeAgent("iris"))
            await until(partial(at.is_done, sent.message), what="the message to be done")
            assert await running.stop() == 0
            assert running.log().count("the turn did not begin") == 1
        assert [turn.outcome for turn in await at.turns(sent.message)] == [Outcome.DONE]


async def test_a_turn_with_more_events_than_are_kept_ends_well_and_says_so(place: Path) -> None:
    guards = msgspec.structs.replace(UNHURRIED, turn_events_max=5)
    async with desk(place, "iris", guards) as at, at.hive.broker():
        async with at.harness() as running:
            sent = await at.hive.send("operator", "iris", "count to 12")
            await until(partial(at.is_done, sent.message), what="the message to be done")
            assert await running.stop() == 0
        [item] = await at.journal()
        assert item.turn.outcome is Outcome.DONE
        assert item.turn.tool_calls == 1
        *kept, note = item.events
        assert 1 <= len(kept) <= 5
        assert isinstance(note, Noted)
        assert note.text.endswith("events were left out here: the hive keeps no more of this turn")
        assert [event.n for event in item.events] == list(range(len(item.events)))
