"""Real daemons and cages: agents of one model account are held at its first limit, whoever sees it, and go on again."""

import json
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.agent import BeginTurn, EndTurn
from protocol.brokerd import ListAccounts, ListMessages, ReadTail, TakeSnapshot
from protocol.limited import ModelAccount
from protocol.messages import DeliveryState
from protocol.rpc import Call
from protocol.tools import Remind, Send
from protocol.turns import Outcome
from runtime.client import Client
from runtime.clock import new_key, now_ms
from tests.support.certificates import make_certificate
from tests.support.hive import RunningHive, hive
from tests.support.scripted_api import ScriptedApi
from tests.support.waiting import until
from tests.webd.browser.puppets import Puppet, puppet, taken

pytestmark = [pytest.mark.whole, pytest.mark.cage]

ADDRESS = "127.0.0.2"
HOUR_S = 3_600.0
BOTH = {"hm1nd", "iris"}
SETTINGS = """
[model]
credential = "egress"
base_url = {base_url}
allow_private = [{host}]
ca_file = {ca_file}
key_file = {key_file}
"""
MODEL_REQUEST = """
import socket
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(20)
    s.connect("/run/hive/egress/model.sock")
    body = b"{}"
    s.sendall(b"POST /v1/messages HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n"
              b"Content-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n%b" % (len(body), body))
    while s.recv(65536):
        pass
raise SystemExit(1)
"""


def ask(running: RunningHive, request: Call[Any], daemon: str = "brokerd") -> Any:
    async def call() -> Any:
        async with Client(running.socket(daemon)) as client:
            return await client.call(request, patience_s=30)

    return trio.run(call)


@contextmanager
def spender(running: RunningHive) -> Iterator[Puppet]:
    """An agent whose harness is the test."""
    with puppet(running, lambda daemon, request: ask(running, request, daemon), "spender") as made:
        yield made


def meet_the_limit(running: RunningHive, agent: Puppet, for_s: float) -> None:
    """A turn of an agent ends at the limit of its account."""
    ask(running, Send(to=agent.name, body="spend", key=new_key()))

    async def turn(client: Client) -> None:
        delivery = await taken(client)
        begun = await client.call(BeginTurn(delivery.id, delivery.token))
        until_ms = now_ms() + round(for_s * 1000)
        await client.call(EndTurn(begun.turn, Outcome.RATE_LIMITED, "used up", until_ms=until_ms))

    agent.run(turn)


def account(running: RunningHive) -> ModelAccount:
    (found,) = ask(running, ListAccounts())
    assert isinstance(found, ModelAccount)
    return found


def states(running: RunningHive, *messages: int) -> list[DeliveryState]:
    found = {message.id: message for message in ask(running, ListMessages(limit=200)).messages}
    return [found[number].deliveries[0].state for number in messages]


def wait(condition: Any, what: str) -> None:
    async def waiting() -> None:
        await until(lambda: trio.to_thread.run_sync(condition), what=what)

    trio.run(waiting)


def began(running: RunningHive, agent: str) -> int:
    """When its newest turn began."""
    return int(ask(running, ReadTail(agent=agent, limit=1)).turns[-1].turn.began_ms)


def test_both_wait_for_the_end_of_a_limit_that_a_third_met_and_go_on_in_order(demo_hive: RunningHive) -> None:
    with spender(demo_hive) as third:
        meet_the_limit(demo_hive, third, for_s=10)
        assert set(account(demo_hive).held) == {*BOTH, "spender"}
        sent = [ask(demo_hive, Send(to=name, body="hello", key=new_key())).message for name in sorted(BOTH)]
        demo_hive.kill_daemon("brokerd")
        assert states(demo_hive, *sent) == [DeliveryState.QUEUED] * 2
        assert set(account(demo_hive).held) >= BOTH
        wait(lambda: states(demo_hive, *sent) == [DeliveryState.DONE] * 2, "both to go on by themselves")
        assert began(demo_hive, "hm1nd") < began(demo_hive, "iris")
        wait(lambda: account(demo_hive).held == (), "the third to go on")
        assert account(demo_hive).limited_until_ms is None


def test_the_operator_lets_one_go_on_and_then_all(demo_hive: RunningHive) -> None:
    with spender(demo_hive) as third:
        meet_the_limit(demo_hive, third, for_s=HOUR_S)
        ours, theirs = [
            ask(demo_hive, Send(to=name, body="hello", key=new_key())).message for name in ("iris", "hm1nd")
        ]
        demo_hive.hivectl("resume", "iris")
        wait(lambda: states(demo_hive, ours) == [DeliveryState.DONE], "the one that was let go on")
        assert states(demo_hive, theirs) == [DeliveryState.QUEUED]
        said = demo_hive.hivectl_raw("accounts").stdout
        assert said.startswith("account default: limited until ")
        assert "; held: hm1nd, spender\n" in said
        for agent in ask(demo_hive, TakeSnapshot()).agents:
            if agent.agent.name == "hm1nd":
                assert agent.agent.detail.startswith("account default is limited until ")
        demo_hive.hivectl("resume-account", "default")
        wait(lambda: states(demo_hive, theirs) == [DeliveryState.DONE], "the others")
        wait(lambda: account(demo_hive).held == (), "the last of them")
        refused = demo_hive.hivectl_raw("resume-account", "default")
        assert refused.returncode != 0
        assert "account default is not limited" in refused.stderr


@pytest.fixture
def keyless_hive(tmp_path: Path) -> Iterator[RunningHive]:
    """Egressd holds the key, and the model API refuses the first request for some seconds."""
    certificate = make_certificate(tmp_path, ADDRESS)
    key_file = tmp_path / "key"
    key_file.write_text(f"sk-ant-scripted-{secrets.token_hex(12)}\n")
    key_file.chmod(0o600)
    with ScriptedApi(address=ADDRESS, certificate=certificate.certificate, key=certificate.key) as api:
        settings = SETTINGS.format(
            base_url=json.dumps(api.url("fail", host=ADDRESS, status=429, retry_after=15, times=1)),
            host=json.dumps(f"{ADDRESS}:{api.port}"),
            ca_file=json.dumps(str(certificate.authority)),
            key_file=json.dumps(str(key_file)),
        )
        with hive("--runner", "demo", "--agents", "iris", settings=settings) as running:
            yield running


@pytest.mark.root
def test_both_wait_for_the_end_of_a_limit_that_egressd_saw(keyless_hive: RunningHive) -> None:
    running = keyless_hive
    command = f"python3 -c {shlex.quote(MODEL_REQUEST)}"
    ask(running, Remind(text="ask the model", key=new_key(), in_s=1, agent="iris", only_if=command))
    wait(lambda: any(each.held for each in ask(running, ListAccounts())), "egressd to see the limit")
    known = account(running)
    assert known.said_by == "egressd"
    assert set(known.held) == BOTH
    sent = [ask(running, Send(to=name, body="hello", key=new_key())).message for name in sorted(BOTH)]
    assert states(running, *sent) == [DeliveryState.QUEUED] * 2
    wait(lambda: states(running, *sent) == [DeliveryState.DONE] * 2, "both to go on by themselves")
    assert began(running, "hm1nd") < began(running, "iris")
    assert account(running).held == ()
