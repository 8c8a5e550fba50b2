"""Who lives on a machine with a hive: the users of its daemons and cages, and strangers."""

import tomllib
from typing import Any

from tests.security.peers import User, ask
from tests.support.hive import RunningHive

NOBODY = User(65_534, 65_534)
STRANGER = User(61_777, 61_777)
"""An ordinary user of the host who has nothing to do with the hive."""


def users(hive: RunningHive) -> dict[str, User]:
    """Everybody by name. An agent's users are those of its cage's range."""
    peers = tomllib.loads((hive.places.rendered / "privd.toml").read_text())["peers"]
    found = {"root": User(0, 0), "nobody": NOBODY, "stranger": STRANGER}
    for daemon in ("broker", "web", "egress"):
        uid = peers[f"{daemon}_uid"]
        found[daemon] = User(uid, uid)
    for cage in cages(hive):
        agent, harness = cage["agent_uid"], cage["harness_uid"]
        found[f"{cage['agent']} init"] = User(agent - 1_000, agent - 1_000)
        found[f"{cage['agent']} agent"] = User(agent, agent)
        found[f"{cage['agent']} harness"] = User(harness, harness)
    return found


def cages(hive: RunningHive) -> list[Any]:
    """Every cage as privd tells root."""
    found: list[Any] = ask(User(0, 0), hive.socket("privd"), b'{"op":"list_cages"}\n').answer["ok"]
    return found


def away(hive: RunningHive, agent: str) -> None:
    """Destroy and purge an agent that a test brought."""
    hive.hivectl("destroy", agent, "--yes")
    hive.hivectl("purge", agent, "--yes")
