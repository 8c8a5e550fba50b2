"""P4: from the moment a message is sent to the moment its parked receiver holds it, one pair, median.

Sender and receiver are two processes with blocking sockets, the same for every broker; the next message is sent when
the one before it has been settled.
"""

import json
import multiprocessing
import socket
import statistics
import subprocess
import time
from contextlib import ExitStack, closing
from functools import partial
from multiprocessing.connection import Connection

from bench import peers
from bench.hive import hive
from bench.measure import CHECKOUT, SECONDS, Variant, compare, report
from bench.processes import OURS, environment, folder, on_disk
from bench.ways import Brokerd, Exchange, Place, Steps, Way

WARM = 20


class Peer:
    """One blocking connection."""

    def __init__(self, way: Way, place: Place) -> None:
        self._way = way
        self.stream = socket.socket(socket.AF_INET if isinstance(place, int) else socket.AF_UNIX)
        self.stream.connect(("127.0.0.1", place) if isinstance(place, int) else str(place))

    def ask(self, exchange: Exchange) -> bytes:
        if exchange.request:
            self.stream.sendall(exchange.request)
        said = b""
        while not exchange.is_whole(said):
            data = self.stream.recv(65536)
            said += data
            if not data or self._way.is_refusal(said):
                raise SystemExit(f"asked {exchange.request[:80]!r}, heard {said!r}")
        return said

    def go(self, steps: Steps) -> bytes:
        """One exchange after the other; what the last of them returns."""
        try:
            exchange = next(steps)
            while True:
                exchange = steps.send(self.ask(exchange))
        except StopIteration as end:
            taken: bytes = end.value
            return taken

    def close(self) -> None:
        self.stream.close()


def receive(way: Way, pair: int, control: Connection) -> None:
    """The receiver: tells when it held each message, and when it is ready for the next."""
    with closing(Peer(way, way.receiver(pair))) as peer:
        for exchange in way.greet(pair, sends=False):
            peer.ask(exchange)
        while True:
            control.send(0)
            taken = peer.go(way.take(pair))
            held_ns = time.monotonic_ns()
            peer.go(way.settle(pair, taken))
            control.send(held_ns)


def wake(way: Way, seconds: float = SECONDS) -> dict[str, float]:
    """Messages one after the other for so long; the median in microseconds."""
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.get_context("fork").Process(target=receive, args=(way, 0, theirs), daemon=True)
    receiver.start()
    theirs.close()  # so that its end is noticed here
    spent: list[float] = []
    try:
        ours.recv()  # its queue is there
        with closing(Peer(way, way.sender(0))) as peer:
            for exchange in way.greet(0, sends=True):
                peer.ask(exchange)
            until, is_first = time.monotonic() + seconds, True
            while time.monotonic() < until or len(spent) < (2 if way.is_slow else WARM * 2):
                if not is_first:
                    ours.recv()
                is_first = False
                time.sleep(0.0005)  # until the receiver is parked
                sent_ns = time.monotonic_ns()
                peer.ask(way.send(0))
                spent.append((ours.recv() - sent_ns) / 1_000)
    finally:
        receiver.terminate()
        receiver.join()
    counted = sorted(spent if way.is_slow else spent[WARM:])
    return {"p50_us": statistics.median(counted), "p99_us": counted[len(counted) * 99 // 100]}


def one_commit() -> dict[str, float]:
    """The rows of one message in a commit of its own, without anybody who asks."""
    with on_disk() as state:
        command = [OURS, "-m", "bench.servers.commit_limit", str(state), str(SECONDS), "1"]
        done = subprocess.run(
            command, cwd=CHECKOUT, env=environment(), check=True, capture_output=True, text=True
        )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Measure and print."""
    with hive(1) as swarm, folder() as run, on_disk() as state, ExitStack() as servers:
        ways = [
            Brokerd(swarm.operator, swarm.run / "agents"),
            *peers.start(servers, run, state, 1, slow=True),
        ]
        variants = [Variant(way.name, partial(wake, way)) for way in ways]
        variants.append(Variant("one commit by sqlite3 alone", one_commit))
        compare(variants)
        goal = "at most 1.05x of Redis, 2.5x of one commit"
        report("P4 send to wake, 1 pair", goal, variants, "p50_us", more_is_better=False)


if __name__ == "__main__":
    main()
