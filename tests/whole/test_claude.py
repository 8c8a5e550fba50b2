"""The main job with the real Claude Code CLI in both cages: out by the agent's egress socket, CONNECT and TLS.

The Messages API is scripted and listens on this machine's loopback, which no cage can reach by itself.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.brokerd import ListMessages, ReadTail
from protocol.messages import DeliveryState, Message
from protocol.tools import Send
from protocol.turns import Outcome, ToolCalled
from runtime.client import Client
from runtime.clock import new_key
from tests.support.certificates import make_certificate
from tests.support.hive import RunningHive, hive
from tests.support.scripted_api import ScriptedApi
from tests.support.waiting import until

PROGRAM = Path(__file__).parents[2] / ".hive/claude/claude"
ADDRESS = "127.0.0.2"
"""Loopback, but not an address that the CLI goes to without its proxy."""
KEY = "sk-ant-scripted-key-of-this-test"
CONVERSATION_MS = 120_000

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.whole,
    pytest.mark.cage,
    pytest.mark.cli,
    pytest.mark.root,
    pytest.mark.skipif(not PROGRAM.exists(), reason="no Claude Code CLI: run ./hive env claude"),
]

SETTINGS = """
[model]
base_url = {base_url}
hosts = [{host}]
allow_private = [{host}]
ca_file = {ca_file}
key_file = {key_file}
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedApi, str]]:
    """The scripted API and the hive.toml that leads to it."""
    folder = tmp_path_factory.mktemp("model")
    certificate = make_certificate(folder, ADDRESS)
    key_file = folder / "key"
    key_file.write_text(KEY)
    with ScriptedApi(address=ADDRESS, certificate=certificate.certificate, key=certificate.key) as running:
        yield (
            running,
            SETTINGS.format(
                base_url=json.dumps(running.url("colleague", host=ADDRESS)),
                host=json.dumps(f"{ADDRESS}:{running.port}"),
                ca_file=json.dumps(str(certificate.authority)),
                key_file=json.dumps(str(key_file)),
            ),
        )


@pytest.fixture(scope="module")
def claude_hive(api: tuple[ScriptedApi, str]) -> Iterator[RunningHive]:
    program = {"HIVE_CLAUDE": str(PROGRAM.resolve())}
    with hive("--runner", "claude", "--agents", "iris", settings=api[1], environment=program) as running:
        yield running


async def test_tell_iris_hello(claude_hive: RunningHive, api: tuple[ScriptedApi, str]) -> None:
    async with Client(claude_hive.socket("brokerd")) as brokerd:
        sent = await brokerd.call(Send(to="hm1nd", body="tell iris hello", key=new_key()))

        async def answered() -> tuple[Message, ...] | None:
            page = await brokerd.call(ListMessages())
            found = tuple(reversed(page.messages))
            came = any(m.to == "operator" and m.in_reply_to == sent.message for m in found)
            done = all(
                receipt.state is DeliveryState.DONE
                for message in found
                for receipt in message.deliveries
                if receipt.recipient != "operator"
            )
            return found if came and done else None

        found = await until(answered, what="the answer to the operator", deadline_ms=CONVERSATION_MS)
        routes = [(message.sender, message.to) for message in found]
        assert routes == [("operator", "hm1nd"), ("hm1nd", "iris"), ("iris", "hm1nd"), ("hm1nd", "operator")]
        for agent in ("hm1nd", "iris"):
            tail = await brokerd.call(ReadTail(agent=agent))
            assert {item.turn.outcome for item in tail.turns} == {Outcome.DONE}
            assert any(isinstance(event, ToolCalled) for item in tail.turns for event in item.events)
            assert all(item.turn.usage and item.turn.usage.input_tokens for item in tail.turns)
    asked = api[0].turns
    assert asked
    assert {request.headers.get("x-api-key") for request in asked} == {KEY}


async def test_the_second_turn_resumes_the_conversation(api: tuple[ScriptedApi, str]) -> None:
    wakes = [str(request.body["messages"]).count("hyperhive wake-up") for request in api[0].turns]
    assert max(wakes) >= 2, "hm1nd's second turn did not see its first"


def test_egressd_noted_where_the_agents_went(claude_hive: RunningHive, api: tuple[ScriptedApi, str]) -> None:
    log = (claude_hive.places.logs / "egressd.log").read_text()
    connected = [json.loads(line) for line in log.splitlines() if f'"{ADDRESS}"' in line]
    assert {line["agent"] for line in connected} == {"hm1nd", "iris"}
    assert {line["port"] for line in connected} == {api[0].port}


def test_the_key_is_in_no_command_line_and_no_environment(claude_hive: RunningHive) -> None:
    secret = KEY.encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        for name in ("cmdline", "environ"):
            try:
                assert secret not in (entry / name).read_bytes(), (entry, name)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
    for log in claude_hive.places.logs.iterdir():
        assert secret not in log.read_bytes(), log
