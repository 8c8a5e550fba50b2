"""The plain ways: a queue in sqlite with one transaction for each message behind one lock, with and without a poll."""

import json
from contextlib import ExitStack
from pathlib import Path

from bench.measure import PAYLOAD
from bench.processes import OURS, serving
from bench.ways import Exchange, Place, Steps, Way, line


class PlainQueue(Way):
    """Who takes is woken by who sends."""

    name = "sqlite, a transaction each"

    def __init__(self, place: Path) -> None:
        self._place = place

    def sender(self, pair: int) -> Place:
        return self._place

    def send(self, pair: int) -> Exchange:
        return line({"op": "send", "to": pair, "body": PAYLOAD})

    def take(self, pair: int) -> Steps:
        return (yield line({"op": "take", "to": pair}))

    def settle(self, pair: int, taken: bytes) -> Steps:
        return (yield line({"op": "done", "to": pair, "id": json.loads(taken)["id"]}))


class Polled(PlainQueue):
    """Who takes looks every five seconds."""

    name = "a poll every five seconds"
    is_slow = True


def start(servers: ExitStack, run: Path, state: Path, *, poll_s: float = 0) -> Way:
    """The server, at a unix socket."""
    place = run / f"plain{poll_s:g}.sock"
    servers.enter_context(
        serving(
            OURS, "-m", "bench.servers.plain_queue", place, state / "queue.sqlite", str(poll_s), ready=place
        )
    )
    return Polled(place) if poll_s else PlainQueue(place)


def start_polled(servers: ExitStack, run: Path, state: Path) -> Way:
    return start(servers, run, state, poll_s=5)
