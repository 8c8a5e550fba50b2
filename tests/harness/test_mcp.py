"""The tools as the agent CLI meets them: JSON-RPC through the real bridge, server and sockets, to a broker."""

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # comes with mcp; its stubs are a package of their own
import pytest
import trio

from harness.mcp.listener import CONNECTIONS_MAX, serve_tools
from harness.mcp.server import REQUESTS_MAX
from harness.mcp.toolbox import CALLS_MAX, OpenTurn, Toolbox
from harness.mcp.tools import CARDS
from protocol import tools as wire_tools
from protocol.messages import SystemEvent
from protocol.problem import Problem, Refused
from protocol.questions import Question, QuestionState
from protocol.turns import TurnEvent, Woken
from runtime.client import Client
from runtime.log import logger
from tests.harness.hub import Hub, TurnRecord
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

LOG = logger("test")
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{}}\n'


class Session:
    """A JSON-RPC client on a bridge's standard streams."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin
        assert process.stdout
        self.process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._buffer = b""
        self._id = 0

    async def say(self, message: dict[str, Any]) -> None:
        await self._stdin.send_all(json.dumps({"jsonrpc": "2.0"} | message).encode() + b"\n")

    async def raw(self, data: bytes) -> None:
        await self._stdin.send_all(data)

    async def heard(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            data = await self._stdout.receive_some()
            assert data, "the server left"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        heard: dict[str, Any] = json.loads(line)
        return heard

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._id += 1
        await self.say({"id": self._id, "method": method, "params": params})
        answer = await self.heard()
        assert answer["id"] == self._id
        return answer

    async def call(self, tool: str, **arguments: Any) -> tuple[bool, Any]:
        """Whether it worked, and the result as JSON or as the words of the refusal."""
        result = (await self.ask("tools/call", name=tool, arguments=arguments))["result"]
        [part] = result["content"]
        fault = bool(result.get("isError"))
        return not fault, part["text"] if fault else json.loads(part["text"])


@asynccontextmanager
async def tools(folder: Path, toolbox: Toolbox, agent_uid: int | None = None) -> AsyncIterator[Session]:
    """A bridge that has said hello to the server of *toolbox*."""
    uid = os.getuid() if agent_uid is None else agent_uid
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_tools, folder / "mcp.sock", toolbox, uid, LOG)
        command = [sys.executable, "-I", "-m", "harness.bridge", str(folder / "mcp.sock")]
        process = await trio.lowlevel.open_process(command, stdin=-1, stdout=-1)
        session = Session(process)
        try:
            with trio.fail_after(30):
                yield session
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                await trio.aclose_forcefully(session._stdin)
                await trio.aclose_forcefully(session._stdout)
        nursery.cancel_scope.cancel()


async def hello(session: Session) -> dict[str, Any]:
    answer = await session.ask(
        "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "t", "version": "1"}
    )
    await session.say({"method": "notifications/initialized"})
    result: dict[str, Any] = answer["result"]
    return result


def open_turn(hub: Hub, events: list[TurnEvent]) -> OpenTurn:
    """A turn of iris that the hub knows of."""
    message = hub.write("iris", "go")
    delivery = hub.inboxes["iris"].queued.popleft()
    assert delivery.message == message
    hub.turns[7] = TurnRecord(7, "iris", delivery)
    return OpenTurn(7, delivery.id, events.append)


async def test_a_conversation_with_the_tools(place: Path) -> None:
    hub, events = Hub(place), []  # type: Hub, list[TurnEvent]
    async with hub.up("iris", "atlas"), Client(hub.socket("iris")) as broker:
        toolbox = Toolbox(broker)
        toolbox.turn = open_turn(hub, events)
        async with tools(place, toolbox) as session:
            assert (await hello(session))["serverInfo"]["name"] == "hive"
            listed = (await session.ask("tools/list"))["result"]["tools"]
            assert [tool["name"] for tool in listed] == list(CARDS)
            assert all(tool["description"] for tool in listed)
            reading = {tool["name"] for tool in listed if tool["annotations"]["readOnlyHint"]}
            assert reading == {
                *("receipt", "open_threads", "list_reminders", "reminder_rollup", "whoami", "list_agents")
            }

            worked, sent = await session.call("send", to="atlas", body="/clear \u2028 é")
            assert worked
            assert sent["recipients"] == ["atlas"]
            assert hub.received("atlas")[0].body == "/clear \u2028 é"
            worked, _ = await session.call("send", to="atlas", body="again", in_reply_to=str(sent["message"]))
            assert worked
            assert hub.received("atlas")[1].in_reply_to == sent["message"]

            hub.write("iris", "one more thing", sender="atlas")
            worked, pulled = await session.call("recv")
            assert worked
            assert [(each["sender"], each["body"]) for each in pulled["messages"]] == [
                ("atlas", "one more thing")
            ]
            assert [(type(event), event.text) for event in events if isinstance(event, Woken)] == [
                (Woken, "one more thing")
            ]
            assert await session.call("set_status", text="testing") == (True, {"ok": True})
            assert hub.status == {"iris": "testing"}
            assert (await session.call("whoami"))[1]["name"] == "iris"
            assert [card["name"] for card in (await session.call("list_agents"))[1]] == ["iris", "atlas"]


async def test_refusals_are_results_that_say_why(place: Path) -> None:
    hub = Hub(place)
    hub.forbidden.add(("iris", "atlas"))
    async with hub.up("iris", "atlas"), Client(hub.socket("iris")) as broker:
        toolbox = Toolbox(broker)
        toolbox.turn = open_turn(hub, [])
        async with tools(place, toolbox) as session:
            await hello(session)
            assert await session.call("send", to="atlas", body="x") == (
                False,
                "denied: iris may not write to atlas",
            )
            assert await session.call("send", to="nobody", body="x") == (
                False,
                "not_found: there is no agent nobody",
            )
            worked, words = await session.call("recv", wait_s=181)
            assert not worked
            assert words.startswith("malformed: ")
            for arguments in (
                {},
                {"to": "atlas"},
                {"to": "At las", "body": "x"},
                {"to": "atlas", "body": ""},
            ):
                worked, words = await session.call("send", **arguments)
                assert not worked
                assert words.startswith("malformed: ")
            worked, words = await session.call("telepathy")
            assert not worked
            assert words == "not_found: there is no tool 'telepathy'"
            assert [message.body for message in hub.messages] == ["go"]


EFFECTS: dict[str, dict[str, Any]] = {
    "send": {"to": "atlas", "body": "x"},
    "recv": {},
    "ask": {"question": "x", "to": "atlas"},
    "ask_operator": {"question": "x"},
    "answer": {"question": 1, "answer": "x"},
    "remind": {"text": "x", "in_s": 60},
    "cancel_reminder": {"reminder": 1},
    "set_status": {"text": "x"},
}


async def test_what_an_agent_left_running_cannot_speak_for_it(place: Path) -> None:
    hub = Hub(place)
    assert {*EFFECTS} == {card.name for card in CARDS.values() if not card.is_reading}
    async with hub.up("iris", "atlas"), Client(hub.socket("iris")) as broker:
        toolbox = Toolbox(broker)
        for name, arguments in EFFECTS.items():
            refused = await toolbox.call(name, arguments)
            assert refused.is_error
            assert refused.text.startswith(f"conflict: {name} works only in a turn, and none is running")
            assert "sets a reminder" in refused.text
        for name in ("whoami", "list_agents", "open_threads", "list_reminders", "reminder_rollup"):
            assert not (await toolbox.call(name, {})).is_error
    assert hub.messages == []
    assert not any(isinstance(each.request, wire_tools.Remind) for each in hub.asked)


async def test_a_call_can_neither_choose_its_key_nor_its_turn(place: Path) -> None:
    hub = Hub(place)
    async with hub.up("iris", "atlas"), Client(hub.socket("iris")) as broker:
        toolbox = Toolbox(broker)
        toolbox.turn = open_turn(hub, [])
        async with tools(place, toolbox) as session:
            await hello(session)
            assert (await session.call("send", to="atlas", body="x", key="0" * 32, op="end_turn"))[0]
            assert (await session.call("recv", turn=99))[0]
    keys = [asked.request.key for asked in hub.asked if isinstance(asked.request, wire_tools.Send)]
    turns = [asked.request.turn for asked in hub.asked if isinstance(asked.request, wire_tools.Recv)]
    assert keys != ["0" * 32]
    assert turns == [7]


async def test_a_delivery_that_comes_again_does_not_send_twice(place: Path) -> None:
    hub = Hub(place)
    async with hub.up("iris", "atlas"), Client(hub.socket("iris")) as broker:
        toolbox = Toolbox(broker)
        first = open_turn(hub, [])
        for attempt in range(2):
            hub.turns[7 + attempt] = hub.turns[7]
            toolbox.turn = OpenTurn(7 + attempt, first.delivery, first.emit)
            for body in ("hello", "hello", "other"):
                assert not (await toolbox.call("send", {"to": "atlas", "body": body})).is_error
            assert not (await toolbox.call("recv", {})).is_error
    assert [message.body for message in hub.received("atlas")] == ["hello", "hello", "other"]
    keys = [asked.request.key for asked in hub.asked if isinstance(asked.request, wire_tools.Recv)]
    assert len(set(keys)) == 2  # what is pulled belongs to one turn, so each turn pulls for itself


async def test_a_turn_that_comes_again_asks_and_reminds_once(place: Path) -> None:
    hub = Hub(place)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("ask_operator", {"question": "may I?", "options": ["yes", "no"]}),
        ("ask", {"question": "may I?", "options": ["yes", "no"]}),
        ("ask", {"question": "and you?", "to": "atlas"}),
        ("remind", {"text": "look", "in_s": "60"}),
        ("remind", {"text": "look", "in_s": 60}),
    ]
    async with hub.up("iris", "atlas"), Client(hub.socket("iris")) as broker:
        toolbox = Toolbox(broker)
        first = open_turn(hub, [])
        for attempt in range(2):
            toolbox.turn = OpenTurn(7 + attempt, first.delivery, first.emit)
            for name, arguments in calls:
                assert not (await toolbox.call(name, arguments)).is_error
    assert [(each.text, each.asked_of) for each in hub.questions.values()] == [
        ("may I?", "operator"),
        ("may I?", "operator"),  # asked twice in one turn is asked twice, whatever the tool was called
        ("and you?", "atlas"),
    ]
    assert len(hub.reminders) == 2


async def test_what_failed_and_is_said_again_is_the_same_request(place: Path) -> None:
    """A refused first try must not shift the keys, else a turn that comes again sends what was sent."""
    hub, refusals = Hub(place), iter([True])
    hub.refuse = lambda agent, request: (
        Refused(Problem.LIMIT, "too fast")
        if isinstance(request, wire_tools.Send) and next(refusals, False)
        else None
    )
    async with hub.up("iris", "atlas"), Client(hub.socket("iris")) as broker:
        toolbox = Toolbox(broker)
        first = open_turn(hub, [])
        send: tuple[str, dict[str, Any]] = ("send", {"to": "atlas", "body": "hello"})
        for attempt, answers in enumerate(([True, False], [False])):
            toolbox.turn = OpenTurn(7 + attempt, first.delivery, first.emit)
            assert [(await toolbox.call(*send)).is_error for _ in answers] == answers
    assert [message.body for message in hub.received("atlas")] == ["hello"]


async def test_asked_and_answered_and_reminded(place: Path) -> None:
    hub = Hub(place)
    async with hub.up("iris", "atlas"), Client(hub.socket("iris")) as broker:
        toolbox = Toolbox(broker)
        toolbox.turn = open_turn(hub, [])
        async with tools(place, toolbox) as session:
            await hello(session)
            worked, asked = await session.call("ask_operator", question="may I?", options=["yes", "no"])
            assert worked
            assert (asked["to"], asked["state"], asked["options"]) == ("operator", "open", ["yes", "no"])
            assert datetime.fromisoformat(asked["asked"]).tzinfo is not None
            assert not {"deadline", "answer", "answered_by", "multi"} & set(asked)
            assert await session.call("ask_operator", question="x", to="atlas") == (
                False,
                "malformed: ask_operator takes no 'to', it is always 'operator': use ask",
            )
            hub.questions[99] = Question(
                99, "atlas", "iris", "which?", ("a", "b"), True, QuestionState.OPEN, 0, 60_000
            )
            worked, matters = await session.call("open_threads")
            assert [each["question"] for each in matters["questions"]] == [asked["question"], 99]
            assert matters["questions"][1]["deadline"] == "1970-01-01T00:01:00Z"
            worked, answered = await session.call("answer", question=99, choices=["b"])
            assert (worked, answered["state"], answered["choices"]) == (True, "answered", ["b"])
            hub.write("iris", "which?", sender="atlas", event=SystemEvent.QUESTION, about=99)
            worked, pulled = await session.call("recv")
            assert pulled["messages"][0]["event"] == "question"
            assert pulled["messages"][0]["question"] == 99
            worked, set_ = await session.call("remind", text="look", every_s=3_600, only_if="test -e x")
            assert worked
            assert (set_["when"], set_["only_if"]) == ("every 3600 s", "test -e x")
            worked, page = await session.call("list_reminders")
            assert [each["reminder"] for each in page["reminders"]] == [set_["reminder"]]
            worked, ended = await session.call("cancel_reminder", reminder=set_["reminder"])
            assert (ended["state"], "next" in ended) == ("cancelled", False)
            worked, rollup = await session.call("reminder_rollup", since_s=60)
            assert (rollup["attempted"], rollup["waiting"]) == (3, 0)
            worked, sent = await session.call("send", to="atlas", body="hi")
            assert set(sent) == {"message", "thread", "recipients"}
            worked, receipt = await session.call("receipt", message=sent["message"])
            assert (receipt["to"], receipt["deliveries"][0]["state"]) == ("atlas", "done")
            assert receipt["deliveries"][0]["attempts"] == 2


async def test_a_client_that_asks_too_much_at_once_is_read_no_further_until_it_is_answered(
    place: Path,
) -> None:
    hub = Hub(place)
    async with hub.up("iris"), Client(hub.socket("iris")) as broker:
        toolbox = Toolbox(broker)
        toolbox.turn = open_turn(hub, [])
        async with tools(place, toolbox) as session:
            await hello(session)
            for number in range(3 * REQUESTS_MAX):
                call = {"name": "recv", "arguments": {"wait_s": 60, "limit": 1}}
                await session.say({"id": f"r{number}", "method": "tools/call", "params": call})
            await until(lambda: pulls(hub) >= REQUESTS_MAX, what="the first calls")
            async with await trio.open_unix_socket(place / "mcp.sock") as other:
                await other.send_all(PING)
                assert await other.receive_some(), "the others are served meanwhile"
            assert pulls(hub) == REQUESTS_MAX
            for number in range(3 * REQUESTS_MAX):
                hub.write("iris", str(number))
            answers = [await session.heard() for _ in range(3 * REQUESTS_MAX)]
            assert {answer["id"] for answer in answers} == {f"r{n}" for n in range(3 * REQUESTS_MAX)}
            assert pulls(hub) == 3 * REQUESTS_MAX


async def test_the_turn_loop_has_its_connections_whatever_the_agent_asks_for(place: Path) -> None:
    hub = Hub(place)
    async with hub.up("iris"), Client(hub.socket("iris")) as broker:
        toolbox = Toolbox(broker)
        toolbox.turn = open_turn(hub, [])
        async with trio.open_nursery() as nursery:
            for _ in range(2 * CALLS_MAX):
                nursery.start_soon(toolbox.call, "recv", {"wait_s": 60, "limit": 1})
            await until(lambda: pulls(hub) >= CALLS_MAX, what="the first calls")
            await trio.testing.wait_all_tasks_blocked()
            assert pulls(hub) == CALLS_MAX
            for number in range(2 * CALLS_MAX):
                hub.write("iris", str(number))


async def test_a_cancelled_call_makes_room(place: Path) -> None:
    hub = Hub(place)
    async with hub.up("iris"), Client(hub.socket("iris")) as broker:
        toolbox = Toolbox(broker)
        toolbox.turn = open_turn(hub, [])
        async with tools(place, toolbox) as session:
            await hello(session)
            for number in range(2 * REQUESTS_MAX):
                call = {"name": "recv", "arguments": {"wait_s": 60}}
                await session.say({"id": f"r{number}", "method": "tools/call", "params": call})
                cancelled = {"requestId": f"r{number}"}
                await session.say({"method": "notifications/cancelled", "params": cancelled})
            assert (await session.ask("ping"))["result"] is not None


async def test_an_id_that_waits_already_ends_the_connection(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = Hub(place)
    async with hub.up("iris"), Client(hub.socket("iris")) as broker:
        toolbox = Toolbox(broker)
        toolbox.turn = open_turn(hub, [])
        async with tools(place, toolbox) as session:
            await hello(session)
            call = {"name": "recv", "arguments": {"wait_s": 60}}
            for number in (9, "9"):
                await session.say({"id": number, "method": "tools/call", "params": call})
            assert await session._stdout.receive_some() == b""
    assert "a request with the id '9' waits already" in capsys.readouterr().out


def pulls(hub: Hub) -> int:
    return sum(isinstance(each.request, wire_tools.Recv) for each in hub.asked)


async def test_a_lost_reply_and_a_restarted_broker_are_not_the_agents_affair(place: Path) -> None:
    hub = Hub(place)
    lost = iter([True])
    hub.lose_reply = lambda request: isinstance(request, wire_tools.Send) and next(lost, False)
    async with Client(hub.folder / "iris/run/hive/broker/broker.sock") as broker:
        toolbox = Toolbox(broker)
        async with hub.up("iris", "atlas"):
            toolbox.turn = open_turn(hub, [])
            assert not (await toolbox.call("send", {"to": "atlas", "body": "once"})).is_error
        async with trio.open_nursery() as nursery:
            answers = []

            async def ask() -> None:
                answers.append(await toolbox.call("send", {"to": "atlas", "body": "while away"}))
                nursery.cancel_scope.cancel()

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            async with hub.up("iris", "atlas"):
                await trio.sleep_forever()
    assert [answer.is_error for answer in answers] == [False]
    assert [message.body for message in hub.received("atlas")] == ["once", "while away"]


@pytest.mark.virtual_time
async def test_a_broker_that_stays_away_is_said_so(place: Path) -> None:
    async with Client(place / "nobody.sock") as broker:
        answer = await Toolbox(broker).call("whoami", {})
    assert answer.is_error
    assert answer.text == "busy: the hive's broker is away; try again in a minute"


async def test_a_defect_of_the_broker_is_passed_on_as_its_incident(place: Path) -> None:
    hub = Hub(place)
    hub.refuse = lambda agent, request: (
        Refused(Problem.INTERNAL, "incident 1") if isinstance(request, wire_tools.WhoAmI) else None
    )
    async with hub.up("iris"), Client(hub.socket("iris")) as broker:
        answer = await Toolbox(broker).call("whoami", {})
    assert (answer.is_error, answer.text) == (True, "internal: incident 1")


async def test_another_user_is_turned_away_before_a_byte_is_read(place: Path) -> None:
    async with Client(place / "nobody.sock") as broker:
        async with tools(place, Toolbox(broker), agent_uid=os.getuid() + 1) as session:
            assert await session.process.wait() == 0
            assert await session._stdout.receive_some() == b""


@pytest.mark.parametrize(
    "junk", [b"{\n", b"\xff\xfe\n", b"[]\n", b'{"jsonrpc":"2.0"}\n', b"[" * 9_000 + b"\n", b"x" * 1_200_000]
)
async def test_junk_leaves_the_next_connection_alone(place: Path, junk: bytes) -> None:
    hub = Hub(place)
    async with hub.up("iris"), Client(hub.socket("iris")) as broker:
        toolbox = Toolbox(broker)
        async with tools(place, toolbox) as session:
            with suppress(trio.BrokenResourceError):  # the server may have left before it was all said
                await session.raw(junk)
            async with await trio.open_unix_socket(place / "mcp.sock") as other:
                await other.send_all(PING)
                assert json.loads(await other.receive_some())["id"] == 1


async def test_too_many_connections_are_turned_away_and_the_others_stay(place: Path) -> None:
    async with Client(place / "nobody.sock") as broker:
        async with tools(place, Toolbox(broker)) as session:
            await hello(session)
            held = [await trio.open_unix_socket(place / "mcp.sock") for _ in range(CONNECTIONS_MAX - 1)]
            for each in held:
                await each.send_all(PING)
                assert await each.receive_some()
            async with await trio.open_unix_socket(place / "mcp.sock") as another:
                assert await another.receive_some() == b""
            assert (await session.ask("ping"))["result"] is not None
            for each in held:
                await trio.aclose_forcefully(each)


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_schemas_are_ones_that_javascript_reads(card: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(card.schema)
    text = json.dumps(card.schema)
    assert r"\\A" not in text
    assert r"\\Z" not in text
    assert not {"op", "key", "turn"} & set(card.schema["properties"])
    assert "null" not in text


def test_an_alias_fixes_what_its_name_says() -> None:
    assert CARDS["ask_operator"].request is CARDS["ask"].request
    assert set(CARDS["ask"].schema["properties"]) - set(CARDS["ask_operator"].schema["properties"]) == {"to"}


def test_the_schema_and_the_struct_say_the_same() -> None:
    schema = CARDS["send"].schema
    check = jsonschema.Draft202012Validator(schema)
    assert check.is_valid({"to": "iris", "body": "x"})
    assert check.is_valid({"to": "*", "body": "x", "in_reply_to": 3})
    for wrong in (
        {"to": "iris"},
        {"to": "IRIS", "body": "x"},
        {"to": "iris", "body": "x", "key": "1"},
        {"to": "iris", "body": ""},
    ):
        assert not check.is_valid(wrong)
