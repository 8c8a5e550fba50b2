"""What a sender and a receiver say to a broker. Bytes only, no sockets: the clients are the same for every broker.

An exchange is a request and how one knows that its answer is whole. `take` and `settle` are generators: they yield
exchanges and are sent their answers, because what is said next depends on them; `take` returns what was taken.
"""

import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple

from bench.measure import PAYLOAD
from bench.redis import command
from runtime.clock import new_key, new_request_key

Place = Path | int
"""A unix socket, or a port of the loopback."""


class Exchange(NamedTuple):
    """A request, and whether what was heard is the whole answer to it."""

    request: bytes
    is_whole: Callable[[bytes], bool]


Steps = Generator[Exchange, bytes, bytes]


def lines(number: int) -> Callable[[bytes], bool]:
    """An answer of so many lines."""
    return lambda heard: heard.count(b"\n") >= number


class Way:
    """One broker: where its two ends are, and what is said there."""

    name = ""
    is_slow = False
    """Whether a message takes seconds: a few say all there is to say."""

    def sender(self, pair: int) -> Place:
        raise NotImplementedError  # each broker has its own

    def receiver(self, pair: int) -> Place:
        return self.sender(pair)

    def greet(self, pair: int, *, sends: bool) -> list[Exchange]:
        """What one end says first, and what makes the queue of the pair new and empty. The receiver comes first."""
        return []

    def send(self, pair: int) -> Exchange:
        raise NotImplementedError  # each broker has its own

    def take(self, pair: int) -> Steps:
        raise NotImplementedError  # each broker has its own

    def settle(self, pair: int, taken: bytes) -> Steps:
        raise NotImplementedError  # each broker has its own

    def is_refusal(self, heard: bytes) -> bool:
        return heard.startswith((b'{"problem"', b"-"))


class Brokerd(Way):
    """A message by the operator to an agent; its harness takes it, begins a turn and ends it, which is the ack."""

    name = "brokerd"

    def __init__(self, operator: Path, agents: Path) -> None:
        self._operator = operator
        self._agents = agents

    def sender(self, pair: int) -> Path:
        return self._operator

    def receiver(self, pair: int) -> Path:
        return self._agents / f"a{pair:02}" / "broker" / "broker.sock"

    def greet(self, pair: int, *, sends: bool) -> list[Exchange]:
        return [] if sends else [line({"op": "attach", "instance": new_key(), "version": "bench"})]

    def send(self, pair: int) -> Exchange:
        return line(
            {
                "op": "send",
                "to": f"a{pair:02}",
                "body": PAYLOAD,
                "key": new_request_key(),
                "in_reply_to": None,
            }
        )

    def take(self, pair: int) -> Steps:
        return (yield line({"op": "take_delivery", "wait_s": 60}))

    def settle(self, pair: int, taken: bytes) -> Steps:
        delivery = json.loads(taken)["ok"]["delivery"]
        begun = yield line({"op": "begin_turn", "delivery": delivery["id"], "token": delivery["token"]})
        return (yield line({"op": "end_turn", "turn": json.loads(begun)["ok"]["turn"], "outcome": "done"}))


class AtOnce(Brokerd):
    """The same exchanges with somebody who answers at once and does nothing: what is left is the clients."""

    name = "nobody: answered at once"
    ANSWER = b'{"ok":{"delivery":{"id":1,"token":"t"},"turn":1}}\n'

    def __init__(self, place: Path) -> None:
        super().__init__(place, place)

    def receiver(self, pair: int) -> Path:
        return self.sender(pair)


def line(request: dict[str, object]) -> Exchange:
    return Exchange(json.dumps(request).encode() + b"\n", lines(1))


class RedisStreams(Way):
    """A stream for each pair with a consumer group of one; XACK is the ack."""

    name = "Redis streams, always"

    def __init__(self, place: Path) -> None:
        self._place = place

    def sender(self, pair: int) -> Path:
        return self._place

    def greet(self, pair: int, *, sends: bool) -> list[Exchange]:
        if sends:
            return []
        stream = f"cycle{pair:02}"
        return [
            Exchange(command("DEL", stream).encode(), lines(1)),
            Exchange(command("XGROUP", "CREATE", stream, "g", "$", "MKSTREAM").encode(), lines(1)),
        ]

    def send(self, pair: int) -> Exchange:
        return Exchange(command("XADD", f"cycle{pair:02}", "*", "body", PAYLOAD).encode(), lines(2))

    def take(self, pair: int) -> Steps:
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
        return (yield Exchange(command(*words).encode(), lines(13)))

    def settle(self, pair: int, taken: bytes) -> Steps:
        entry = taken.split(b"\r\n")[7].decode()
        return (yield Exchange(command("XACK", f"cycle{pair:02}", "g", entry).encode(), lines(1)))
