"""An agent's whole life: created, stopped and started, destroyed, brought back to its notes, purged."""

import pytest

from tests.support.hive import RunningHive
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole, pytest.mark.cage]


def power(hive: RunningHive, agent: str) -> str | None:
    return next((cage["power"] for cage in hive.hivectl("cages") if cage["agent"] == agent), None)


def notes(hive: RunningHive, agent: str) -> str:
    path = hive.places.state / "agents" / agent / "state" / "notes.md"
    return path.read_text() if path.exists() else ""


async def test_a_life(any_hive: RunningHive) -> None:
    hive = any_hive
    assert hive.hivectl("spawn", "atlas")["power"] == "running"
    hive.hivectl("send", "atlas", "remember the way home")
    await until(lambda: "the way home" in notes(hive, "atlas"), what="the note")

    assert hive.hivectl("stop", "atlas")["power"] == "stopped"
    sent = hive.hivectl("send", "atlas", "remember what came while you were away")
    assert hive.hivectl("start", "atlas")["power"] == "running"
    await until(lambda: "while you were away" in notes(hive, "atlas"), what="the queued message")
    assert sent["recipients"] == ["atlas"]

    assert hive.hivectl("restart", "atlas")["power"] == "running"
    before = hive.hivectl("cages")
    assert hive.hivectl("rebuild", "atlas")["power"] == "running"
    assert "the way home" in notes(hive, "atlas")
    booted = {cage["agent"]: cage["started_ms"] for cage in before}
    anew = [cage["agent"] for cage in hive.hivectl("cages") if cage["started_ms"] != booted[cage["agent"]]]
    assert anew == ["atlas"]
    assert hive.hivectl("destroy", "atlas", "--yes")["power"] == "kept"
    refused = hive.hivectl_raw("start", "atlas")
    assert refused.returncode == 1
    assert "its state is kept" in refused.stderr

    assert hive.hivectl("spawn", "atlas")["power"] == "running"
    assert "the way home" in notes(hive, "atlas")
    hive.hivectl("destroy", "atlas", "--yes")
    unsure = hive.hivectl_raw("purge", "atlas")
    assert unsure.returncode == 1
    assert "say --yes" in unsure.stderr
    hive.hivectl("purge", "atlas", "--yes")
    assert power(hive, "atlas") is None
    assert not (hive.places.state / "agents" / "atlas").exists()
    assert not (hive.places.state / "cages" / "atlas").exists()


def test_what_cannot_be_says_why(any_hive: RunningHive) -> None:
    for words, code, text in (
        (("spawn", "iris"), 1, "iris: it is living"),
        (("spawn", "Iris"), 2, "an agent's name"),
        (("spawn", "manager"), 2, "reserved"),
        (("start", "nobody"), 1, "there is no agent nobody"),
        (("purge", "iris", "--yes"), 1, "destroy it first"),
        (("destroy", "iris"), 1, "say --yes"),
        (("send", "nobody", "hello"), 1, "nobody"),
        (("journal", "../etc"), 2, "no agent's name"),
    ):
        done = any_hive.hivectl_raw(*words)
        assert (done.returncode, text in done.stderr) == (code, True), (words, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1


def test_roots_record_of_all_that_is_whole(any_hive: RunningHive) -> None:
    """Whoever the hive belongs to; what was done by whom stands in it."""
    assert any_hive.hivectl("audit", "verify")["faults"] == []
    rows = any_hive.hivectl("audit", "--agent", "atlas", "--limit", "1000")
    told = [(row["op"], row["verdict"]) for row in rows if row["by"] == "operator"]
    for op in ("start_cage", "stop_cage", "restart_cage", "rebuild_cage", "destroy_cage", "purge_agent"):
        assert (op, "done") in told
