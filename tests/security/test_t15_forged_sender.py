"""T15: who speaks follows from the socket and the kernel's uid, inside a cage and outside; nothing said changes it."""

import errno
import json
from typing import Any

import pytest

from protocol import frames
from protocol.agent import Attach, EndTurn, PublishEvents
from protocol.brokerd import ListMessages, ReadTail
from protocol.rpc import Request
from protocol.tools import Send, SetStatus
from protocol.turns import Outcome, Said
from runtime.client import Client
from runtime.clock import new_key
from tests.security.inside import AGENT_UID, HARNESS_UID, INIT_UID, print_inside, run_inside
from tests.security.peers import HELLO, Question, User, ask_all
from tests.support.hive import RunningHive
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

INITIALIZE = (
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
    '"capabilities":{},"clientInfo":{"name":"x","version":"1"}}}\n'
)
TOOLS = "/run/harness/mcp.sock"
BRIDGE = f"""
import subprocess, sys
bridge = subprocess.Popen([sys.executable, "-I", "-m", "harness.bridge", "{TOOLS}"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
bridge.stdin.write(sys.stdin.read())
bridge.stdin.flush()
print(bridge.stdout.readline(), end="")
bridge.stdin.close()
bridge.kill()
"""
KNOCK = r"""
def say(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(path)
        s.sendall(b'{"op":"hello"}\n')
        return s.recv(4096).decode()

print(json.dumps({
    "broker": attempt(lambda: say("/run/hive/broker/broker.sock")),
    "its folder": attempt(lambda: os.listdir("/run/hive/broker")),
}))
"""


def test_t15_the_kernel_keeps_the_agent_from_the_broker(secure_hive: RunningHive) -> None:
    found = run_inside(secure_hive, "iris", KNOCK)
    assert {each["errno"] for each in found.values()} == {"EACCES"}


def test_t15_the_broker_answers_the_harness(secure_hive: RunningHive) -> None:
    """Or the refusals here would be worth nothing."""
    found = run_inside(secure_hive, "iris", KNOCK, uid=HARNESS_UID)
    assert '"daemon":"brokerd"' in found["broker"]["did"]


@pytest.mark.parametrize("who", ["iris agent", "iris init", "hm1nd harness", "hm1nd agent", "web", "nobody"])
def test_t15_whoever_gets_past_the_folder_is_turned_away_by_brokerd(
    secure_hive: RunningHive, users: dict[str, User], who: str
) -> None:
    """With the harness's group the kernel lets anybody connect; the uid still decides."""
    forged = User(users[who].uid, users["iris harness"].gid)
    path = secure_hive.places.run / "agents" / "iris" / "broker" / "broker.sock"
    heard = ask_all(forged, {"hello": Question(path, HELLO)})["hello"]
    assert heard.is_silence, heard


def test_t15_only_the_agents_user_is_served_its_tools(secure_hive: RunningHive) -> None:
    answer = json.loads(print_inside(secure_hive, "iris", BRIDGE, uid=AGENT_UID, stdin=INITIALIZE))
    assert answer["result"]["serverInfo"]["name"] == "hive"


@pytest.mark.parametrize("uid", [INIT_UID, HARNESS_UID, 1_002, 65_534])
def test_t15_a_bridge_of_another_user_hears_nothing(secure_hive: RunningHive, uid: int) -> None:
    assert print_inside(secure_hive, "iris", BRIDGE, uid=uid, stdin=INITIALIZE) == ""


def says(user: User, hive: RunningHive, agent: str, *requests: Request | bytes) -> list[Any]:
    """What brokerd answers at one agent's socket, each request on a connection of its own."""
    path = hive.places.run / "agents" / agent / "broker" / "broker.sock"
    asked = {
        str(number): Question(path, request if isinstance(request, bytes) else frames.encode_request(request))
        for number, request in enumerate(requests)
    }
    heard = ask_all(user, asked)
    return [heard[str(number)].answer for number in range(len(requests))]


def test_t15_no_request_says_who_is_asking(secure_hive: RunningHive, users: dict[str, User]) -> None:
    send = json.loads(frames.encode_request(Send(to="hm1nd", body="help", key=new_key())))
    forged = [
        json.dumps(send | {field: value}).encode() + b"\n"
        for field in ("sender", "from", "agent", "caller", "role", "uid")
        for value in ("operator",)
    ]
    for answer in says(users["iris harness"], secure_hive, "iris", *forged):
        assert answer["problem"] == "malformed"


async def test_t15_an_agent_cannot_speak_in_anothers_turn(
    secure_hive: RunningHive, users: dict[str, User]
) -> None:
    """The harness of hm1nd, taken over, tries to end and to write into a turn of iris."""
    async with Client(secure_hive.socket("brokerd")) as brokerd:
        await brokerd.call(Send(to="iris", body="help", key=new_key()))

        async def ended() -> int | None:
            tail = await brokerd.call(ReadTail(agent="iris"))
            return next((item.turn.id for item in tail.turns if item.turn.outcome is not None), None)

        turn = await until(ended, what="a turn of iris")
        before = await brokerd.call(ReadTail(agent="iris"))
        answers = says(
            users["hm1nd harness"],
            secure_hive,
            "hm1nd",
            EndTurn(turn=turn, outcome=Outcome.CRASHED, detail="forged"),
            PublishEvents(turn=turn, events=(Said(n=900, at_ms=1, text="forged"),)),
        )
        assert [answer["problem"] for answer in answers] == ["not_found", "not_found"]
        after = await brokerd.call(ReadTail(agent="iris"))
        assert [item for item in after.turns if item.turn.id == turn] == [
            item for item in before.turns if item.turn.id == turn
        ]
        assert "forged" not in repr(after)


async def test_t15_a_message_bears_the_name_of_its_socket(
    secure_hive: RunningHive, users: dict[str, User]
) -> None:
    """What root's own broker socket of an agent stores, is that agent's."""
    (sent,) = says(
        users["iris harness"], secure_hive, "iris", Send(to="operator", body="from iris", key=new_key())
    )
    async with Client(secure_hive.socket("brokerd")) as brokerd:
        page = await brokerd.call(ListMessages())
    (message,) = [message for message in page.messages if message.id == sent["ok"]["message"]]
    assert message.sender == "iris"


def test_t15_a_stranger_at_the_folder_is_refused_by_the_kernel(
    secure_hive: RunningHive, users: dict[str, User]
) -> None:
    path = secure_hive.places.run / "agents" / "iris" / "broker" / "broker.sock"
    said = {
        "attach": Question(path, frames.encode_request(Attach(instance=new_key(), version="1"))),
        "status": Question(path, frames.encode_request(SetStatus(text="forged"))),
    }
    for who in ("iris agent", "hm1nd harness", "stranger"):
        assert {heard.errno for heard in ask_all(users[who], said).values()} == {errno.EACCES}
