"""P3: whole cycles a second: a durable send wakes its receiver, which takes it and settles it durably; 64 pairs.

All pairs live in one asyncio process, the same for every broker, so that a client's own cost weighs alike.
"""

import asyncio
import time
from contextlib import ExitStack
from functools import partial

from bench import redis
from bench.hive import hive
from bench.measure import SECONDS, Variant, compare, report
from bench.processes import folder, on_disk
from bench.ways import Brokerd, Exchange, RedisStreams, Way

PAIRS = 64
WARM_S = 0.5


class Refusal(Exception):
    """An answer that is a refusal: this would measure nothing."""


class Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, exchange: Exchange) -> bytes:
        self._writer.write(exchange.request)
        said = b""
        for _ in range(exchange.lines):
            said += await self._reader.readuntil(b"\n")
        if said.startswith((b'{"problem"', b"-")):
            raise Refusal(f"asked {exchange.request[:80]!r}, heard {said!r}")
        return said

    def close(self) -> None:
        self._writer.close()


class Count:
    """Cycles that are done."""

    done = 0


async def pair(way: Way, number: int, count: Count) -> None:
    """One sender and one receiver, a message at a time, for ever."""
    sender = Peer(*await asyncio.open_unix_connection(str(way.sender(number))))
    receiver = Peer(*await asyncio.open_unix_connection(str(way.receiver(number))))
    try:
        for exchange in way.greet(number):
            await receiver.ask(exchange)
        while True:
            taken, _ = await asyncio.gather(receiver.ask(way.take(number)), sender.ask(way.send(number)))
            await settle(way, number, receiver, taken)
            count.done += 1
    finally:
        sender.close()
        receiver.close()


async def settle(way: Way, number: int, receiver: Peer, taken: bytes) -> None:
    steps = way.settle(number, taken)
    exchange = next(steps)
    while True:
        answer = await receiver.ask(exchange)
        try:
            exchange = steps.send(answer)
        except StopIteration:
            return


async def cycles(way: Way, seconds: float) -> dict[str, float]:
    """All pairs at once for so long."""
    count = Count()
    tasks = [asyncio.create_task(pair(way, number, count)) for number in range(PAIRS)]
    await asyncio.sleep(WARM_S)
    before, began = count.done, time.monotonic()
    await asyncio.sleep(seconds)
    rate = (count.done - before) / (time.monotonic() - began)
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end
    return {"cycles_per_s": rate}


def run(way: Way) -> dict[str, float]:
    return asyncio.run(cycles(way, SECONDS))


def main() -> None:
    """Measure and print."""
    with hive(PAIRS) as swarm, folder() as place, on_disk() as state, ExitStack() as servers:
        ways: list[Way] = [Brokerd(swarm.operator, swarm.run / "agents")]
        if found := redis.start(servers, place, state):
            ways.append(RedisStreams(found))
        variants = [Variant(way.name, partial(run, way)) for way in ways]
        compare(variants)
        report("P3 cycles, 64 pairs", "2.5x of Redis", variants, "cycles_per_s")


if __name__ == "__main__":
    main()
