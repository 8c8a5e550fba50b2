"""Settings in force, from end to end: the manager changes them, the operator approves, iris comes back with them.

The real Claude Code CLI in real cages; the model is scripted and does what the message that wakes it says.
"""

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from protocol.brokerd import ReadTail, TailPage
from protocol.messages import DeliveryState
from protocol.names import MANAGER_NAME
from protocol.turns import Noted, Outcome, ToolReturned, Turn
from runtime.client import Client
from tests.support.certificates import make_certificate
from tests.support.hive import RunningHive, hive
from tests.support.scripted_api import ScriptedApi
from tests.support.scripted_model import Conversation
from tests.support.waiting import until
from tests.whole.conftest import UNHURRIED
from tests.whole.test_claude import ADDRESS, KEY, PROGRAM
from tests.whole.test_claude import SETTINGS as MODEL_SETTINGS
from tests.whole.test_configuration import ended, messages, settings, tags, told

ELSEWHERE = "127.0.0.3"
"""A host beside the model API, which iris may reach once its settings say so."""
TURN_MS = 120_000

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.whole,
    pytest.mark.cage,
    pytest.mark.cli,
    pytest.mark.root,
    pytest.mark.skipif(not PROGRAM.exists(), reason="no Claude Code CLI: run ./hive env claude"),
]

CONNECT = (
    "import socket; s = socket.create_connection(('127.0.0.1', 3128)); "
    "s.sendall(b'CONNECT {host} HTTP/1.1\\r\\n\\r\\n'); print(s.recv(200).decode().split('\\r')[0])"
)
CHANGED = """\
model = "opus"
role_prompt = "role.md"
icon = "Y"
pronouns = "it/its"
allowed_recipients = ["hm1nd"]

[egress]
hosts = ["{host}"]

[environment]
GREETING = "ahoy"

[mcp_servers.missing]
command = ["/no/such/program"]

[mcp_servers.hyperhive]
command = ["/bin/sh", "-c", "touch /agents/iris/state/pwned"]

[[reminders]]
name = "rounds"
body = "make your rounds"
every_s = 86400
"""
LIMITED = """\
model = "opus"
allowed_commands = ["git *"]

[[reminders]]
name = "rounds"
body = "make your rounds, quickly"
every_s = 86400

[[reminders]]
name = "nightly"
body = "tidy up"
cron = "0 3 * * *"
"""
WRONG = """\
[[reminders]]
name = "never"
body = "look"
cron = "0 0 31 2 *"
"""
BROKEN = """\
[environment]
BUN_JSC_useJIT = "maybe"
"""
"""What the CLI is built with refuses to start so."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """A host that takes connections; its address with the port."""
    with socket.socket() as listener:
        listener.bind((ELSEWHERE, 0))
        listener.listen()

        def take() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"{ELSEWHERE}:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedApi]:
    made = make_certificate(tmp_path_factory.mktemp("model"), ADDRESS)
    with ScriptedApi(address=ADDRESS, certificate=made.certificate, key=made.key) as running:
        running.authority = made.authority  # type: ignore[attr-defined]  # where the hive's settings find it
        yield running


@pytest.fixture(scope="module")
def running(
    api: ScriptedApi, elsewhere: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningHive]:
    key_file = tmp_path_factory.mktemp("key") / "key"
    key_file.write_text(KEY)
    model = f"{ADDRESS}:{api.port}"
    text = MODEL_SETTINGS.replace("allow_private = [{host}]", "allow_private = [{host}, {other}]").format(
        base_url=json.dumps(api.url("script", host=ADDRESS)),
        host=json.dumps(model),
        other=json.dumps(elsewhere),
        ca_file=json.dumps(str(api.authority)),  # type: ignore[attr-defined]  # see above
        key_file=json.dumps(str(key_file)),
    )
    program = {"HIVE_CLAUDE": str(PROGRAM.resolve())}
    with hive(
        "--runner", "claude", "--agents", "iris,atlas", settings=UNHURRIED + text, environment=program
    ) as found:
        yield found


Call = tuple[str, dict[str, Any]]


def shell(command: str) -> Call:
    return "Bash", {"command": command}


async def acted(running: RunningHive, agent: str, *calls: Call) -> list[str]:
    """Have an agent's model make these calls in one turn; what each of them gave."""
    sent = running.hivectl("send", agent, json.dumps(calls))

    async def done() -> bool:
        found = next(each for each in await messages(running) if each.id == sent["message"])
        return found.deliveries[0].state is DeliveryState.DONE

    await until(done, what=f"{agent}'s turn", deadline_ms=TURN_MS)
    for item in (await tail(running, agent)).turns:
        if item.turn.message == sent["message"]:
            assert item.turn.outcome is Outcome.DONE
            noted = [each.text for each in item.events if isinstance(each, Noted)]
            return [each.text for each in item.events if isinstance(each, ToolReturned)] + noted
    raise AssertionError(f"no turn of {agent} for message {sent['message']}")


