"""Listening sockets: bound with the right owner and mode before anybody can see them, and the peer's uid.

A socket appears under a temporary name, gets owner and mode, and is then renamed into place, so there is no moment
at which a stranger could connect.
"""

import os
import socket
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

PATH_BYTES_MAX: Final = 107
BACKLOG: Final = 512
_UCRED: Final = struct.Struct("3i")


class SocketFault(Exception):
    """A socket that cannot be bound; the text is for the operator."""


@dataclass(frozen=True)
class Ownership:
    """Who owns a socket and who may connect; None keeps the process's own."""

    mode: int = 0o600
    uid: int | None = None
    gid: int | None = None


def bind_unix(path: Path, ownership: Ownership = Ownership()) -> trio.SocketListener:
    """Listen at *path*. A stale socket is replaced; one that somebody still answers is a SocketFault."""
    if len(os.fsencode(path)) > PATH_BYTES_MAX - len(".new"):
        raise SocketFault(
            f"{path}: a socket's path has at most {PATH_BYTES_MAX - 4} bytes; choose a shorter --dir"
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _claim(path)
        _bind_closed(listener, path, ownership)
    except OSError as error:
        listener.close()
        raise SocketFault(f"{path}: cannot listen: {error.strerror}") from error
    except SocketFault:
        listener.close()
        raise
    listener.setblocking(False)
    return trio.SocketListener(trio.socket.from_stdlib_socket(listener))


def _claim(path: Path) -> None:
    """Raises SocketFault unless the place is free or holds a socket that nobody answers any more."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SocketFault(f"{path}: something else than a socket is in this place; remove it")
    if _is_answered(path):
        raise SocketFault(f"{path}: another process listens here; is this hive running already?")


def _bind_closed(listener: socket.socket, path: Path, ownership: Ownership) -> None:
    """Bind under another name, open to nobody, then set owner and mode, then take the place."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    # A socket's own mode counts at bind. The umask would too, but it is the whole process's: another thread may be
    # making a file at this moment.
    os.fchmod(listener.fileno(), 0)
    listener.bind(str(fresh))
    try:
        if ownership.uid is not None or ownership.gid is not None:
            os.chown(
                fresh,
                -1 if ownership.uid is None else ownership.uid,
                -1 if ownership.gid is None else ownership.gid,
            )
        fresh.chmod(ownership.mode)
        listener.listen(BACKLOG)
        fresh.rename(path)
    except OSError:
        fresh.unlink()
        raise


Inode = tuple[int, int]
"""Device and number."""


def inode_of(path: Path) -> Inode | None:
    """What is in this place; None when nothing is, or nobody may look any more."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def unbind(path: Path, bound: Inode | None) -> None:
    """Take a socket away if it is still the one that was bound there."""
    if bound is not None and inode_of(path) == bound:
        with suppress(OSError):  # root is taking the folder away at this moment, and the socket with it
            path.unlink()


def adopt_fd(fd: int) -> trio.SocketListener:
    """Serve a listening socket that the service manager made."""
    listener = socket.socket(fileno=fd)
    listener.setblocking(False)
    return trio.SocketListener(trio.socket.from_stdlib_socket(listener))


def peer_uid(stream: trio.SocketStream) -> int | None:
    """The uid that the kernel recorded for the other end when it connected; None when it recorded none."""
    raw = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    uid: int = _UCRED.unpack(raw)[1]
    return uid if uid >= 0 else None


async def receive(stream: trio.abc.ReceiveStream, bytes_max: int) -> bytes | bytearray:
    """`receive_some` for a peer whose turn it is: trio would first read in vain, and then wait for what comes."""
    if not isinstance(stream, trio.SocketStream):
        return await stream.receive_some(bytes_max)
    while True:
        fd = stream.socket.fileno()
        if fd < 0:
            raise trio.ClosedResourceError
        try:
            await trio.lowlevel.wait_readable(fd)
            return os.read(fd, bytes_max)
        except BlockingIOError:
            continue
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error


def send_at_once(stream: trio.abc.SendStream, data: bytes | memoryview) -> bytes | memoryview:
    """Send what the kernel takes at this moment, and return the rest, which `send_all` must wait for.

    No checkpoint, and so none of its cost, which is that of half a small request: whoever answers waits for the next
    question anyway.
    """
    if not isinstance(stream, trio.SocketStream):
        return data
    try:
        sent = os.write(stream.socket.fileno(), data)
    except OSError:  # a full buffer is waited for, and a peer that left is met again, by send_all
        return data
    return memoryview(data)[sent:]


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return path.is_socket()
    return True
