"""The real Claude Code CLI in the harness, in a network namespace with nothing but loopback.

How it gets out of there is in tests.harness.claude_hive.
"""

import json
import os
import shutil

import pytest

from harness.claude.reader import TOOL_PREFIX
from harness.mcp.tools import CARDS
from harness.policy.budget import TOOLS_TOKENS_MAX, tokens
from protocol import agent as wire
from protocol.turns import Outcome, ToolReturned
from tests.harness.claude_hive import HOST, KEY, PROGRAM, Hive, outcome
from tests.support.waiting import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.cli,
    pytest.mark.root,
    pytest.mark.skipif(not PROGRAM.exists(), reason="no Claude Code CLI: run ./hive env claude"),
]


async def test_a_turn_with_a_tool_call(hive: Hive) -> None:
    hub = hive.hub
    async with hub.up("iris"), hive.agent("iris", "colleague") as iris:
        iris.places.notes.write_text("I like brooms.\n")
        asked = hub.write("iris", "/clear is what I wrote")
        turn = await hive.turn()
        assert await iris.stop() == 0
    assert outcome(turn) is Outcome.DONE
    assert turn.kinds() == ["Woken", "ToolCalled", "ToolReturned", "Said"]
    [answer] = hub.received()
    assert (answer.body, answer.in_reply_to) == ("I heard: /clear is what I wrote", asked.id)
    assert turn.end is not None
    assert turn.end.usage is not None
    assert turn.end.usage.input_tokens > 1_000
    assert turn.end.usage.cost_microusd > 0

    assert turn.end.tools == {"send": 1}
    assert turn.end.notes_bytes == len("I like brooms.\n")

    first = hive.api.turns[0]
    assert len(hive.api.turns) == 2
    ours = [tool for tool in first.body["tools"] if tool["name"].startswith(TOOL_PREFIX)]
    assert {tool["name"] for tool in ours} == {f"{TOOL_PREFIX}{name}" for name in CARDS}
    listed = json.dumps(ours, ensure_ascii=False, separators=(",", ":"))
    assert tokens(listed) <= TOOLS_TOKENS_MAX
    assert not {tool["name"] for tool in first.body["tools"]} & {
        "SendMessage",
        "ListAgents",
        "ScheduleWakeup",
    }
    system = str(first.body["system"])
    assert "You are iris" in system
    assert "You sweep the floor." in system
    assert "I like brooms." in str(first.body["messages"])
    assert "choose the pronouns" in str(first.body["messages"])
    assert first.headers["x-api-key"] == KEY
    assert "haiku" in first.body["model"]
    assert set(hive.doors["iris"].asked) == {f"{HOST}:{hive.api.port}"}


async def test_an_agent_with_a_profile_is_not_asked_for_one(hive: Hive) -> None:
    async with hive.hub.up("iris"), hive.agent("iris", "colleague") as iris:
        iris.places.profile.write_text("pronouns: they/them\n")
        hive.hub.write("iris", "hello")
        assert outcome(await hive.turn()) is Outcome.DONE
        await iris.stop()
    assert "pronouns" not in str(hive.api.turns[0].body["messages"])


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("ask_operator", {"question": "may I?", "options": ["yes", "no"], "ttl_s": 60}),
        ("remind", {"text": "look", "cron": "0 9 * * *", "zone": "Europe/Berlin", "only_if": "test -s x"}),
        ("open_threads", {}),
        ("reminder_rollup", {"since_s": 60}),
    ],
)
async def test_the_real_cli_calls_the_tools(hive: Hive, tool: str, arguments: dict[str, object]) -> None:
    hub, named = hive.hub, {"name": f"{TOOL_PREFIX}{tool}", "arg": json.dumps(arguments)}
    async with hub.up("iris"), hive.agent("iris", "tool", **named) as iris:
        hub.write("iris", "hello")
        turn = await hive.turn()
        await iris.stop()
    assert outcome(turn) is Outcome.DONE
    assert turn.end is not None
    assert turn.end.tools == {tool: 1}
    returned = [event for event in turn.events.values() if isinstance(event, ToolReturned)]
    assert [event.ok for event in returned] == [True], returned
    assert [each.options for each in hub.questions.values()] == ([("yes", "no")] if "ask" in tool else [])
    assert [each.only_if for each in hub.reminders.values()] == (["test -s x"] if tool == "remind" else [])


