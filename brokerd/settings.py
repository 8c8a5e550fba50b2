"""brokerd's settings: where its databases and the hive's sockets are, and who is the operator."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from brokerd.policy.guards import Guards
from brokerd.policy.retention import Retention
from protocol.limits import INTEGER_MAX
from runtime.settings import AbsolutePath, LogLevel, Uid


class BrokerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that brokerd is told at its start. What it knows of agents comes from privd."""

    state: AbsolutePath
    """brokerd's own folder, with broker.sqlite and events.sqlite."""
    run: AbsolutePath
    """The hive's runtime folder."""
    swarm_socket: AbsolutePath | None = None
    """privd's socket for brokerd; None takes its usual place below `run`."""
    web_uid: Uid | None = None
    operator_uids: tuple[Uid, ...] = (0,)
    admin_gid: Uid | None = None
    """Members of this group are operators too; the operator's socket belongs to it."""
    reserve_bytes: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] | None = None
    """When the disk has less than this left, nothing new is stored (`storage_full`), while what runs is still settled.

    Unless set: 256 MiB, or an eighth of a file system that is smaller than 2 GiB.
    """
    databases_bytes_max: Annotated[int, Meta(ge=1024 * 1024, le=INTEGER_MAX)] = 16 * 1024 * 1024 * 1024
    """What the databases may hold together; past it, nothing new is stored."""
    backups_kept: Annotated[int, Meta(ge=0, le=100)] = 7
    """The newest backups that are kept. One is made each night; 0 makes and removes none."""
    guards: Guards = Guards()
    retention: Retention = Retention()
    log_level: LogLevel = "info"

    @property
    def operators(self) -> frozenset[int]:
        """The uids that act for the operator, beside root."""
        return frozenset({*self.operator_uids, *(() if self.web_uid is None else (self.web_uid,))})

    @property
    def database(self) -> Path:
        return Path(self.state) / "broker.sqlite"

    @property
    def events_database(self) -> Path:
        return Path(self.state) / "events.sqlite"

    @property
    def operator_socket(self) -> Path:
        return Path(self.run) / "brokerd" / "operator.sock"

    @property
    def swarm(self) -> Path:
        return Path(self.swarm_socket or f"{self.run}/privd/swarm.sock")

    def agent_socket(self, agent: str) -> Path:
        return Path(self.run) / "agents" / agent / "broker" / "broker.sock"
