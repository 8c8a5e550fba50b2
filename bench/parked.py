"""P5: a thousand receivers that wait for their next message: the memory of each, and the idle time of all."""

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

from bench import nats, redis
from bench.hive import hive
from bench.measure import SECONDS, Variant, compare, report
from bench.processes import folder, on_disk
from bench.wake import Peer
from bench.ways import Brokerd, RedisStreams, Way

PARKED = 1_000
FILES = 8_192
IDLE_S = max(5.0, SECONDS * 2)
SETTLE_S = 1.5

Server = tuple[Way, int]
"""What to say, and the process that hears it."""
Start = Callable[[int], AbstractContextManager[Server]]
"""A server for so many receivers."""


@contextmanager
def ours(agents: int) -> Iterator[Server]:
    with hive(agents) as swarm:
        yield Brokerd(swarm.operator, swarm.run / "agents"), process_at(swarm.operator)


@contextmanager
def started(start: Callable[[ExitStack, Path, Path], Way | None]) -> Iterator[Server]:
    """A reference alone."""
    with folder() as run, on_disk() as state, ExitStack() as servers:
        before = children()
        way = start(servers, run, state)
        if way is None:
            raise SystemExit("this reference cannot be started")
        (process,) = children() - before
        yield way, process


def redis_way(servers: ExitStack, run: Path, state: Path) -> Way | None:
    place = redis.start(servers, run, state)
    return None if place is None else RedisStreams(place)


def children() -> set[int]:
    return {int(word) for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def process_at(place: Path) -> int:
    """The child that was started for brokerd."""
    for child in children():
        if b"brokerd\0" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    raise SystemExit(f"nobody serves {place}")


def memory_kb(process: int) -> float:
    """What would be free if it ended."""
    for row in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if row.startswith("Pss:"):
            return float(row.split()[1])
    raise SystemExit("no Pss here")


def busy_s(process: int) -> float:
    """Time on a core, of all its threads."""
    spent = 0
    for task in Path(f"/proc/{process}/task").iterdir():
        spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9


def parked(start: Start) -> dict[str, float]:
    """Memory with one receiver and with all, then idle."""
    sizes = []
    idle = 0.0
    for number in (1, PARKED):
        with ExitStack() as held:
            way, process = held.enter_context(start(number))
            for place in range(number):
                peer = held.enter_context(closing(Peer(way, way.receiver(place))))
                for exchange in way.greet(place, sends=False):
                    peer.ask(exchange)
                peer.stream.sendall(next(way.take(place)).request)
            time.sleep(SETTLE_S)
            sizes.append(memory_kb(process))
            if number == PARKED:
                before, began = busy_s(process), time.monotonic()
                time.sleep(IDLE_S)
                idle = (busy_s(process) - before) / (time.monotonic() - began)
    return {"kb_each": (sizes[1] - sizes[0]) / (PARKED - 1), "idle_percent": idle * 100}


def main() -> None:
    """Measure and print."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    variants = [Variant("brokerd", lambda: parked(ours))]
    if redis.PROGRAM.exists():
        variants.append(Variant("Redis streams", lambda: parked(lambda _: started(redis_way))))
    if nats.program() is not None:
        variants.append(Variant("NATS JetStream", lambda: parked(lambda _: started(nats.start))))
    compare(variants)
    report(f"P5 {PARKED} parked, memory", "at most 6 KB", variants, "kb_each", more_is_better=False)
    report(
        f"P5 {PARKED} parked, idle", "at most 0.1 % of a core", variants, "idle_percent", more_is_better=False
    )


if __name__ == "__main__":
    main()