async def test_two_agents_and_the_operator(hive: Hive) -> None:
    hub = hive.hub
    async with hub.up("hm1nd", "iris"):
        async with hive.agent("hm1nd", "colleague") as manager, hive.agent("iris", "colleague") as iris:
            asked = hub.write("hm1nd", "tell iris hello")
            await hive.turn(3)
            await manager.stop()
            await iris.stop()
    assert [(m.sender, m.to, m.body) for m in hub.messages] == [
        ("operator", "hm1nd", "tell iris hello"),
        ("hm1nd", "iris", "hello"),
        ("iris", "hm1nd", "I heard: hello"),
        ("hm1nd", "operator", "iris says: I heard: hello"),
    ]
    assert hub.messages[-1].in_reply_to == asked.id
    assert {outcome(turn) for turn in hub.ended()} == {Outcome.DONE}


async def test_the_conversation_goes_on_after_a_restart_and_begins_afresh_when_it_is_lost(hive: Hive) -> None:
    hub = hive.hub
    async with hub.up("iris"):
        async with hive.agent("iris", "count") as iris:
            hub.write("iris", "one")
            hub.write("iris", "two")
            assert "wakes=1" in (await hive.turn(1)).texts()
            assert "wakes=2" in (await hive.turn(2)).texts()
            await iris.stop()
        async with hive.agent("iris", "count") as iris:
            hub.write("iris", "three")
            assert "wakes=3" in (await hive.turn(3)).texts()
            shutil.rmtree(iris.places.credentials / "projects")
            iris.places.notes.write_text("I counted to three.\n")
            hub.write("iris", "four")
            fourth = await hive.turn(4)
            hub.write("iris", "five")
            fifth = await hive.turn(5)
            await iris.stop()
    assert outcome(fourth) is Outcome.DONE
    assert "does not know the conversation any more" in fourth.texts()
    assert "wakes=1" in fourth.texts()
    assert "I counted to three." in str(hive.api.turns[-2].body["messages"])
    assert "wakes=2" in fifth.texts()
    ids = [turn.end.conversation for turn in hub.ended() if turn.end]
    assert len(set(ids[:3])) == 1
    assert len(set(ids[3:])) == 1
    assert ids[0] != ids[3]


@pytest.mark.parametrize(
    ("parameters", "expected", "until_known"),
    [
        ({"status": 401, "msg": "key"}, Outcome.AUTH, False),
        ({"status": 400, "msg": "credit"}, Outcome.BILLING, False),
        ({"status": 429, "msg": "usage", "reset": 1800}, Outcome.RATE_LIMITED, True),
        ({"status": 529, "msg": "busy"}, Outcome.OVERLOADED, False),
        ({"status": 500}, Outcome.OVERLOADED, False),
        ({"status": 404}, Outcome.CRASHED, False),
    ],
)
async def test_a_failing_api(
    hive: Hive, parameters: dict[str, str | int], expected: Outcome, until_known: bool
) -> None:
    hub = hive.hub
    async with hub.up("iris"), hive.agent("iris", "fail", **parameters) as iris:
        hub.write("iris", "hello")
        turn = await hive.turn()
        parked = await until(lambda: hub.parked.get("iris"), what="the report on pausing")
        await iris.stop()
    assert outcome(turn) is expected
    assert turn.end is not None
    assert (turn.end.until_ms is not None) == until_known
    assert parked.reason is expected
    assert (parked.until_ms is None) == (expected in {Outcome.AUTH, Outcome.BILLING})
    assert turn.kinds()[-1] == "Failed"


async def test_the_operator_ends_a_pause(hive: Hive) -> None:
    hub = hive.hub
    async with hub.up("iris"), hive.agent("iris", "fail", status=400, msg="credit", times=1) as iris:
        hub.write("iris", "hello")
        assert outcome(await hive.turn(1)) is Outcome.BILLING
        await until(lambda: hub.parked.get("iris"), what="the report on pausing")
        hub.command("iris", wire.Unpark())
        assert outcome(await hive.turn(2)) is Outcome.DONE
        assert hub.parked["iris"].reason is None
        await iris.stop()


