"""Getting the port: tried for ever, because whoever holds it now may be gone in a moment, and never silently.

A previous process's socket can hold the port for longer than any patience that one would choose, so there is none. What
is true in the meantime can be asked (`PortState`) and is shown by `hivectl up`, `hivectl status` and `Hello`.
"""

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from runtime.backoff import delays
from runtime.log import Log

RETRY_FIRST_S: Final = 0.05
RETRY_MAX_S: Final = 2.0
LOUD_ATTEMPTS: Final = 12
"""So many failures are warnings; a longer hold is only noted, so that it does not flood the journal."""
BACKLOG: Final = 512
_PASSING: Final = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})
"""What time may mend: a socket left behind, a network that is not up yet."""
_LISTENING: Final = "0A"
_TABLES: Final = ("tcp", "tcp6")

Bind = Callable[[str, int], socket.socket]


class PortFault(Exception):
    """The port can never be ours; the text is for the operator."""


@dataclass
class PortState:
    """Where we stand with the port."""

    attempts: int = 0
    conflict: str | None = None
    """Who holds it, while somebody does."""
    ready: trio.Event = field(default_factory=trio.Event)
    """Set once it is ours."""


def bind_port(host: str, port: int) -> socket.socket:
    """Listen at *host* and *port*. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


async def take_port(
    host: str, port: int, state: PortState, log: Log, bind: Bind = bind_port
) -> trio.SocketListener:
    """Listen, however long it takes while somebody else does. PortFault when it is not a matter of time."""
    for wait_s in delays(RETRY_FIRST_S, RETRY_MAX_S):
        try:
            listener = bind(host, port)
        except OSError as error:
            if error.errno not in _PASSING:
                raise PortFault(f"cannot listen at {host}:{port}: {error.strerror}") from error
            _held(host, port, error, state, log, wait_s)
        else:
            if state.attempts:
                log.info("the port is ours", port=port, attempts=state.attempts + 1)
            state.conflict = None
            state.ready.set()
            return trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        await trio.sleep(wait_s)
    raise AssertionError("delays never end")


def take_given(listener: trio.SocketListener, port: int, state: PortState) -> trio.SocketListener:
    """A socket that the service manager handed over. PortFault when it is at another port than links lead to."""
    if listener.socket.family in (socket.AF_INET, socket.AF_INET6):
        at = listener.socket.getsockname()[1]
        if at != port:
            raise PortFault(
                f"the socket handed over listens at port {at}, the settings say {port}: make them one"
            )
    state.ready.set()
    return listener


def _held(host: str, port: int, error: OSError, state: PortState, log: Log, wait_s: float) -> None:
    state.attempts += 1
    if state.conflict is None or state.attempts % LOUD_ATTEMPTS == 0:
        state.conflict = _conflict(host, port, error)
    say = log.warning if state.attempts <= LOUD_ATTEMPTS else log.info
    say("the port is not to be had", why=state.conflict, attempt=state.attempts, again_in_s=round(wait_s, 2))


def _conflict(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; trying again until it is"
    return f"port {port} is held by {holder_of(port) or 'another process'}; trying again until it is free"


def holder_of(port: int, proc: Path = Path("/proc")) -> str | None:
    """Which process listens at *port*, as far as we may see: its pid and name. None when we may not."""
    inodes = _listening_inodes(port, proc)
    if not inodes:
        return None
    for process in proc.iterdir():
        if process.name.isdigit() and _holds(process, inodes):
            return f"process {process.name} ({_name_of(process)})"
    return None


def _listening_inodes(port: int, proc: Path) -> frozenset[str]:
    found = set()
    for table in _TABLES:
        try:
            rows = (proc / "net" / table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue  # a kernel without IPv6 has no such table
        for row in rows:
            columns = row.split()
            if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{columns[9]}]")
    return frozenset(found)


def _holds(process: Path, inodes: frozenset[str]) -> bool:
    try:
        return any(_target(entry) in inodes for entry in (process / "fd").iterdir())
    except OSError:
        return False  # not ours to look into, or gone


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""


def _name_of(process: Path) -> str:
    try:
        return (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "gone"