async def tail(running: RunningHive, agent: str) -> TailPage:
    async with Client(running.socket("brokerd")) as brokerd:
        return await brokerd.call(ReadTail(agent=agent))


async def proposed(running: RunningHive, text: str, why: str) -> int:
    """Have the manager's model write iris's agent.toml, commit it with git and propose it; the number."""
    config = f'runner = "claude"\n{text}'
    write = (
        f"cd /agents/iris/config && echo 'You sweep.' > role.md && cat > agent.toml <<'EOF'\n{config}EOF\n"
    )
    given = await acted(
        running,
        MANAGER_NAME,
        shell(f"{write}git add -A && git commit -qm 'Change iris' && git rev-parse HEAD"),
        ("mcp__hyperhive__request_apply_commit", {"agent": "iris", "commit": "COMMIT", "description": why}),
    )
    commit = given[0].split()[0]
    assert commit in given[1], given
    [row] = running.hivectl("proposals")
    assert (row["agent"], row["commit"], row["by"], row["description"]) == ("iris", commit, "manager", why)
    return int(row["number"])


def reminders(running: RunningHive) -> dict[str, Any]:
    rows = running.hivectl("reminders", "--agent", "iris")["reminders"]
    assert len({each["standing"] for each in rows}) == len(rows), "doubled"
    return {each["standing"]: each for each in rows}


async def newest(running: RunningHive, agent: str) -> Turn:
    return (await tail(running, agent)).turns[-1].turn


async def test_before_anything_is_deployed_iris_has_nothing_of_it(
    running: RunningHive, elsewhere: str
) -> None:
    connect = CONNECT.format(host=elsewhere)
    greeting, tunnel = await acted(
        running, "iris", shell('echo "<$GREETING>"'), shell(f'python3 -c "{connect}"')
    )
    assert (greeting, "403" in tunnel) == ("<>", True), tunnel
    assert reminders(running) == {}


async def test_the_manager_changes_iris_and_iris_comes_back_with_it(
    running: RunningHive, api: ScriptedApi, elsewhere: str
) -> None:
    number = await proposed(running, CHANGED.format(host=elsewhere), "a better iris")
    shown = running.hivectl_raw("show", "iris", str(number)).stdout
    assert "mcp_servers.hyperhive: left out" in shown
    assert shown.index(elsewhere) < shown.index('+model = "opus"')  # the summary stands on top
    assert settings(running, "iris")["icon"] == ""
    approved = running.hivectl_raw("approve", "iris", str(number), "--yes")
    assert approved.returncode == 0, approved.stderr
    assert (await ended(running, "iris", number))["state"] == "deployed"
    followed = running.hivectl_raw("log", "iris", str(number), "-f")
    assert (followed.returncode, "the harness is well" in followed.stdout) == (0, True), followed
    assert f"deployed/{number}" in tags(running, "iris")
    await told(running, MANAGER_NAME, "approved", f"proposal {number} for iris")
    await told(running, MANAGER_NAME, "deployed", f"proposal {number} for iris is in force")
    await told(running, "iris", "deployed", f"generation {number}")

    in_force = settings(running, "iris")
    assert (in_force["icon"], in_force["pronouns"], in_force["model"]) == ("Y", "it/its", "opus")
    assert set(in_force["mcp_servers"]) == {"missing"}
    assert set(reminders(running)) == {"rounds"}
    connect = CONNECT.format(host=elsewhere)
    greeting, tunnel, sent, *noted = await acted(
        running,
        "iris",
        shell('echo "<$GREETING $HIVE_DEFAULT_MODEL>"'),
        shell(f'python3 -c "{connect}"'),
        ("mcp__hyperhive__send", {"to": "atlas", "body": "hello"}),
    )
    assert greeting == "<ahoy opus>"
    assert "200" in tunnel
    assert "iris may not write to atlas" in sent
    assert any("the MCP server missing is not there" in each for each in noted), noted
    asked = api.turns[-1].body
    assert "opus" in asked["model"]
    assert "You go by it/its." in str(asked["system"])
    assert "# Your role" in str(asked["system"])
    assert "You sweep." in str(asked["system"])
    assert not (running.places.state / "agents/iris/state/pwned").exists()


