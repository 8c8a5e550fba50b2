"""Records on disk: whole, durable, and never guessed at."""

from pathlib import Path

import pytest

from privd.registry import AgentRecord, Registry, RegistryFault
from protocol.settings import AgentSettings


def record(name: str = "iris") -> AgentRecord:
    return AgentRecord(agent=name, uid_base=1_000_000, created_ms=1, settings=AgentSettings(name=name))


def test_what_was_put_is_loaded_again(tmp_path: Path) -> None:
    first = Registry(tmp_path)
    first.load()
    first.put(record("iris"))
    first.put(record("atlas"))
    second = Registry(tmp_path)
    second.load()
    assert [kept.agent for kept in second.all()] == ["atlas", "iris"]
    assert second.get("iris") == record("iris")


def test_forgetting_leaves_no_record(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.load()
    registry.put(record())
    registry.forget("iris")
    again = Registry(tmp_path)
    again.load()
    assert again.all() == ()


def test_a_broken_record_names_its_file(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.load()
    registry.put(record())
    (tmp_path / "iris" / "agent.json").write_text("{")
    with pytest.raises(RegistryFault, match=r"iris/agent\.json"):
        Registry(tmp_path).load()


def test_a_record_in_another_agents_folder_is_not_believed(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.load()
    registry.put(record("iris"))
    (tmp_path / "iris").rename(tmp_path / "atlas")
    with pytest.raises(RegistryFault, match="record of 'iris'"):
        Registry(tmp_path).load()


def test_a_half_written_record_does_not_hide_the_whole_one(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.load()
    registry.put(record())
    (tmp_path / "iris" / "agent.new").write_text("{half")
    again = Registry(tmp_path)
    again.load()
    assert again.get("iris") == record()