async def test_without_a_key_the_turn_says_that_nobody_is_logged_in(hive: Hive) -> None:
    hive.has_key = False
    async with hive.hub.up("iris"), hive.agent("iris", "echo") as iris:
        hive.hub.write("iris", "hello")
        turn = await hive.turn()
        await iris.stop()
    assert outcome(turn) is Outcome.AUTH
    assert "Not logged in" in turn.texts()
    assert hive.api.turns == []


@pytest.mark.parametrize(
    ("refusals", "words"),
    [
        (1, 'the conversation was compacted {"trigger": "auto"'),  # the CLI helps itself
        (3, "the conversation is full (Prompt is too long); it is compacted"),
    ],
)
async def test_a_full_conversation_is_compacted_and_the_turn_goes_on(
    hive: Hive, refusals: int, words: str
) -> None:
    hub = hive.hub
    async with hub.up("iris"):
        async with hive.agent("iris", "count") as iris:
            hub.write("iris", "one")
            await hive.turn(1)
            await iris.stop()
        async with hive.agent("iris", "fail", status=400, msg="long", times=refusals) as iris:
            hub.write("iris", "two")
            turn = await hive.turn(2)
            await iris.stop()
    assert outcome(turn) is Outcome.DONE
    assert words in turn.texts()
    assert "You said: hyperhive wake-up" in turn.texts()


async def test_a_conversation_that_stays_full_is_given_up(hive: Hive) -> None:
    hub = hive.hub
    async with hub.up("iris"):
        async with hive.agent("iris", "fail", status=400, msg="long", times=100) as iris:
            hub.write("iris", "hello")
            first = await hive.turn(1)
            second = await hive.turn(2)
            await iris.stop()
    assert (outcome(first), outcome(second)) == (Outcome.CONTEXT_FULL, Outcome.CONTEXT_FULL)
    assert first.end is not None
    assert second.end is not None
    assert first.end.conversation != second.end.conversation


async def test_the_operator_cancels_while_the_model_speaks(hive: Hive) -> None:
    hub = hive.hub
    async with hub.up("iris"), hive.agent("iris", "echo", delay=20) as iris:
        hub.write("iris", "hello")
        await until(lambda: hive.api.turns, what="the request to the model")
        [turn] = hub.turns.values()
        hub.command("iris", wire.CancelTurn(turn.id))
        assert outcome(await hive.turn()) is Outcome.CANCELLED
        await until(lambda: iris.pids() == [], what="the CLI to be gone")
        await iris.stop()
    assert len(hub.inboxes["iris"].queued) == 0


async def test_without_a_way_out_the_agent_backs_off(hive: Hive) -> None:
    hub = hive.hub
    async with hub.up("iris"), hive.agent("iris", "echo") as iris:
        iris.places.egress_socket.unlink()
        hub.write("iris", "hello")
        assert outcome(await hive.turn()) is Outcome.OVERLOADED
        await iris.stop()


async def test_a_cli_that_comes_up_without_the_tools_costs_nothing(hive: Hive) -> None:
    hub = hive.hub
    async with hub.up("iris"), hive.agent("iris", "echo", delay=20) as iris:
        await until(lambda: "attached" in iris.log(), what="the harness")
        config = iris.places.mcp_config
        config.write_text(config.read_text().replace("harness.bridge", "harness.nothing"))
        hub.write("iris", "hello")
        turn = await hive.turn()
        await iris.stop()
    assert outcome(turn) is Outcome.CRASHED
    assert turn.end is not None
    assert turn.end.detail == "the agent CLI came up without the hive's tools"


async def test_no_secret_is_in_the_environment_or_the_arguments(hive: Hive) -> None:
    hub = hive.hub
    show = "{\"command\": \"env; tr '\\\\0' ' ' </proc/$PPID/cmdline\"}"
    async with hub.up("iris"), hive.agent("iris", "tool", name="Bash", arg=show) as iris:
        hub.write("iris", "hello")
        turn = await hive.turn()
        await iris.stop()
    assert outcome(turn) is Outcome.DONE
    told = turn.texts()
    assert "CLAUDE_CONFIG_DIR=" in told
    assert "--strict-mcp-config" in told
    assert KEY not in told
    assert KEY not in iris.log()
    assert os.environ.get("HOME", "/nowhere") + "/" not in told.split("HOME=")[1].splitlines()[0] + "/"
