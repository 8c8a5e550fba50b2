"""One egress socket for each cage, in the folder that privd made for it: opened and removed as cages come and go."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import trio

from egressd.policy.admission import cage_uids
from egressd.policy.scope import Scope, scope_of
from egressd.policy.target import Target
from egressd.proxy import Gate, Visit, refusal_at_the_door
from protocol.limits import EGRESS_CONNECTIONS_MAX
from protocol.privd import (
    AnyCageEvent,
    Cage,
    CageChanged,
    CageCrashed,
    CageGone,
    CageRebuilt,
    CagesNow,
    Power,
)
from protocol.rpc import Caller, Role
from protocol.settings import AgentRole
from runtime.backoff import delays
from runtime.service import Listening, Service
from runtime.sockets import Ownership, SocketFault, bind_unix

SOCKET_MODE: Final = 0o666
"""Who may connect is decided by uid; the cage's users have no group in common with us."""
RETRY_FIRST_S: Final = 0.05
RETRY_MAX_S: Final = 5.0


class Door:
    """One cage's socket. It retries while its folder is not there yet."""

    def __init__(self, path: Path, cage: Cage, gate: Gate, service: Service) -> None:
        self.gate = gate
        self.uids = cage_uids(cage)
        self._path = path
        self._service = service
        self._role = Role.MANAGER if cage.settings.role is AgentRole.MANAGER else Role.AGENT
        self._scope = trio.CancelScope()
        self._inode: tuple[int, int] | None = None
        self._listening = Listening(
            self._visit,
            self._admit,
            refusal_at_the_door,
            connections_max=EGRESS_CONNECTIONS_MAX,
            connections_per_uid_max=EGRESS_CONNECTIONS_MAX,
        )
        service.start_background(self._open, name=f"door:{gate.agent}")

    def stands(self, cage: Cage) -> bool:
        """Whether this is still the way out of that cage: its uids, and the socket that is found at its path."""
        return self.uids == cage_uids(cage) and self._inode in (None, _inode(self._path))

    def close(self) -> None:
        """End the connections and take the socket away."""
        self._scope.cancel()
        self._listening.close()
        if self._inode is not None and _inode(self._path) == self._inode:
            self._path.unlink()

    async def _open(self) -> None:
        log = self._service.log
        with self._scope:
            await trio.lowlevel.checkpoint()  # a door that was closed at once must not open
            for wait_s in delays(RETRY_FIRST_S, RETRY_MAX_S):
                try:
                    listener = bind_unix(self._path, Ownership(SOCKET_MODE))
                except SocketFault as fault:
                    log.warning("no egress socket yet", agent=self.gate.agent, reason=str(fault))
                    await trio.sleep(wait_s)
                    continue
                self._inode = _inode(self._path)
                self._service.accept(listener, self._listening)
                log.info("egress socket open", agent=self.gate.agent)
                return

    def _admit(self, uid: int) -> Caller | None:
        return Caller(self._role, uid, self.gate.agent) if uid in self.uids else None

    async def _visit(self, stream: trio.SocketStream, caller: Caller) -> None:
        await Visit(stream, self.gate, self._service.log.bind(uid=caller.uid)).serve(self._service.stopping)


class Doors:
    """Every cage's door."""

    def __init__(self, agents: Path, hive: Scope, private: frozenset[Target], service: Service) -> None:
        self._agents = agents
        self._hive = hive
        self._private = private
        self._service = service
        self._doors: dict[str, Door] = {}

    def apply(self, event: AnyCageEvent) -> None:
        """Follow what privd says of cages."""
        match event:
            case CagesNow(cages):
                self._close_all_but({cage.agent for cage in cages})
                for cage in cages:
                    self._follow(cage)
            case CageChanged(cage):
                self._follow(cage)
            case CageGone(agent):
                self._close(agent)
            case CageCrashed() | CageRebuilt():
                pass  # a CageChanged says what becomes of it

    def close(self) -> None:
        self._close_all_but(())

    def _follow(self, cage: Cage) -> None:
        if cage.power is Power.KEPT:
            self._close(cage.agent)
            return
        own = self._scope(cage)
        door = self._doors.get(cage.agent)
        if door is not None and not door.stands(cage):
            self._close(cage.agent)
            door = None
        if door is not None:
            door.gate.change(own)
            return
        gate = Gate(cage.agent, own, self._hive, self._private)
        path = self._agents / cage.agent / "egress" / "egress.sock"
        self._doors[cage.agent] = Door(path, cage, gate, self._service)

    def _scope(self, cage: Cage) -> Scope:
        scope, faults = scope_of(cage.settings.egress_hosts)
        for fault in faults:
            self._service.log.warning("an egress host that can never match", agent=cage.agent, entry=fault)
        return scope

    def _close_all_but(self, agents: Iterable[str]) -> None:
        for agent in self._doors.keys() - set(agents):
            self._close(agent)

    def _close(self, agent: str) -> None:
        door = self._doors.pop(agent, None)
        if door is not None:
            door.close()
            self._service.log.info("egress socket closed", agent=agent)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
