"""The agents of the hive on disk: one record each, written whole and durably before the world changes.

    <state>/cages/<name>/agent.json
    <state>/cages/highest_range       the highest uid range that an agent had who is gone

A record says what should be (settings, uid range, wanted power); what is, the keeper finds out.
"""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from privd import durable
from protocol.names import AgentName
from protocol.privd import Power
from protocol.problem import Problem, Refused
from protocol.settings import AgentSettings

RECORD_NAME = "agent.json"
HIGHEST_NAME = "highest_range"


class AgentRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """One agent as privd keeps it. `kept` is a destroyed agent whose state is still there."""

    agent: AgentName
    uid_base: Annotated[int, Meta(ge=0)]
    created_ms: int
    settings: AgentSettings
    wanted: bool = False
    """Whether the cage should be running."""
    rebuilding: bool = False
    """Whether it is being made anew: what privd's own end interrupts, it does again when it comes back."""
    kept: bool = False
    draft: bool = False
    """Whether it has folders and a proposed configuration, and no cage yet."""
    since_ms: int = 0


class RegistryFault(Exception):
    """A record that cannot be read; the text names the file and what to do."""


class Registry:
    """All records, in memory and on disk alike."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records: dict[str, AgentRecord] = {}

    def load(self) -> None:
        """Read every record. A broken one is a RegistryFault: guessing at a uid range would break isolation."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._folder.glob(f"*/{RECORD_NAME}")):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=AgentRecord)
            except (OSError, msgspec.DecodeError) as error:
                raise RegistryFault(f"{path}: {error}; restore it, or move its folder away") from error
            if record.agent != path.parent.name:
                raise RegistryFault(
                    f"{path}: is the record of {record.agent!r}; move it back to that agent's folder"
                )
            self._records[record.agent] = record

    def all(self) -> tuple[AgentRecord, ...]:
        return tuple(self._records[name] for name in sorted(self._records))

    def get(self, agent: str) -> AgentRecord | None:
        return self._records.get(agent)

    def folder(self, agent: str) -> Path:
        """Where privd keeps its own files about an agent."""
        return self._folder / agent

    def put(self, record: AgentRecord) -> None:
        """Write a record durably."""
        folder = self.folder(record.agent)
        folder.mkdir(mode=0o700, exist_ok=True)
        durable.write(folder / RECORD_NAME, msgspec.json.format(msgspec.json.encode(record)))
        self._records[record.agent] = record

    def forget(self, agent: str) -> None:
        """Remove a record; the rest of the folder is the keeper's to delete. Its uid range is remembered."""
        record = self._records.get(agent)
        if record is not None and record.uid_base > self._highest():
            durable.write(self._folder / HIGHEST_NAME, str(record.uid_base).encode())
        (self.folder(agent) / RECORD_NAME).unlink(missing_ok=True)
        self._records.pop(agent, None)

    def ranges(self) -> set[int]:
        """The uid ranges that are taken, and the highest that ever was.

        An agent that is gone may have left files in the shared folder: who came next into its range would own them.
        """
        return {*(record.uid_base for record in self._records.values()), self._highest()}

    def _highest(self) -> int:
        """Of the agents that are gone; 0 when none is."""
        try:
            return int((self._folder / HIGHEST_NAME).read_text())
        except FileNotFoundError:
            return 0


def check_has_cage(record: AgentRecord) -> None:
    """Refuse to act on a cage where there is none."""
    if record.kept:
        raise Refused(
            Problem.CONFLICT,
            f"{record.agent} was destroyed and its state is kept: create it again, or purge it",
        )
    if record.draft:
        raise Refused(
            Problem.CONFLICT,
            f"{record.agent} is a draft: its configuration must be approved before it has a cage",
        )


def resting(record: AgentRecord) -> Power:
    """What an agent is while nothing of it runs."""
    if record.kept:
        return Power.KEPT
    return Power.DRAFT if record.draft else Power.STOPPED
