"""Demo agents in conversation: real harness, spawner, bridge, MCP and CLI processes; only the broker is the test's."""

import sys
import time
from pathlib import Path

import pytest
import trio

from protocol import agent as wire
from protocol.messages import SystemEvent
from protocol.problem import Problem, Refused
from protocol.settings import AgentSettings
from protocol.turns import Outcome
from tests.harness.cage import cage, furnish
from tests.harness.hub import Hub, TurnRecord
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]


def demo(name: str) -> AgentSettings:
    return AgentSettings(name)


async def test_the_operators_word_is_relayed_and_the_answer_comes_back(place: Path) -> None:
    hub = Hub(place)
    async with (
        hub.up("hm1nd", "iris"),
        cage(place, demo("hm1nd")) as manager,
        cage(place, demo("iris")) as iris,
    ):
        asked = hub.write("hm1nd", "tell iris hello")
        [answer] = await until(hub.received, what="an answer to the operator")
        await until(lambda: len(hub.ended()) == 3, what="three turns to end")
        assert await manager.stop() == 0
        assert await iris.stop() == 0
    assert answer.sender == "hm1nd"
    assert answer.in_reply_to == asked.id
    assert answer.body.startswith("iris answers: Thank you, hm1nd. I am iris, a demo agent without a model")
    assert "“hello”" in answer.body
    [to_iris] = hub.received("iris")
    assert (to_iris.body, to_iris.sender) == ("hello", "hm1nd")
    assert [(turn.agent, turn.end.outcome) for turn in hub.ended() if turn.end] == [
        ("hm1nd", Outcome.DONE),
        ("iris", Outcome.DONE),
        ("hm1nd", Outcome.DONE),
    ]
    first = hub.ended()[0]
    assert first.kinds() == ["Woken", "Said", "ToolCalled", "ToolReturned", "Said"]
    assert "no model is behind me" in first.texts()
    assert len(hub.messages) == 4  # nobody thanks for thanks


async def test_a_question_between_agents_is_answered_and_the_answer_comes_back(place: Path) -> None:
    hub = Hub(place)
    async with (
        hub.up("hm1nd", "iris"),
        cage(place, demo("hm1nd")) as manager,
        cage(place, demo("iris")) as iris,
    ):
        asked = hub.write("hm1nd", "ask iris which tea? [green | black]")
        [answer] = await until(hub.received, what="an answer to the operator")
        await until(lambda: len(hub.ended()) == 3, what="three turns to end")
        await manager.stop()
        await iris.stop()
        profile = iris.places.profile.read_text()
    assert (answer.sender, answer.in_reply_to, answer.body) == ("hm1nd", asked.id, "iris answers: green")
    [question] = hub.questions.values()
    assert (question.asked_of, question.choices) == ("iris", ("green",))
    assert profile.startswith("pronouns: it/its\n")
    [turn] = hub.ended("iris")
    assert turn.end is not None
    assert turn.end.tools == {"open_threads": 1, "answer": 1}


async def test_a_reminder_is_set_told_and_forgotten(place: Path) -> None:
    hub = Hub(place)
    async with hub.up("iris"), cage(place, demo("iris")) as iris:
        asked = hub.write("iris", "remind in 60 drink tea")
        [reminder] = await until(lambda: list(hub.reminders.values()), what="the reminder")
        due = SystemEvent.REMINDER
        hub.write("iris", reminder.body, sender="iris", event=due, about=reminder.id, only_if="true")
        [told] = await until(hub.received, what="the reminder to be passed on")
        assert (told.body, told.in_reply_to) == ("You wanted to be reminded: drink tea", asked.id)
        hub.write(
            "iris", reminder.body, sender="iris", event=due, about=reminder.id, only_if="echo no; false"
        )
        [skip] = await until(lambda: hub.skipped, what="the reminder to be skipped")
        assert skip.detail == "only_if ended with 1: no"
        hub.write("iris", f"forget {reminder.id}")
        await until(lambda: not hub.reminders, what="the reminder to be cancelled")
        await until(lambda: len(hub.ended()) == 3, what="three turns to end")
        await iris.stop()
    assert len(hub.turns) == 3


