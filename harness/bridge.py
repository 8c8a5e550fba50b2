"""The stdio side of the hive's MCP server: what the agent CLI starts, joined to the harness's unix socket.

    python -I -m harness.bridge SOCKET

Standard library only, because it starts once a turn: bytes in are bytes out, and no message is understood here.
The end of the CLI's stdin ends it; so does the end of the harness.
"""

import os
import signal
import socket
import sys
import threading
import time
from typing import Final

COPY_BYTES_MAX: Final = 64 * 1024
LAST_ANSWER_S: Final = 2.0
"""How long answers may still come after the CLI has closed our stdin."""
USAGE: Final = 2
UNREACHABLE: Final = 1


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -I -m harness.bridge SOCKET\n")
        return USAGE
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a cancelled turn interrupts the whole group; the CLI ends us
    harness = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        harness.connect(arguments[0])
    except OSError as error:
        sys.stderr.write(f"the harness does not answer at {arguments[0]}: {error.strerror}\n")
        return UNREACHABLE
    threading.Thread(target=copy_in, args=(harness,), daemon=True).start()
    copy_out(harness)
    return 0


def copy_in(harness: socket.socket) -> None:
    """Carry what the CLI writes; at its end, tell the harness and give it a moment for its last answer."""
    try:
        while data := os.read(0, COPY_BYTES_MAX):
            harness.sendall(data)
        harness.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the harness is gone: `copy_out` sees the same and ends the process
    time.sleep(LAST_ANSWER_S)
    os._exit(0)  # `copy_out` waits in a recv that nothing else interrupts


def copy_out(harness: socket.socket) -> None:
    """Carry what the harness answers until it, or the CLI, is gone."""
    try:
        while data := harness.recv(COPY_BYTES_MAX):
            write_all(data)
    except OSError as error:
        if not isinstance(error, (BrokenPipeError, ConnectionResetError)):
            sys.stderr.write(f"the harness was lost: {error}\n")


def write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
