"""P1, P2: how many durable sends a second, with 64 senders that each wait for the answer before they send again."""

import json
import subprocess
import sys
from contextlib import ExitStack
from functools import partial

from bench import redis
from bench.hive import hive
from bench.measure import CHECKOUT, PAYLOAD, SECONDS, Variant, compare, report
from bench.processes import OURS, environment, folder, load, on_disk

SENDERS = 64
SEND = f'{{"op":"send","to":"a%N","body":"{PAYLOAD}","key":"%K","in_reply_to":null}}\n'
XADD = redis.command("XADD", "stream%N", "*", "body", PAYLOAD).replace("$9\r\nstream%N", "$8\r\nstream%N")


def main() -> None:
    """Measure and print."""
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else SENDERS
    with hive(100) as swarm, folder() as run, on_disk() as state, ExitStack() as servers:
        variants = [Variant("brokerd", partial(load, swarm.operator, connections, SEND))]
        variants.append(Variant("limit: sqlite in groups of 64", limit))
        if place := redis.start(servers, run, state):
            variants.append(Variant("Redis XADD, always", partial(load, place, connections, XADD, lines=2)))
        compare(variants)
        goal = "0.30x of the limit, 1.0x of Redis"
        report(f"P1, P2 durable send, {connections} connections", goal, variants, "calls_per_s")
        table = f"P1, P2 a core's time for a send, server, {connections} connections"
        report(table, "none", variants, "server_us", more_is_better=False)


def limit() -> dict[str, float]:
    """One loop over sqlite3, in a process of its own and a new database each time."""
    with on_disk() as state:
        command = [OURS, "-m", "bench.servers.commit_limit", state, str(SECONDS)]
        done = subprocess.run(
            [str(part) for part in command],
            cwd=CHECKOUT,
            env=environment(),
            check=True,
            capture_output=True,
            text=True,
        )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    main()
