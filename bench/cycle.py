"""P3: whole cycles a second: a durable send wakes its receiver, which takes it and settles it durably; 64 pairs.

All pairs live in one asyncio process, the same for every broker, so that a client's own cost weighs alike.
"""

import asyncio
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import peers
from bench.hive import hive
from bench.measure import SECONDS, Variant, compare, report
from bench.processes import folder, native, on_disk, servers_cpu_s, serving
from bench.ways import AtOnce, Brokerd, Exchange, Place, Steps, Way

PAIRS = 64
GOAL = "2.5x of Redis and NATS, 5x of RabbitMQ, 10x of Postgres, 15x of one transaction per message"
WARM_S = 0.5


class Refusal(Exception):
    """An answer that is a refusal: this would measure nothing."""


class Peer:
    """One connection."""

    def __init__(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._way = way
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, way: Way, place: Place) -> "Peer":
        if isinstance(place, int):
            return cls(way, *await asyncio.open_connection("127.0.0.1", place))
        return cls(way, *await asyncio.open_unix_connection(str(place)))

    async def ask(self, exchange: Exchange) -> bytes:
        if exchange.request:
            self._writer.write(exchange.request)
        said = b""
        while not exchange.is_whole(said):
            data = await self._reader.read(65_536)
            said += data
            if not data or self._way.is_refusal(said):
                raise Refusal(f"asked {exchange.request[:80]!r}, heard {said!r}")
        return said

    async def go(self, steps: Steps) -> bytes:
        """One exchange after the other; what the last of them returns."""
        try:
            exchange = next(steps)
            while True:
                exchange = steps.send(await self.ask(exchange))
        except StopIteration as end:
            taken: bytes = end.value
            return taken

    def close(self) -> None:
        self._writer.close()


class Count:
    """Cycles that are done."""

    done = 0


async def pair(way: Way, number: int, count: Count) -> None:
    """One sender and one receiver, a message at a time, for ever."""
    receiver = await Peer.open(way, way.receiver(number))
    sender = await Peer.open(way, way.sender(number))
    try:
        for peer in (receiver, sender):
            for exchange in way.greet(number, sends=peer is sender):
                await peer.ask(exchange)
        while True:
            taken, _ = await asyncio.gather(receiver.go(way.take(number)), sender.ask(way.send(number)))
            await receiver.go(way.settle(number, taken))
            count.done += 1
    finally:
        sender.close()
        receiver.close()


async def cycles(way: Way, seconds: float) -> dict[str, float]:
    """All pairs at once for so long."""
    count = Count()
    tasks = [asyncio.create_task(pair(way, number, count)) for number in range(PAIRS)]
    await asyncio.sleep(WARM_S)
    before, began, client_s, server_s = count.done, time.monotonic(), time.process_time(), servers_cpu_s()
    await asyncio.sleep(seconds)
    done, took_s = count.done - before, time.monotonic() - began
    spent = {"server_us": servers_cpu_s() - server_s, "client_us": time.process_time() - client_s}
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end
    return {"cycles_per_s": done / took_s, **{name: each * 1e6 / done for name, each in spent.items()}}


def run(way: Way) -> dict[str, float]:
    return asyncio.run(cycles(way, SECONDS))


def at_once(servers: ExitStack, run: Path) -> Way:
    """The most that these clients can do."""
    place, answer = run / "at-once.sock", run / "at-once"
    answer.write_bytes(AtOnce.ANSWER)
    servers.enter_context(serving(native("echo"), place, answer, ready=place))
    return AtOnce(place)


def main() -> None:
    """Measure and print."""
    with hive(PAIRS) as swarm, folder() as place, on_disk() as state, ExitStack() as servers:
        ways = [Brokerd(swarm.operator, swarm.run / "agents"), *peers.start(servers, place, state, PAIRS)]
        ways.append(at_once(servers, place))
        variants = [Variant(way.name, partial(run, way)) for way in ways]
        compare(variants)
        report("P3 cycles, 64 pairs", GOAL, variants, "cycles_per_s")
        report(
            "P3 a core's time for a cycle, server", "none", variants[:-1], "server_us", more_is_better=False
        )


if __name__ == "__main__":
    main()
