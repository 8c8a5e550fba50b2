"""A box that systemd starts for us: one call of its socket is one box, a unit `hive-box@….service`.

    privd      connects to <run>/privd/box.sock, hands over the order and the box's descriptors
    the unit   runs boxing.py, which makes the box, waits for it, and says over the call how it ended

So privd needs no power over users, mounts and namespaces. A call that ends early, by whichever end, ends the box.
"""

import os
import signal
import socket
from pathlib import Path
from typing import Final

import trio

from privd.cages.spec import Exit, How
from protocol.problem import Problem, Refused

SOCKET_NAME: Final = "box.sock"
TOLD_BYTES_MAX: Final = 16


class BoxUnit:
    """One box, known by its call; what `Process` is for a child."""

    pid: None = None

    def __init__(self, call: socket.socket) -> None:
        self._call = call
        self._exit: Exit | None = None

    def send(self, _: signal.Signals) -> None:
        """End it: whichever signal is meant, it is the end of the call."""
        try:
            self._call.shutdown(socket.SHUT_WR)
        except OSError:  # it has ended
            return

    async def ended(self) -> None:
        """Return when it has ended, or nobody is left to say so."""
        if self._exit is None:
            await trio.lowlevel.wait_readable(self._call)
            told = self._told()
            self._exit = Exit(How.EXIT, int(told)) if told.isdecimal() else Exit(How.UNKNOWN)

    def exit(self) -> Exit | None:
        return self._exit

    def close(self) -> None:
        self._call.close()

    def _told(self) -> str:
        try:
            return self._call.recv(TOLD_BYTES_MAX).decode("ascii", "replace")
        except OSError:
            return ""


def call(place: Path, order: bytes, handed: dict[int, int]) -> BoxUnit:
    """Have a box made. `handed` are its descriptors by number, from 0 without a gap. May be Refused(failed)."""
    calling = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        calling.connect(os.fspath(place))
        socket.send_fds(calling, [order], [handed[number] for number in sorted(handed)])
        calling.setblocking(False)
    except OSError as error:
        calling.close()
        raise Refused(
            Problem.FAILED,
            f"{place}: no box to be had: {error.strerror}; see systemctl status hive-box.socket",
        ) from error
    return BoxUnit(calling)