async def test_a_turns_end_tells_tools_and_the_size_of_the_notes(place: Path) -> None:
    hub = Hub(place)
    async with hub.up("iris"), cage(place, demo("iris")) as iris:
        hub.write("iris", "who")
        hub.write("iris", "remember the milk")
        await until(lambda: len(hub.ended()) == 2, what="two turns to end")
        await iris.stop()
    ends = [turn.end for turn in hub.ended() if turn.end]
    assert [end.tools for end in ends] == [{"list_agents": 1, "send": 1}, {"send": 1}]
    assert [end.notes_bytes for end in ends] == [None, len("- the milk\n")]


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("help", "I am iris, a demo agent: no model is behind me. I understand:"),
        ("who", "In the hive are:\niris (agent): idle"),
        ("reminders", "I have set no reminder."),
        ("open", "Nothing is open."),
        ("status sweeping the floor", "My status is now: sweeping the floor"),
        ("remember the milk", "I wrote that into my notes."),
        ("count to 3", "I counted to 3."),
        ("tell nobody hello", "I could not pass that on to nobody: not_found: there is no agent nobody"),
        ("/clear", "Thank you, operator. I am iris"),
    ],
)
async def test_what_it_understands(place: Path, body: str, answer: str) -> None:
    hub = Hub(place)
    async with hub.up("iris"), cage(place, demo("iris")) as iris:
        hub.write("iris", body)
        await until(hub.ended, what="the turn to end")
        await iris.stop()
        assert hub.received()[0].body.startswith(answer)
        assert hub.status.get("iris", "") == ("sweeping the floor" if body.startswith("status") else "")
        notes = iris.places.notes
        assert (notes.read_text() if notes.exists() else "") == ("- the milk\n" if "milk" in body else "")


async def test_answers_broadcasts_and_the_hive_itself_are_not_answered(place: Path) -> None:
    hub = Hub(place)
    async with hub.up("iris", "atlas"), cage(place, demo("iris")) as iris:
        said = hub.write("atlas", "hello", sender="iris")
        hub.write("iris", "an answer", sender="atlas", in_reply_to=said.id)
        hub.write("*", "to everyone", sender="atlas")
        hub.write("iris", "rebuilt", sender="system")
        await until(lambda: len(hub.ended("iris")) == 3, what="three turns to end")
        await iris.stop()
    assert [message.body for message in hub.messages if message.sender == "iris"] == ["hello"]


async def test_the_operator_cancels_a_turn_that_is_watched_live(place: Path) -> None:
    hub = Hub(place)
    async with hub.up("iris"), cage(place, demo("iris")) as iris:
        hub.write("iris", "count to 100")
        turn = await until(lambda: running(hub, "iris", "3"), what="the third number")
        hub.command("iris", wire.CancelTurn(turn.id + 1))
        hub.command("iris", wire.CancelTurn(turn.id))
        end = await until(lambda: turn.end, what="the end of the turn")
        assert end.outcome is Outcome.CANCELLED
        assert end.detail == "cancelled by the operator"
        assert iris.pids() == []
        hub.write("iris", "help")
        await until(lambda: len(hub.ended()) == 2, what="the next turn")
        await iris.stop()


async def test_a_stop_lets_the_running_turn_end(place: Path) -> None:
    hub = Hub(place)
    async with hub.up("iris"), cage(place, demo("iris")) as iris:
        hub.write("iris", "count to 5")
        hub.write("iris", "help")
        turn = await until(lambda: running(hub, "iris", "1"), what="the first number")
        assert await iris.stop() == 0
    assert turn.end is not None
    assert turn.end.outcome is Outcome.DONE
    assert len(hub.turns) == 1  # the second message stays for the next start
    assert len(hub.inboxes["iris"].queued) == 1


async def test_a_stop_whose_grace_is_over_interrupts_and_the_message_comes_again(place: Path) -> None:
    hub = Hub(place)
    async with hub.up("iris"):
        async with cage(place, demo("iris"), environment={"HIVE_STOP_GRACE_S": "0.2"}) as iris:
            hub.write("iris", "count to 100")
            turn = await until(lambda: running(hub, "iris", "2"), what="the second number")
            assert await iris.stop() == 0
        assert turn.end is not None
        assert turn.end.outcome is Outcome.INTERRUPTED
        [again] = hub.inboxes["iris"].queued
        assert again.attempt == 2


async def test_a_harness_that_was_killed_in_a_turn_is_followed_by_one_that_does_it_again(place: Path) -> None:
    hub = Hub(place)
    async with hub.up("iris", "atlas"):
        async with cage(place, demo("iris")) as iris:
            hub.write("iris", "count to 100")
            await until(lambda: running(hub, "iris", "2"), what="the second number")
            iris.harness.kill()
            await until(lambda: iris.spawner.poll() is not None, what="the spawner to follow the harness")
        async with cage(place, demo("iris")) as iris:
            turn = await until(lambda: running(hub, "iris", "2", attempt=2), what="the turn to begin again")
            hub.command("iris", wire.CancelTurn(turn.id))
            await until(lambda: turn.end, what="its end")


async def test_a_broker_that_is_killed_during_a_turn_costs_nothing(place: Path) -> None:
    hub = Hub(place)
    async with cage(place, demo("iris")) as iris:
        async with hub.up("iris"):
            hub.write("iris", "count to 8")
            await until(lambda: running(hub, "iris", "2"), what="the second number")
        [turn] = hub.turns.values()
        known = len(turn.events)
        async with hub.up("iris"):
            await until(lambda: len(turn.events) > known, what="the events that waited")
            end = await until(lambda: turn.end, what="the end, once the broker is back")
            assert end.outcome is Outcome.DONE
            await iris.stop()
    numbers = [getattr(event, "text", "") for event in turn.events.values() if type(event).__name__ == "Said"]
    assert [text for text in numbers if text.isdigit()] == [str(n) for n in range(1, 9)]
    assert [message.body for message in hub.received()] == ["I counted to 8."]


