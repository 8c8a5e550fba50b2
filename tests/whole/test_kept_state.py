"""What an agent leaves: looked at while it runs and after it was destroyed, brought back as it was, purged for good."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.limits import STATE_CHUNK_BYTES_MAX
from tests.support.hive import READY_S, RunningHive

pytestmark = [pytest.mark.whole, pytest.mark.cage]

AGENT = "lumen"


def raw(hive: RunningHive, *words: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-I", "-m", "hivectl", "--dir", str(hive.places.state), *words]
    return subprocess.run(command, capture_output=True, timeout=READY_S, check=False, cwd="/")


def put(folder: Path, name: str, content: bytes) -> None:
    """A file of the agent's own."""
    owner = folder.stat()
    (folder / name).write_bytes(content)
    os.chown(folder / name, owner.st_uid, owner.st_gid)


def test_an_agents_files_outlive_it_and_come_back(any_hive: RunningHive) -> None:
    hive = any_hive
    first = hive.hivectl("spawn", AGENT, "--runner", "demo", "--model", "small-1")
    state = hive.places.state / "agents" / AGENT / "state"
    content = os.urandom(2 * STATE_CHUNK_BYTES_MAX + 12_345)
    put(state, "weights.bin", content)
    put(state, "odd\nname", b"odd")

    def look() -> None:
        names = [entry["name"] for entry in hive.hivectl("files", AGENT)["entries"]]
        assert {"weights.bin", "odd\\x0aname"} <= set(names)
        assert raw(hive, "cat", AGENT, "weights.bin").stdout == content
        assert raw(hive, "cat", AGENT, "odd\\x0aname").stdout == b"odd"
        missing = raw(hive, "cat", AGENT, "missing")
        assert (missing.returncode, missing.stdout) == (1, b"")
        assert b"there is no missing" in missing.stderr

    look()
    assert "weights.bin" in hive.hivectl_raw("files", AGENT).stdout
    hive.hivectl("stop", AGENT)
    look()
    assert hive.hivectl("kept") == []
    hive.hivectl("destroy", AGENT, "--yes")
    look()

    (kept,) = hive.hivectl("kept")
    assert kept["agent"] == AGENT
    assert kept["state"]["complete"]
    assert len(content) <= kept["state"]["bytes"] < len(content) + 1_000_000
    shown = hive.hivectl_raw("kept").stdout
    assert AGENT in shown
    assert "brings one back" in shown

    back = hive.hivectl("spawn", AGENT)
    assert (back["agent_uid"], back["harness_uid"]) == (first["agent_uid"], first["harness_uid"])
    assert (back["settings"]["runner"], back["settings"]["model"]) == ("demo", "small-1")
    assert back["power"] == "running"
    look()
    assert state.stat().st_uid == back["agent_uid"]

    wrong = hive.hivectl_raw("purge", AGENT, "--yes")
    assert wrong.returncode == 1
    assert "still has a cage" in wrong.stderr
    hive.hivectl("destroy", AGENT, "--yes")
    unasked = hive.hivectl_raw("purge", AGENT)
    assert unasked.returncode == 1
    assert "--yes" in unasked.stderr
    assert state.exists()
    hive.hivectl("purge", AGENT, "--yes")
    assert not state.parent.exists()
    assert hive.hivectl("kept") == []
    assert json.loads(raw(hive, "--json", "kept").stdout) == []
