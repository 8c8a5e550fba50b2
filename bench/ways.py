"""What a sender and a receiver say to a broker: brokerd, or Redis streams. Bytes only, no sockets.

An exchange is a request and the number of lines its answer has. `settle` is a generator: it yields exchanges and is
sent their answers, because what is said next depends on them.
"""

import json
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.measure import PAYLOAD
from bench.redis import command
from runtime.clock import new_key


class Exchange(NamedTuple):
    """A request, and how many lines its answer has."""

    request: bytes
    lines: int


class Way(Protocol):
    """One broker: where its two ends are, and what is said there."""

    name: str

    def sender(self, pair: int) -> Path: ...
    def receiver(self, pair: int) -> Path: ...
    def greet(self, pair: int) -> list[Exchange]: ...
    def send(self, pair: int) -> Exchange: ...
    def take(self, pair: int) -> Exchange: ...
    def settle(self, pair: int, taken: bytes) -> Generator[Exchange, bytes, None]: ...


class Brokerd:
    """A message by the operator to an agent; its harness takes it, begins a turn and ends it, which is the ack."""

    name = "brokerd"

    def __init__(self, operator: Path, agents: Path) -> None:
        self._operator = operator
        self._agents = agents

    def sender(self, pair: int) -> Path:
        return self._operator

    def receiver(self, pair: int) -> Path:
        return self._agents / f"a{pair:02}" / "broker" / "broker.sock"

    def greet(self, pair: int) -> list[Exchange]:
        return [line({"op": "attach", "instance": new_key(), "version": "bench"})]

    def send(self, pair: int) -> Exchange:
        return line(
            {"op": "send", "to": f"a{pair:02}", "body": PAYLOAD, "key": new_key(), "in_reply_to": None}
        )

    def take(self, pair: int) -> Exchange:
        return line({"op": "take_delivery", "wait_s": 60})

    def settle(self, pair: int, taken: bytes) -> Generator[Exchange, bytes, None]:
        delivery = json.loads(taken)["ok"]["delivery"]
        begun = yield line({"op": "begin_turn", "delivery": delivery["id"], "token": delivery["token"]})
        yield line({"op": "end_turn", "turn": json.loads(begun)["ok"]["turn"], "outcome": "done"})


def line(request: dict[str, object]) -> Exchange:
    return Exchange(json.dumps(request).encode() + b"\n", 1)


class RedisStreams:
    """A stream for each pair with a consumer group of one; XACK is the ack."""

    name = "Redis streams, always"

    def __init__(self, place: Path) -> None:
        self._place = place

    def sender(self, pair: int) -> Path:
        return self._place

    def receiver(self, pair: int) -> Path:
        return self._place

    def greet(self, pair: int) -> list[Exchange]:
        stream = f"cycle{pair:02}"
        return [
            Exchange(command("DEL", stream).encode(), 1),
            Exchange(command("XGROUP", "CREATE", stream, "g", "$", "MKSTREAM").encode(), 1),
        ]

    def send(self, pair: int) -> Exchange:
        return Exchange(command("XADD", f"cycle{pair:02}", "*", "body", PAYLOAD).encode(), 2)

    def take(self, pair: int) -> Exchange:
        words = (
            "XREADGROUP",
            "GROUP",
            "g",
            "c",
            "COUNT",
            "1",
            "BLOCK",
            "60000",
            "STREAMS",
            f"cycle{pair:02}",
            ">",
        )
        return Exchange(command(*words).encode(), 13)

    def settle(self, pair: int, taken: bytes) -> Generator[Exchange, bytes, None]:
        entry = taken.split(b"\r\n")[7].decode()
        yield Exchange(command("XACK", f"cycle{pair:02}", "g", entry).encode(), 1)
