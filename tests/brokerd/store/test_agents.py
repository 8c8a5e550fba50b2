"""Agents: the feed is told when anybody could see a difference, and only then."""

import pytest

from brokerd.store import agents, turns
from brokerd.store.agents import Known
from brokerd.store.deliveries import id_of
from protocol.brokerd import Activity, AgentChanged, AgentGone
from protocol.problem import Problem, Refused
from protocol.settings import AgentRole, AgentSettings
from protocol.turns import Outcome
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import begin, draft, send


def known(name: str, uid: int = 70_001, **settings: object) -> Known:
    return Known(name, uid, AgentSettings(name=name, **settings))  # type: ignore[arg-type]  # what a test varies


def test_a_new_agent_is_absent(db: Db, write: Writer) -> None:
    write.now_ms = 5_000
    write(agents.know, [known("damocles")])
    (entry,) = write.told
    assert isinstance(entry.body, AgentChanged)
    assert (entry.body.agent.activity, entry.body.agent.since_ms) == (Activity.ABSENT, 5_000)
    assert [agent.name for agent in agents.read_all(db)] == ["atlas", "damocles", "hm1nd", "iris"]


def test_an_agent_reported_again_is_news_only_when_it_shows(db: Db, write: Writer) -> None:
    write(agents.know, [known("iris", uid=99_001, model="opus")])
    assert write.kinds() == []
    read = {row.name: row.known for row in agents.read_known(db)}["iris"]
    assert read is not None
    assert (read.harness_uid, read.settings.model) == (99_001, "opus")
    write(agents.know, [known("iris", role=AgentRole.MANAGER)])
    assert write.kinds() == ["AgentChanged"]
    assert agents.read(db, "iris").role is AgentRole.MANAGER


def test_what_a_harness_said_survives_a_report_of_privd(db: Db, write: Writer) -> None:
    write(agents.change, "iris", status="thinking about tea", attached=True)
    write(agents.know, [known("iris")])
    row = agents.read(db, "iris")
    assert (row.status, row.activity) == ("thinking about tea", Activity.IDLE)


def test_a_change_that_shows_nothing_is_not_told(db: Db, write: Writer) -> None:
    write(agents.change, "iris", status="busy")
    assert write.kinds() == ["AgentChanged"]
    write(agents.change, "iris", status="busy")
    write(agents.change, "iris", instance="1" * 32)
    assert write.kinds() == []
    assert agents.read(db, "iris").instance == "1" * 32


def test_since_is_since_the_activity_changed(db: Db, write: Writer) -> None:
    write.now_ms = 2_000
    write(agents.change, "iris", attached=True)
    write.now_ms = 3_000
    write(agents.change, "iris", status="still idle")
    assert agents.read(db, "iris").since_ms == 2_000
    write.now_ms = 4_000
    write(agents.change, "iris", parked=Outcome.AUTH, detail="log in again")
    row = agents.read(db, "iris")
    assert (row.activity, row.since_ms, row.detail) == (Activity.PARKED, 4_000, "log in again")


def test_the_feed_tells_the_row_as_it_is_stored(db: Db, write: Writer) -> None:
    write(agents.change, "iris", status="busy", attached=True)
    body = write.told[-1].body
    assert isinstance(body, AgentChanged)
    assert body.agent == agents.agent_from(agents.read(db, "iris"))


def test_an_unknown_agent_is_refused_or_let_be(write: Writer) -> None:
    with pytest.raises(Refused, match="there is no agent nobody") as refused:
        write(agents.change, "nobody", status="x")
    assert refused.value.problem is Problem.NOT_FOUND
    write(agents.change_if_known, "nobody", attached=False)
    assert write.kinds() == []


def test_forgetting_is_told_once(db: Db, write: Writer) -> None:
    write(agents.forget, ["iris"])
    (entry,) = write.told
    assert entry.body == AgentGone("iris")
    write.told.clear()
    write(agents.forget, ["iris"])
    assert write.kinds() == []


def test_settings_that_cannot_be_read_hide_no_other(db: Db, write: Writer) -> None:
    db.execute("UPDATE agents SET settings = ? WHERE name = 'atlas'", (b'{"name":5}',))
    rows = agents.read_known(db)
    assert [(row.name, row.known is not None) for row in rows] == [
        ("atlas", False),
        ("hm1nd", True),
        ("iris", True),
    ]
    assert "str" in rows[0].fault


def test_at_a_start_nobody_is_attached_and_open_turns_run_on(db: Db, write: Writer) -> None:
    (sent,) = send(write, draft())
    for name in ("iris", "atlas"):
        write(turns.attach, name, "1" * 32)
    turn = begin(write, "iris", id_of(sent.message, 0), "a" * 32)
    write.kinds()
    write(agents.start_anew)
    assert agents.read(db, "atlas").activity is Activity.ABSENT
    assert (agents.read(db, "iris").activity, agents.read(db, "iris").turn) == (Activity.THINKING, turn)
    assert not agents.read(db, "iris").attached
    assert write.kinds() == ["AgentChanged"] * 2
