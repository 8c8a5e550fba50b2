"""Pauses outlive what privd says of agents, and a turn does not begin in one."""

import pytest

from brokerd.store import agents, pauses
from brokerd.store.agents import Known
from protocol.brokerd import AgentChanged
from protocol.problem import Problem, Refused
from protocol.settings import AgentSettings
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import begin, draft, send


def test_a_pause_is_told_once_and_ends_once(db: Db, write: Writer) -> None:
    first = write(pauses.pause, "iris")
    assert [entry.body.agent.paused for entry in write.told if isinstance(entry.body, AgentChanged)] == [True]
    assert write(pauses.pause, "iris") == first
    assert (agents.read(db, "iris").paused, agents.read(db, "atlas").paused) == (True, False)
    assert pauses.read_all(db) == {"iris"}
    second = write(pauses.resume, "iris")
    assert write(pauses.resume, "iris") == second > first
    assert write.kinds() == ["AgentChanged", "AgentChanged"]
    assert pauses.read_all(db) == frozenset()


def test_a_pause_survives_an_agent_that_goes_and_comes(db: Db, write: Writer) -> None:
    write(pauses.pause, "iris")
    write(agents.forget, ["iris"])
    assert pauses.read_all(db) == {"iris"}
    write(agents.know, [Known("iris", 1, AgentSettings("iris"))])
    assert agents.read(db, "iris").paused
    assert write.told[-1].body.agent.paused  # type: ignore[union-attr]  # an AgentChanged


def test_other_changes_leave_it_as_it_is(db: Db, write: Writer) -> None:
    write(pauses.pause, "iris")
    write(agents.change, "iris", status="busy")
    assert (agents.read(db, "iris").paused, agents.read(db, "iris").status) == (True, "busy")


def test_no_turn_begins_in_a_pause_and_one_that_runs_is_found_again(db: Db, write: Writer) -> None:
    sent = send(write, draft(), draft())
    write(pauses.pause, "iris")
    with pytest.raises(Refused, match="iris is paused") as refused:
        begin(write, "iris", sent[0].message << 7, "0" * 32)
    assert refused.value.problem is Problem.CONFLICT
    write(pauses.resume, "iris")
    turn = begin(write, "iris", sent[0].message << 7, "0" * 32)
    write(pauses.pause, "iris")
    assert begin(write, "iris", sent[0].message << 7, "0" * 32) == turn
