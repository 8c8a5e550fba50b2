"""brokerd's settings: where its databases and the hive's sockets are, and who is the operator."""

from pathlib import Path

from msgspec import Struct

from brokerd.policy.guards import Guards
from brokerd.policy.retention import Retention
from brokerd.policy.room import Storage
from runtime.settings import AbsolutePath, LogLevel, Uid


class BrokerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that brokerd is told at its start. What it knows of agents comes from privd."""

    state: AbsolutePath
    """brokerd's own folder, with broker.sqlite and events.sqlite."""
    run: AbsolutePath
    """The hive's runtime folder."""
    swarm_socket: AbsolutePath | None = None
    """privd's socket for brokerd; None takes its usual place below `run`."""
    egress_socket: AbsolutePath | None = None
    """egressd's socket for brokerd; None takes its usual place below `run`."""
    web_uid: Uid | None = None
    operator_uids: tuple[Uid, ...] = (0,)
    admin_gid: Uid | None = None
    """Members of this group are operators too; the operator's socket belongs to it."""
    storage: Storage = Storage()
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

    @property
    def egress(self) -> Path:
        return Path(self.egress_socket or f"{self.run}/egressd/swarm.sock")

    def agent_socket(self, agent: str) -> Path:
        return Path(self.run) / "agents" / agent / "broker" / "broker.sock"
