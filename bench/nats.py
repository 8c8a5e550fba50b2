"""NATS JetStream as a reference: file storage as it is shipped, which syncs every two minutes: less durable than ours.

NATS listens on TCP only; both ends are on the loopback. An ack asks for its own answer, as ours has one.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.measure import PAYLOAD
from bench.processes import free_port, serving, skip
from bench.ways import Exchange, Steps, Way, lines
from runtime.clock import new_key

CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":false,"lang":"bench","version":"1"}\r\n'
TAKE_NS = 60_000_000_000


class JetStream(Way):
    """A stream for each pair with a durable pull consumer."""

    name = "NATS JetStream, as shipped"

    def __init__(self, port: int) -> None:
        self._port = port
        self._inboxes: dict[tuple[int, bool], str] = {}

    def sender(self, pair: int) -> int:
        return self._port

    def greet(self, pair: int, *, sends: bool) -> list[Exchange]:
        # Fresh for each connection: the server may still answer what an earlier one asked.
        inbox = self._inboxes[pair, sends] = f"_I.{new_key()}"
        begin = Exchange(CONNECT + f"SUB {inbox} 1\r\nPING\r\n".encode(), lines(2))
        if sends:
            return [begin]
        stream = {"name": f"S{pair}", "subjects": [f"pair.{pair}"], "storage": "file", "retention": "limits"}
        consumer = {
            "stream_name": f"S{pair}",
            "config": {"durable_name": "c", "ack_policy": "explicit", "deliver_policy": "new"},
        }
        return [
            begin,
            _ask(f"$JS.API.STREAM.DELETE.S{pair}", inbox, b""),
            _ask(f"$JS.API.STREAM.CREATE.S{pair}", inbox, json.dumps(stream).encode()),
            _ask(f"$JS.API.CONSUMER.DURABLE.CREATE.S{pair}.c", inbox, json.dumps(consumer).encode()),
        ]

    def send(self, pair: int) -> Exchange:
        return _ask(f"pair.{pair}", self._inboxes[pair, True], PAYLOAD.encode())

    def take(self, pair: int) -> Steps:
        wanted = json.dumps({"batch": 1, "expires": TAKE_NS}).encode()
        return (yield _ask(f"$JS.API.CONSUMER.MSG.NEXT.S{pair}.c", self._inboxes[pair, False], wanted))

    def settle(self, pair: int, taken: bytes) -> Steps:
        ack = taken.split(b" ", 4)[3].decode()
        return (yield _ask(ack, self._inboxes[pair, False], b"+ACK"))

    def is_refusal(self, heard: bytes) -> bool:
        return heard.startswith(b"-ERR") or (b'"err_code"' in heard and b"10059" not in heard)


def _ask(subject: str, inbox: str, body: bytes) -> Exchange:
    return Exchange(f"PUB {subject} {inbox} {len(body)}\r\n".encode() + body + b"\r\n", _is_message())


def _is_message() -> Callable[[bytes], bool]:
    """One MSG: a line, and a payload that ends in a line break."""
    return lines(2)


def program() -> str | None:
    return shutil.which("nats-server", path="/usr/sbin:/usr/bin")


def start(servers: ExitStack, run: Path, state: Path) -> Way | None:
    """A server of our own; None when there is none."""
    command = program()
    if command is None:
        skip("NATS", "nats-server is not installed")
        return None
    port = free_port()
    config = run / "nats.conf"
    config.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{state}" }}\n')
    servers.enter_context(serving(command, "-c", config, ready=port, log=run / "nats.log"))
    return JetStream(port)
