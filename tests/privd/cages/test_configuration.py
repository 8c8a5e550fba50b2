"""A configuration's whole way with real cages: committed in the manager's, approved, in force in the agent's."""

import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from privd.cages.probe import choose
from privd.settings import BackendChoice, Launching
from protocol.approvals import DeploymentState, ProposalKind
from protocol.names import MANAGER_NAME
from protocol.privd import Power
from protocol.problem import Refused
from tests.support.configuring import Desk, desk, ground, toml

pytestmark = [pytest.mark.anyio, pytest.mark.root, pytest.mark.cage]

ENVIRONMENT = Path(os.environ.get("HIVE_CAGE_ENVIRONMENT", Path(__file__).parents[3] / ".hive" / "cage"))
COMMIT = 'cd "/agents/$1/config" && cat >agent.toml && git commit -qam change && git log -1 --format="%H %an <%ae>"'


@asynccontextmanager
async def real_desk(place: Path) -> AsyncIterator[Desk]:
    """A hive whose cages are real; none is left."""
    try:
        backend = await choose(BackendChoice.NSPAWN, Launching.CHILDREN, place)
    except Refused as refused:
        pytest.skip(refused.detail)
    async with desk(place, real=backend, environment=str(ENVIRONMENT.resolve())) as at:
        try:
            yield at
        finally:
            for row in at.host.rows():
                await at.host.keeper(row.agent).destroy(0)


def in_cage(at: Desk, agent: str, script: str, *words: str, said: str = "") -> str:
    """What a shell of the agent's own user says in its running cage."""
    record = json.loads((at.place / "cages" / agent / "running.json").read_text())
    argv = [
        "nsenter", "--target", str(record["leader"]["pid"]), "--all", "--root", "--wd", "--",
        "setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--no-new-privs", "--",
        "/bin/sh", "-ec", script, "sh", *words,
    ]  # fmt: skip
    done = subprocess.run(
        argv,
        input=said,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/tmp"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def settings_in(at: Desk, agent: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(in_cage(at, agent, "cat /etc/hyperhive/agent.json"))
    return found


async def test_the_manager_edits_and_the_agent_lives_by_it() -> None:
    with ground() as place:
        async with real_desk(place) as at:
            assert (await at.spawned(MANAGER_NAME)).state is DeploymentState.DEPLOYED
            assert (await at.spawned("iris")).state is DeploymentState.DEPLOYED
            text = toml(at.host, "iris", model="opus", icon="☕")
            commit, _, author = in_cage(at, MANAGER_NAME, COMMIT, "iris", said=text).partition(" ")
            assert author == "hm1nd <hm1nd@hive.invalid>", "it has an identity to commit with"
            proposal = await at.propose("iris", commit=commit)
            before = at.host.keeper("iris").row().started_ms
            ended = await at.healthy(await at.approve(proposal))
            assert (ended.state, ended.detail) == (DeploymentState.DEPLOYED, "")
            assert at.host.keeper("iris").row().started_ms != before
            assert settings_in(at, "iris")["model"] == "opus"
            assert settings_in(at, "iris")["icon"] == "☕"
            refused = await at.propose(
                "iris", commit=in_cage(at, MANAGER_NAME, COMMIT, "iris", said="").split()[0]
            )
            ended = await at.healthy(await at.approve(refused), "it is not well")
            assert ended.state is DeploymentState.RETURNED
            assert settings_in(at, "iris")["model"] == "opus"
            assert at.host.keeper("iris").power is Power.RUNNING


async def test_a_cage_whose_harness_cannot_start_is_returned_from() -> None:
    with ground() as place:
        async with real_desk(place) as at:
            proposal = await at.propose("iris", ProposalKind.SPAWN)
            at.host.settings = msgspec.structs.replace(at.host.settings, environment="/usr/share")
            ended = await at.ended(await at.approve(proposal))
            assert ended.state is DeploymentState.RETURNED
            assert at.host.rows() == ()
