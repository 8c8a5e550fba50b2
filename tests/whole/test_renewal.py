"""privd comes back with a newer hyperhive: running cages are brought up to it one by one, the manager's first."""

import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from protocol.brokerd import ListMessages
from protocol.messages import DeliveryState, Message, SystemEvent
from protocol.names import MANAGER_NAME
from runtime.client import Client
from tests.support.hive import CAGE_ENVIRONMENT, RunningHive, hive
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole, pytest.mark.cage]

PATIENCE_MS: Final = 180_000
"""Of a busy machine: two rebuilds, one after the other, and a message that waits for more of its kind."""


async def test_cages_of_an_older_hyperhive_are_rebuilt_by_themselves() -> None:
    with hive("--runner", "demo", "--agents", "iris,atlas") as running:
        running.hivectl("stop", "atlas")
        before = {cage["agent"]: cage for cage in running.hivectl("cages")}
        assert {cage["stale"] for cage in before.values()} == {""}
        newer = running.places.state / "newer"
        shutil.copytree(CAGE_ENVIRONMENT.resolve(), newer, symlinks=True)
        upgrade(running, newer)

        def rebuilt() -> dict[str, dict[str, Any]] | None:
            now = {cage["agent"]: cage for cage in running.hivectl("cages")}
            fresh = all(now[agent]["rebuilt_ms"] is not None for agent in (MANAGER_NAME, "iris"))
            return now if fresh else None

        now = await until(rebuilt, what="every running cage rebuilt", deadline_ms=PATIENCE_MS)
        assert now[MANAGER_NAME]["rebuilt_ms"] < now["iris"]["rebuilt_ms"]
        assert {cage["stale"] for cage in now.values()} == {""}
        assert (now["atlas"]["power"], now["atlas"]["rebuilt_ms"]) == ("stopped", None), (
            "it stays as it was left"
        )
        assert {cage["generation"] for cage in now.values()} == {1}, "nothing new was deployed"
        await told(running)


def upgrade(running: RunningHive, environment: Path) -> None:
    """What an installation of a newer release changes for privd, which then starts again."""
    settings = running.places.rendered / "privd.toml"
    lines = settings.read_text().splitlines()
    changed = [
        f'environment = "{environment}"' if line.startswith("environment = ") else line for line in lines
    ]
    settings.write_text("\n".join([*changed, ""]))
    running.kill_daemon("privd")


async def told(running: RunningHive) -> None:
    """Each agent is told, and the manager of the others in one message."""
    async with Client(running.socket("brokerd")) as brokerd:

        async def all_told() -> list[Message] | None:
            page = await brokerd.call(ListMessages(limit=200))
            found = [each for each in page.messages if each.event is SystemEvent.REBUILT]
            done = all(each.deliveries[0].state is DeliveryState.DONE for each in found)
            return found if done and any("Each was told" in each.body for each in found) else None

        messages = await until(all_told, what="the manager told of the others", deadline_ms=PATIENCE_MS)
    assert {each.to for each in messages} == {MANAGER_NAME, "iris"}
    assert "iris" in next(each.body for each in messages if "Each was told" in each.body)
