"""Configuration as git, in a whole hive: the manager commits in its cage and proposes, the operator decides."""

import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.brokerd import ListMessages
from protocol.messages import DeliveryState, Message
from protocol.names import MANAGER_NAME
from protocol.privd import ReadState
from protocol.problem import Refused
from runtime.client import Client
from runtime.clock import new_key
from tests.support.hive import RunningHive, hive
from tests.support.waiting import until
from tests.whole.conftest import UNHURRIED

pytestmark = [pytest.mark.anyio, pytest.mark.whole, pytest.mark.cage]

SETTLED_MS = 150_000
"""Longer than a deployment may take that is returned only when its time is over."""


@pytest.fixture(scope="module")
def claude() -> Iterator[Path]:
    """What passes for the CLI until it is gone."""
    with tempfile.TemporaryDirectory(prefix="hive-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        program = Path(folder) / "claude"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        yield program


@pytest.fixture(scope="module")
def running(claude: Path) -> Iterator[RunningHive]:
    environment = {"HIVE_CLAUDE": str(claude)}
    with hive("--runner", "demo", "--agents", "iris", settings=UNHURRIED, environment=environment) as found:
        yield found


async def in_managers_cage(running: RunningHive, command: str) -> str:
    """Run a shell command as the manager's user in its cage, where a reminder's check runs; its output."""
    place = f"said.{new_key()}"
    check = (
        f"({command}) > {place}.new 2>&1; echo ended with $? >> {place}.new; mv {place}.new {place}; exit 1"
    )
    words = ("--in-s", "99999", "--agent", MANAGER_NAME, "--only-if", check)
    running.hivectl("fire", str(running.hivectl("remind", "look", *words)["id"]))
    async with Client(running.socket("privd")) as privd:

        async def said() -> bytes | None:
            try:
                return (await privd.call(ReadState(agent=MANAGER_NAME, path=place))).data
            except Refused:
                return None

        output = (await until(said, what=f"the end of {command}")).decode()
    text, _, code = output.rpartition("ended with ")
    assert code.strip() == "0", output
    return text.strip()


async def committed(running: RunningHive, agent: str, text: str, *, over: str = "") -> str:
    """Add lines before (or write them over) agent.toml, and commit by git in the manager's cage; the commit's id."""
    write = over or f"printf '%s\\n' {shlex.quote(text)} | cat - agent.toml > new && mv new agent.toml"
    git = "git commit -qam 'Change it' && git rev-parse HEAD"
    return (await in_managers_cage(running, f"cd /agents/{agent}/config && {write} && {git}")).splitlines()[
        -1
    ]


async def proposed(running: RunningHive, agent: str, commit: str, why: str) -> int:
    """Have the manager propose it with its tool, in a turn; the number."""
    sent = running.hivectl("send", MANAGER_NAME, f"propose {agent} {commit} {why}")

    async def answered() -> Message | None:
        return next((each for each in await messages(running) if each.in_reply_to == sent["message"]), None)

    answer = await until(answered, what="the manager's answer")
    assert answer.body.startswith("I proposed that: "), answer.body
    return int(answer.body.split()[-1])


async def messages(running: RunningHive) -> list[Message]:
    async with Client(running.socket("brokerd")) as brokerd:
        return list((await brokerd.call(ListMessages(limit=200))).messages)


async def told(running: RunningHive, to: str, event: str, words: str) -> Message:
    """The hive's message of that event, when the turn that it woke has ended."""

    async def found() -> Message | None:
        for each in await messages(running):
            if each.event == event and each.to == to and words in each.body:
                return each if each.deliveries[0].state is DeliveryState.DONE else None
        return None

    return await until(found, what=f"{event} to {to}", deadline_ms=SETTLED_MS)


async def ended(running: RunningHive, agent: str, number: int) -> Any:
    async def row() -> Any:
        rows = running.hivectl("deployments", agent)
        return next((each for each in rows if each["number"] == number and each["ended_ms"]), None)

    return await until(row, what=f"the end of deployment {number}", deadline_ms=SETTLED_MS)


def settings(running: RunningHive, agent: str) -> Any:
    return next(each["settings"] for each in running.hivectl("cages") if each["agent"] == agent)


def tags(running: RunningHive, agent: str) -> set[str]:
    return {each["name"] for each in running.hivectl("refs", agent)}


async def test_a_commit_of_the_manager_is_shown_approved_and_in_force(running: RunningHive) -> None:
    commit = await committed(running, "iris", 'icon = "Y"')
    number = await proposed(running, "iris", commit, "a face for iris")
    [row] = running.hivectl("proposals")
    assert (row["agent"], row["number"], row["commit"], row["by"]) == ("iris", number, commit, "manager")
    assert f"proposal {number} of iris" in running.hivectl_raw("status").stdout
    shown = running.hivectl_raw("show", "iris", str(number)).stdout
    assert "a face for iris" in shown
    assert shown.index("icon") < shown.index('+icon = "Y"')  # the summary stands on top
    unasked = running.hivectl_raw("approve", "iris", str(number))
    assert (unasked.returncode, "say --yes" in unasked.stderr) == (1, True)
    assert settings(running, "iris")["icon"] == ""
    approved = running.hivectl_raw("approve", "iris", str(number), "--yes")
    assert approved.returncode == 0, approved.stderr
    followed = running.hivectl_raw("log", "iris", str(number), "-f")
    assert (followed.returncode, "the harness is well" in followed.stdout) == (0, True), followed
    assert (await ended(running, "iris", number))["state"] == "deployed"
    assert settings(running, "iris")["icon"] == "Y"
    assert f"deployed/{number}" in tags(running, "iris")
    assert f"proposal/{number}" not in tags(running, "iris")
    await told(running, MANAGER_NAME, "approved", f"proposal {number} for iris")
    await told(running, MANAGER_NAME, "deployed", f"generation {number}")
    await told(running, "iris", "deployed", f"generation {number}")
    assert running.hivectl_raw("history", "iris").stdout.count("\n") >= 2


async def test_a_denial_wakes_the_manager_with_the_reason(running: RunningHive) -> None:
    commit = await committed(running, "iris", 'pronouns = "it/its"')
    number = await proposed(running, "iris", commit, "")
    denied = running.hivectl("deny", "iris", str(number), "--reason", "ask iris first")
    assert (denied["state"], denied["reason"]) == ("denied", "ask iris first")
    message = await told(running, MANAGER_NAME, "denied", f"proposal {number} for iris")
    assert message.body.endswith("The operator's reason:\nask iris first")
    assert settings(running, "iris")["pronouns"] == ""
    late = running.hivectl_raw("approve", "iris", str(number), "--yes")
    assert (late.returncode, "denied already" in late.stderr) == (1, True)


async def test_what_is_wrong_in_a_configuration_is_the_managers_to_read(running: RunningHive) -> None:
    commit = await committed(running, "iris", "model = 7", over="echo 'model = 7' > agent.toml")
    sent = running.hivectl("send", MANAGER_NAME, f"propose iris {commit}")

    async def answered() -> Message | None:
        return next((each for each in await messages(running) if each.in_reply_to == sent["message"]), None)

    answer = await until(answered, what="the manager's answer")
    assert "agent.toml: model:" in answer.body


async def test_a_configuration_whose_harness_is_not_well_is_returned(
    running: RunningHive, claude: Path
) -> None:
    """The runner that it names is not there any more when it is deployed: the self-test says so in the cage."""
    before = settings(running, "iris")
    commit = await committed(running, "iris", "", over="echo 'runner = \"claude\"' > agent.toml")
    number = await proposed(running, "iris", commit, "a model")
    claude.unlink()
    running.hivectl("approve", "iris", str(number), "--yes")
    row = await ended(running, "iris", number)
    assert row["state"] == "returned"
    assert "the runner's program is not there" in row["detail"]
    assert settings(running, "iris") == before
    assert f"failed/{number}" in tags(running, "iris")
    await told(running, MANAGER_NAME, "deploy_failed", f"proposal {number} for iris")
    sent = running.hivectl("send", "iris", "who")

    async def done() -> bool:
        found = next(each for each in await messages(running) if each.id == sent["message"])
        return found.deliveries[0].state is DeliveryState.DONE

    await until(done, what="iris to work as before")


async def test_a_generation_is_rolled_back_to(running: RunningHive) -> None:
    running.hivectl("rollback", "iris", "1", "--yes")
    number = running.hivectl("deployments", "iris")[0]["number"]
    assert (await ended(running, "iris", number))["of"] == 1
    assert settings(running, "iris")["icon"] == ""
    await told(running, MANAGER_NAME, "deployed", "rolled iris back to generation 1")


async def test_a_draft_is_edited_by_the_manager_and_becomes_an_agent(running: RunningHive) -> None:
    number = running.hivectl("propose", "nova", "init", "--template", "infra")["number"]
    running.hivectl("approve", "nova", str(number), "--yes")
    assert (await ended(running, "nova", number))["state"] == "deployed"
    assert [each["agent"] for each in running.hivectl("drafts")] == ["nova"]
    commit = await committed(running, "nova", 'pronouns = "it/its"')
    number = await proposed(running, "nova", commit, "our newcomer")
    assert running.hivectl("proposals", "nova")[0]["kind"] == "spawn"
    running.hivectl("approve", "nova", str(number), "--yes")
    row = await ended(running, "nova", number)
    assert (row["state"], row["detail"]) == ("deployed", "")
    await told(running, MANAGER_NAME, "deployed", "nova is made and runs")
    assert settings(running, "nova")["pronouns"] == "it/its"
    assert running.hivectl("drafts") == []
