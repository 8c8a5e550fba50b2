"""The sockets of each cage, in the folder that privd made for it: opened and removed as cages come and go."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import trio

from egressd.gate import Gate
from egressd.model import ModelApis, ModelVisit, model_refusal_at_the_door
from egressd.policy.admission import cage_uids
from egressd.policy.scope import Scope, scope_of
from egressd.policy.target import Target
from egressd.policy.volume import Ledger
from egressd.proxy import Visit, refusal_at_the_door
from egressd.refusals import Refusals
from protocol.egressd import Refusal
from protocol.limits import EGRESS_CONNECTIONS_MAX
from protocol.privd import (
    AnyCageEvent,
    Cage,
    CageChanged,
    CageCrashed,
    CageGone,
    CageLimitHit,
    CageRebuilt,
    CagesNow,
    Power,
)
from protocol.problem import Refused
from protocol.rpc import Caller, Role
from protocol.settings import AgentRole, Credential
from runtime.backoff import delays
from runtime.listening import TURNED_AWAY_PAUSE_S, Listening, Serve, TurnAway
from runtime.log import Log
from runtime.service import Service
from runtime.sockets import Inode, Ownership, SocketFault, bind_unix, inode_of, unbind

SOCKET_MODE: Final = 0o666
"""Who may connect is decided by uid; the cage's users have no group in common with us."""
RETRY_FIRST_S: Final = 0.05
RETRY_MAX_S: Final = 5.0


class Door:
    """One socket of one cage. It retries while its folder is not there yet."""

    def __init__(self, path: Path, cage: Cage, serve: Serve, turn_away: TurnAway, service: Service) -> None:
        self.uids = cage_uids(cage)
        self._path = path
        self._agent = cage.agent
        self._service = service
        self._role = Role.MANAGER if cage.settings.role is AgentRole.MANAGER else Role.AGENT
        self._scope = trio.CancelScope()
        self._inode: Inode | None = None
        self._listening = Listening(
            serve,
            self._admit,
            turn_away,
            connections_max=EGRESS_CONNECTIONS_MAX,
            connections_per_uid_max=EGRESS_CONNECTIONS_MAX,
            turned_away_pause_s=TURNED_AWAY_PAUSE_S,
        )
        service.start_background(self._open, name=f"door:{cage.agent}:{path.stem}")

    def stands(self, cage: Cage) -> bool:
        """Whether this is still a way out of that cage: its uids, and the socket that is found at its path."""
        return self.uids == cage_uids(cage) and self._inode in (None, inode_of(self._path))

    def close(self) -> None:
        """End the connections and take the socket away."""
        self._scope.cancel()
        self._listening.close()
        unbind(self._path, self._inode)

    async def _open(self) -> None:
        log = self._service.log.bind(agent=self._agent, socket=self._path.name)
        with self._scope:
            await trio.lowlevel.checkpoint()  # a door that was closed at once must not open
            for wait_s in delays(RETRY_FIRST_S, RETRY_MAX_S):
                try:
                    listener = bind_unix(self._path, Ownership(SOCKET_MODE))
                except SocketFault as fault:
                    log.warning("no egress socket yet", reason=str(fault))
                    await trio.sleep(wait_s)
                    continue
                self._inode = inode_of(self._path)
                self._service.accept(listener, self._listening)
                log.info("egress socket open")
                return

    def _admit(self, uid: int) -> Caller | None:
        return Caller(self._role, uid, self._agent) if uid in self.uids else None