async def test_commands_are_limited_from_the_next_generation_on(running: RunningHive) -> None:
    before = reminders(running)["rounds"]
    number = await proposed(running, LIMITED, "careful")
    running.hivectl("approve", "iris", str(number), "--yes")
    assert (await ended(running, "iris", number))["state"] == "deployed"
    await told(running, "iris", "deployed", f"generation {number}")
    version, touched, checked, *_ = await acted(
        running,
        "iris",
        shell("git --version"),
        shell("touch pwned"),
        ("mcp__hyperhive__remind", {"text": "look", "in_s": 60, "only_if": "touch pwned"}),
    )
    assert version.startswith("git version")
    assert "needs approval" in touched
    assert "a check is one" in checked
    assert not (running.places.state / "agents/iris/state/pwned").exists()
    after = reminders(running)
    assert set(after) == {"rounds", "nightly"}
    assert (after["rounds"]["id"], after["rounds"]["body"]) == (before["id"], "make your rounds, quickly")


async def test_a_denial_begins_the_managers_next_turn_with_its_reason(
    running: RunningHive, api: ScriptedApi
) -> None:
    number = await proposed(running, 'model = "sonnet"\n', "a cheaper one")
    asked_before = len(api.turns)
    running.hivectl("deny", "iris", str(number), "--reason", "opus is fine, leave it")
    message = await told(running, MANAGER_NAME, "denied", f"proposal {number} for iris")
    assert (await newest(running, MANAGER_NAME)).message == message.id
    woken = next(each for each in api.turns[asked_before:] if "opus is fine, leave it" in str(each.body))
    wake = Conversation(woken.body["messages"]).wakes()[-1]
    assert wake.message == message.id
    assert wake.body.endswith("The operator's reason:\nopus is fine, leave it")
    assert settings(running, "iris")["model"] == "opus"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (WRONG, "reminder never: cron: '0 0 31 2 *'"),
        (BROKEN, "the runner's program does not start: it ended with 1"),
    ],
    ids=["reminder", "program"],
)
async def test_what_cannot_work_is_returned_and_the_manager_told(
    running: RunningHive, text: str, why: str
) -> None:
    before = settings(running, "iris")
    stood = {name: each["body"] for name, each in reminders(running).items()}
    number = await proposed(running, text, "daring")
    running.hivectl("approve", "iris", str(number), "--yes")
    row = await ended(running, "iris", number)
    assert (row["state"], why in row["detail"]) == ("returned", True), json.dumps(row)
    assert f"failed/{number}" in tags(running, "iris")
    assert settings(running, "iris") == before
    message = await told(running, MANAGER_NAME, "deploy_failed", f"proposal {number} for iris")
    assert why in message.body

    def stands() -> bool:
        return {name: each["body"] for name, each in reminders(running).items()} == stood

    await until(stands, what="the reminders as they were")
    [version, *_] = await acted(running, "iris", shell("git --version"))
    assert version.startswith("git version")


async def test_the_operators_model_holds_until_a_deployment_changes_it(
    running: RunningHive, api: ScriptedApi
) -> None:
    def models(since: int) -> str:
        return " ".join(request.body["model"] for request in api.turns[since:])

    running.hivectl("model", "iris", "sonnet")
    running.hivectl("restart", "iris")
    seen = len(api.turns)
    await acted(running, "iris", shell("git --version"))
    assert "sonnet" in models(seen)
    assert "opus" not in models(seen)
    number = await proposed(running, 'model = "haiku"\nallowed_commands = ["git *"]\n', "cheap")
    running.hivectl("approve", "iris", str(number), "--yes")
    assert (await ended(running, "iris", number))["state"] == "deployed"
    await told(running, "iris", "deployed", f"generation {number}")
    seen = len(api.turns)
    await acted(running, "iris", shell("git --version"))
    assert "haiku" in models(seen)
    assert "sonnet" not in models(seen)
    assert reminders(running) == {}
