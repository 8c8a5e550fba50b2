"""One socket for each agent, in the folder that privd made for it, which is bound into that one cage.

Anybody who can reach it may connect; only the cage's harness, by its uid, is let in.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import trio

from brokerd.policy.admission import agent_caller
from brokerd.store.agents import Known
from protocol.limits import AGENT_CONNECTIONS_MAX
from protocol.rpc import Caller
from runtime.backoff import delays
from runtime.listening import TURNED_AWAY_PAUSE_S, Listening
from runtime.service import Service
from runtime.session import Surface
from runtime.sockets import Inode, Ownership, SocketFault, bind_unix, inode_of, unbind

SOCKET_MODE: Final = 0o666
RETRY_FIRST_S: Final = 0.05
RETRY_MAX_S: Final = 5.0


class Door:
    """One agent's socket. While its folder is not there yet, it tries again."""

    __slots__ = ("_doors", "_inode", "_listening", "_opening", "known")

    def __init__(self, known: Known, doors: "Doors") -> None:
        self.known = known
        self._doors = doors
        self._opening: trio.CancelScope | None = None
        """While it tries again."""
        self._listening: Listening | None = None
        self._inode: Inode | None = None
        try:
            self._open()
        except SocketFault as fault:
            doors.service.log.warning(
                "no socket for this agent yet; trying on", agent=known.name, reason=str(fault)
            )
            self._opening = trio.CancelScope()
            doors.service.start_background(self._try_on, self._opening, name=f"door:{known.name}")

    @property
    def _path(self) -> Path:
        """Not kept: it takes as much room as all the rest of this."""
        return self._doors.path_of(self.known.name)

    def stands(self, known: Known) -> bool:
        """Whether this is still that agent's socket: same harness, same role, and found at its path."""
        is_same = (known.harness_uid, known.settings.role) == (
            self.known.harness_uid,
            self.known.settings.role,
        )
        return is_same and self._inode in (None, inode_of(self._path))

    def close(self) -> None:
        """End the connections and take the socket away."""
        if self._opening is not None:
            self._opening.cancel()
        if self._listening is not None:
            self._listening.close()
        unbind(self._path, self._inode)

    def _open(self) -> None:
        """Raises SocketFault."""
        doors = self._doors
        listener = bind_unix(self._path, Ownership(SOCKET_MODE))
        self._inode = inode_of(self._path)
        self._listening = doors.service.listen(
            listener,
            doors.surface,
            self._admit,
            connections_max=AGENT_CONNECTIONS_MAX,
            connections_per_uid_max=AGENT_CONNECTIONS_MAX,
            turned_away_pause_s=TURNED_AWAY_PAUSE_S,
        )
        doors.service.log.info("agent's socket open", agent=self.known.name)

    async def _try_on(self, opening: trio.CancelScope) -> None:
        with opening:
            for wait_s in delays(RETRY_FIRST_S, RETRY_MAX_S):
                await trio.sleep(wait_s)
                try:
                    self._open()
                except SocketFault:  # told when it could not be opened first
                    continue
                self._opening = None
                return

    def _admit(self, uid: int) -> Caller | None:
        known = self.known
        return agent_caller(uid, agent=known.name, harness_uid=known.harness_uid, role=known.settings.role)


class Doors:
    """Every agent's door."""

    def __init__(self, service: Service, surface: Surface[Any], path_of: Callable[[str], Path]) -> None:
        self.service = service
        self.surface = surface
        self.path_of = path_of
        self._doors: dict[str, Door] = {}

    def open(self, known: Known) -> None:
        """Have a door for this agent, a new one when the old does not stand any more."""
        door = self._doors.get(known.name)
        if door is not None and door.stands(known):
            door.known = known
            return
        self.close(known.name)
        self._doors[known.name] = Door(known, self)

    def close(self, agent: str) -> None:
        door = self._doors.pop(agent, None)
        if door is not None:
            door.close()
            self.service.log.info("agent's socket closed", agent=agent)