class Ways:
    """One cage's ways out: the proxy, and the model socket while its settings leave the credential to us."""

    def __init__(self, folder: Path, gate: Gate, apis: ModelApis, service: Service) -> None:
        self.gate = gate
        self._folder = folder
        self._apis = apis
        self._service = service
        self._proxy: Door | None = None
        self._model: Door | None = None

    def follow(self, cage: Cage) -> None:
        """Open what the cage should have, close what it should not have any more."""
        self._proxy = self._keep(self._proxy, cage, "egress.sock", self._visit, refusal_at_the_door)
        if cage.settings.credential is Credential.EGRESS:
            self._model = self._keep(
                self._model, cage, "model.sock", self._visit_model, model_refusal_at_the_door
            )
        elif self._model is not None:
            self._model.close()
            self._model = None

    def close(self) -> None:
        for door in (self._proxy, self._model):
            if door is not None:
                door.close()

    def _keep(self, door: Door | None, cage: Cage, name: str, serve: Serve, words: TurnAway) -> Door:
        if door is not None and door.stands(cage):
            return door
        if door is not None:
            door.close()

        def turn_away(refused: Refused) -> bytes:
            self.gate.note(Refusal.CONNECTIONS)
            return words(refused)

        return Door(self._folder / name, cage, serve, turn_away, self._service)

    async def _visit(self, stream: trio.SocketStream, caller: Caller) -> None:
        await Visit(stream, self.gate, self._log(caller)).serve(self._service.stopping)

    async def _visit_model(self, stream: trio.SocketStream, caller: Caller) -> None:
        visit = ModelVisit(stream, self.gate, self._apis, self._log(caller))
        await visit.serve(self._service.stopping)

    def _log(self, caller: Caller) -> Log:
        return self._service.log.bind(uid=caller.uid)


class Doors:
    """Every cage's ways out."""

    def __init__(
        self,
        agents: Path,
        hive: Scope,
        private: frozenset[Target],
        apis: ModelApis,
        refusals: Refusals,
        service: Service,
    ) -> None:
        self._agents = agents
        self._hive = hive
        self._private = private
        self._apis = apis
        self._refusals = refusals
        self._service = service
        self._ways: dict[str, Ways] = {}
        self._ledgers: dict[str, Ledger] = {}
        """Of every agent there is, so that neither new settings nor a new cage begin a new hour."""

    def apply(self, event: AnyCageEvent) -> None:
        """Follow what privd says of cages."""
        match event:
            case CagesNow(cages):
                names = {cage.agent for cage in cages}
                self._close_all_but(names)
                self._ledgers = {name: each for name, each in self._ledgers.items() if name in names}
                for cage in cages:
                    self._follow(cage)
            case CageChanged(cage):
                self._follow(cage)
            case CageGone(agent):
                self._close(agent)
                self._ledgers.pop(agent, None)
            case CageCrashed() | CageRebuilt() | CageLimitHit():
                pass  # a CageChanged says what becomes of it

    def close(self) -> None:
        self._close_all_but(())

    def _follow(self, cage: Cage) -> None:
        if cage.power is Power.KEPT:
            self._close(cage.agent)
            return
        ways = self._ways.get(cage.agent)
        if ways is None:
            gate = Gate(
                cage.agent,
                Scope(),
                Scope(),
                self._private,
                self._refusals,
                self._ledgers.setdefault(cage.agent, Ledger()),
            )
            folder = self._agents / cage.agent / "egress"
            ways = self._ways[cage.agent] = Ways(folder, gate, self._apis, self._service)
        settings = cage.settings
        # A tunnel to the model API would carry a key that nobody gave it, and what else it likes to whose key that is.
        hive = self._hive if settings.credential is Credential.CAGE else Scope()
        ways.gate.change(self._scope(cage), hive, settings.egress_limits, settings.account)
        ways.follow(cage)

    def _scope(self, cage: Cage) -> Scope:
        scope, faults = scope_of(cage.settings.egress_hosts)
        for fault in faults:
            self._service.log.warning("an egress host that can never match", agent=cage.agent, entry=fault)
        return scope

    def _close_all_but(self, agents: Iterable[str]) -> None:
        for agent in self._ways.keys() - set(agents):
            self._close(agent)

    def _close(self, agent: str) -> None:
        ways = self._ways.pop(agent, None)
        if ways is not None:
            ways.close()
            self._service.log.info("egress sockets closed", agent=agent)