async def test_a_turns_end_is_offered_until_the_broker_takes_it(place: Path) -> None:
    hub = Hub(place)
    refusals = iter([Problem.STOPPING, Problem.INTERNAL, Problem.STORAGE_FULL, Problem.BUSY])

    def refuse(agent: str, request: object) -> Refused | None:
        problem = next(refusals, None) if isinstance(request, wire.EndTurn) else None
        return Refused(problem, "not now") if problem else None

    hub.refuse = refuse
    async with hub.up("iris"), cage(place, demo("iris")) as iris:
        hub.write("iris", "help")
        hub.write("iris", "who")
        await until(lambda: len(hub.ended()) == 2, what="both turns to end")
        await iris.stop()
    assert len(hub.received()) == 2


async def test_a_turn_that_the_broker_no_longer_knows_is_let_go(place: Path) -> None:
    hub = Hub(place)
    hub.refuse = lambda agent, request: (
        Refused(Problem.NOT_FOUND, "no such turn")
        if isinstance(request, (wire.EndTurn, wire.PublishEvents)) and request.turn == min(hub.turns)
        else None
    )
    async with hub.up("iris"), cage(place, demo("iris")) as iris:
        hub.write("iris", "help")
        turn = await until(lambda: next(iter(hub.turns.values()), None), what="the first turn")
        await until(lambda: len(hub.received()) == 1, what="its answer")
        hub.inboxes["iris"].open = None
        hub.write("iris", "help")
        await until(lambda: len(hub.ended()) == 1, what="the second turn to end")
        await iris.stop()
        assert turn.end is None
        assert "brokerd does not take the turn's end" in iris.log()


async def test_every_reply_may_be_lost_once(place: Path) -> None:
    hub = Hub(place)
    seen: set[bytes] = set()

    def once(request: object) -> bool:
        if isinstance(request, (wire.TakeDelivery, wire.WatchCommands)):
            return False
        key = repr(request).encode()
        fresh = key not in seen
        seen.add(key)
        return fresh

    hub.lose_reply = once
    async with hub.up("iris"), cage(place, demo("iris")) as iris:
        hub.write("iris", "hello")
        await until(hub.ended, what="the turn to end")
        await iris.stop()
    assert len(hub.received()) == 1
    assert len(hub.turns) == 1


async def test_two_harnesses_for_one_agent_cannot_be(place: Path) -> None:
    hub = Hub(place)
    async with hub.up("iris"), cage(place, demo("iris")) as first:
        await until(lambda: "attached" in first.log(), what="the first harness")
        async with cage(place, demo("iris")) as second:
            with trio.fail_after(20):
                assert await second.harness.wait() == 70
            assert "another harness runs for this agent" in second.log()


async def test_a_lost_spawner_ends_the_harness_loudly(place: Path) -> None:
    hub = Hub(place)
    async with hub.up("iris"), cage(place, demo("iris")) as iris:
        await until(lambda: "attached" in iris.log(), what="the harness")
        iris.spawner.kill()
        with trio.fail_after(20):
            assert await iris.harness.wait() == 70
        assert "the spawner is gone" in iris.log()


@pytest.mark.parametrize("content", ["", "{}", '{"name": "Iris"}', '{"name": "iris", "colour": 1}'])
async def test_settings_that_cannot_be_used_are_said(place: Path, content: str) -> None:
    furnish(place / "iris", demo("iris"))
    (place / "iris/etc/hyperhive/agent.json").write_text(content)
    command = [sys.executable, "-I", "-m", "harness", "--root", str(place / "iris")]
    process = await trio.run_process(command, check=False, capture_stderr=True)
    assert process.returncode == 78
    assert b"agent.json" in process.stderr


def running(hub: Hub, agent: str, said: str, attempt: int = 1) -> TurnRecord | None:
    """The open turn of an agent that has said something already."""
    for turn in hub.turns.values():
        wanted = turn.agent == agent and turn.delivery.attempt == attempt and turn.end is None
        if wanted and any(getattr(event, "text", None) == said for event in turn.events.values()):
            return turn
    return None


async def test_events_are_seen_while_they_happen(place: Path) -> None:
    """A published event carries the time at which it happened; it is here well before the next one."""
    hub = Hub(place)
    async with hub.up("iris"), cage(place, demo("iris")) as iris:
        hub.write("iris", "count to 4")
        turn = await until(lambda: running(hub, "iris", "1"), what="the first number")
        late_ms = time.time() * 1000 - max(event.at_ms for event in turn.events.values())
        assert late_ms < 5_000
        assert turn.end is None
        await iris.stop()
