"""RabbitMQ as a reference: a durable queue for each pair, persistent messages, publisher confirms, prefetch of one.

The consumer's ack has no answer in AMQP, so a cycle of RabbitMQ does a little less than ours.
"""

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.measure import PAYLOAD
from bench.processes import free_port, serving, skip
from bench.ways import Exchange, Steps, Way

METHOD, HEADER, BODY = 1, 2, 3
END = b"\xce"
START, TUNE, OPENED = (10, 10), (10, 30), (10, 41)
CHANNEL_OPENED, CONFIRMING = (20, 11), (85, 11)
DELETED, DECLARED, LIMITED, CONSUMING = (50, 41), (50, 11), (60, 11), (60, 21)
CONFIRMED, DELIVER = (60, 80), (60, 60)
HEADER_BYTES = 7
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def short(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def frame(kind: int, channel: int, content: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(content)) + content + END


def method(channel: int, class_: int, number: int, content: bytes = b"") -> bytes:
    return frame(METHOD, channel, struct.pack(">HH", class_, number) + content)


def frames(heard: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole frames in what was heard: kind and content."""
    at = 0
    while at + HEADER_BYTES <= len(heard):
        kind, _, length = struct.unpack_from(">BHI", heard, at)
        if at + HEADER_BYTES + length + 1 > len(heard):
            return
        yield kind, heard[at + HEADER_BYTES : at + HEADER_BYTES + length]
        at += HEADER_BYTES + length + 1


def has(wanted: tuple[int, int]) -> Callable[[bytes], bool]:
    start = struct.pack(">HH", *wanted)
    return lambda heard: any(kind == METHOD and content.startswith(start) for kind, content in frames(heard))


def has_body(heard: bytes) -> bool:
    return any(kind == BODY for kind, _ in frames(heard))


class RabbitMQ(Way):
    """Over TCP on the loopback: it has no unix socket."""

    name = "RabbitMQ, durable"

    def __init__(self, port: int) -> None:
        self._port = port

    def sender(self, pair: int) -> int:
        return self._port

    def greet(self, pair: int, *, sends: bool) -> list[Exchange]:
        login = (
            struct.pack(">I", 0) + short("PLAIN") + struct.pack(">I", 12) + b"\0guest\0guest" + short("en_US")
        )
        tune = method(0, 10, 31, struct.pack(">HIH", 2047, 131_072, 0))
        begin = [
            Exchange(b"AMQP\0\0\x09\x01", has(START)),
            Exchange(method(0, 10, 11, login), has(TUNE)),
            Exchange(tune + method(0, 10, 40, short("/") + short("") + b"\0"), has(OPENED)),
            Exchange(method(1, 20, 10, short("")), has(CHANNEL_OPENED)),
        ]
        if sends:
            return [*begin, Exchange(method(1, 85, 10, b"\0"), has(CONFIRMING))]
        queue, table = b"\0\0" + short(f"q{pair}"), struct.pack(">I", 0)
        return [
            *begin,
            Exchange(method(1, 50, 40, queue + b"\0"), has(DELETED)),
            Exchange(method(1, 50, 10, queue + b"\x02" + table), has(DECLARED)),
            Exchange(method(1, 60, 10, struct.pack(">IHB", 0, 1, 0)), has(LIMITED)),
            Exchange(method(1, 60, 20, queue + short("") + b"\0" + table), has(CONSUMING)),
        ]

    def send(self, pair: int) -> Exchange:
        body = PAYLOAD.encode()
        publish = method(1, 60, 40, b"\0\0" + short("") + short(f"q{pair}") + b"\0")
        header = frame(HEADER, 1, struct.pack(">HHQHB", 60, 0, len(body), 0x1000, 2))
        return Exchange(publish + header + frame(BODY, 1, body), has(CONFIRMED))

    def take(self, pair: int) -> Steps:
        return (yield Exchange(b"", has_body))

    def settle(self, pair: int, taken: bytes) -> Steps:
        deliver = next(content for kind, content in frames(taken) if kind == METHOD)
        at = 5 + deliver[4]
        return (yield Exchange(method(1, 60, 80, deliver[at : at + 8] + b"\0"), lambda _: True))

    def is_refusal(self, heard: bytes) -> bool:
        return has((20, 40))(heard) or has((10, 50))(heard)


def start(servers: ExitStack, run: Path, state: Path) -> Way | None:
    """A node of our own with its own port mapper, so that nothing of it stays; None when there is none."""
    if not SERVER.exists():
        skip("RabbitMQ", "rabbitmq-server is not installed")
        return None
    port, mapper, distribution = free_port(), free_port(), free_port()
    home = {
        "HOME": state,
        "ERL_EPMD_PORT": mapper,
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_NODE_PORT": port,
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": distribution,
        "RABBITMQ_MNESIA_BASE": state / "mnesia",
        "RABBITMQ_LOG_BASE": state / "log",
        "RABBITMQ_CONFIG_FILE": state / "none",
        "RABBITMQ_ENABLED_PLUGINS_FILE": state / "plugins",
        "RABBITMQ_PID_FILE": state / "pid",
    }
    given = ["/usr/bin/env", *(f"{name}={value}" for name, value in home.items())]
    epmd = shutil.which("epmd") or "epmd"
    servers.enter_context(
        serving(epmd, "-port", str(mapper), "-address", "127.0.0.1", ready=mapper, log=Path(os.devnull))
    )
    servers.enter_context(serving(*given, SERVER, ready=port, log=run / "rabbitmq.log"))
    return RabbitMQ(port)
