"""A reference: the same bytes for every line, by an epoll loop in Python without a framework."""

import selectors
import socket
import sys
from pathlib import Path


def main() -> None:
    """Serve for ever."""
    path, answer = sys.argv[1], Path(sys.argv[2]).read_bytes()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(512)
    poll = selectors.EpollSelector()
    poll.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in poll.select():
            stream = key.fileobj
            assert isinstance(stream, socket.socket)
            if stream is listener:
                accepted, _ = listener.accept()
                accepted.setblocking(False)
                poll.register(accepted, selectors.EVENT_READ)
                continue
            if not answered(stream, answer):
                poll.unregister(stream)
                stream.close()


def answered(stream: socket.socket, answer: bytes) -> bool:
    """False when the peer is gone."""
    try:
        data = stream.recv(65536)
        stream.send(answer * data.count(b"\n"))
    except OSError:
        return False
    return bool(data)


if __name__ == "__main__":
    main()
