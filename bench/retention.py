"""P10: how long a durable send takes while brokerd removes what is over, and while it does not.

Ours is brokerd with old messages of a hundred agents, their deliveries, keys, turns and words, which it removes; the
reference is the same with the same database, which it leaves alone. Eight senders each wait for the answer before they
send again.
"""

import shutil
import sqlite3
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

from bench.history import Vocabulary
from bench.hive import hive
from bench.measure import PAYLOAD, SECONDS, Variant, compare, report
from bench.processes import load, on_disk
from brokerd.policy.retention import DAY_MS
from brokerd.store import behind, keys, messages, schema
from brokerd.store.feed import FeedLog, open_feed
from brokerd.store.keys import Asked
from brokerd.store.messages import Draft
from runtime.clock import new_request_key, now_ms
from runtime.store import connect

AGENTS = 100
SENDERS = 8
OLD_MESSAGES = 40_000
JOB = 64
SWEEP_AFTER_S = 0.2
NEVER_S = 1e6
SEND = f'{{"op":"send","to":"a%N","body":"{PAYLOAD}","key":"%K","in_reply_to":null}}\n'

SETTLE = "UPDATE deliveries SET state = 'done'"
TURNS = (
    "INSERT INTO turns (agent, delivery, token, woke_by, message, began_ms, ended_ms, outcome, done, requeued, dead) "
    "SELECT recipient, id, '', 'operator', id >> 7, changed_ms, changed_ms, 'done', 1, 0, 0 FROM deliveries"
)


def lived(folder: Path) -> None:
    """Databases of a hive whose messages are all over, and old."""
    shape = schema.shape_of(folder / "broker.sqlite", folder / "events.sqlite")
    schema.migrate(shape.path, shape)
    at_ms = now_ms() - 100 * DAY_MS
    bodies = Vocabulary().bodies
    with closing(connect(shape)) as db:
        db.execute("PRAGMA main.synchronous = OFF")
        db.execute("PRAGMA broker.synchronous = OFF")
        open_feed(db, "bench")
        for first in range(0, OLD_MESSAGES, JOB):
            drafts = [_draft(number, bodies[number % len(bodies)]) for number in range(first, first + JOB)]
            db.execute("BEGIN")
            messages.send(db, FeedLog(db, at_ms), drafts)
            db.execute("COMMIT")
        db.execute(SETTLE)
        db.execute(TURNS)
        while behind.head(db) < OLD_MESSAGES:
            db.execute("BEGIN")
            behind.catch_up(db, OLD_MESSAGES, 1_000)
            db.execute("COMMIT")


def _draft(number: int, body: str) -> Draft:
    asked = Asked(f"a{number % AGENTS:02}", bytes.fromhex(new_request_key()))
    to = f"a{(number * 7 + 1) % AGENTS:02}"
    return Draft(asked, b"d" * keys.DIGEST_BYTES, to, (to,), False, body, None)


def sends(lived_in: Path, sweep_after_s: float) -> dict[str, float]:
    """One brokerd over its own copy of the databases."""

    def prepare(state: Path) -> None:
        shutil.copytree(lived_in, state)

    command = ("bench.servers.broker_that_sweeps", str(sweep_after_s))
    with hive(AGENTS, command, prepare) as swarm:
        before = old_messages(swarm.state)
        figures = load(swarm.operator, SENDERS, SEND)
        gone = before - old_messages(swarm.state)
        if (gone > 0) != (sweep_after_s != NEVER_S):
            raise SystemExit(f"{gone} old messages went: this measures nothing")
        return figures | {"removed_per_s": gone / SECONDS}


def old_messages(state: Path) -> int:
    with closing(sqlite3.connect(f"file:{state}/broker/broker.sqlite?mode=ro", uri=True)) as db:
        count: int = db.execute("SELECT count(*) FROM messages WHERE id <= ?", (OLD_MESSAGES,)).fetchone()[0]
    return count


def main() -> None:
    """Measure and print."""
    with on_disk() as state:
        lived_in = state / "lived"
        lived_in.mkdir()
        lived(lived_in)
        variants = [
            Variant("while it removes", partial(sends, lived_in, SWEEP_AFTER_S)),
            Variant("alone", partial(sends, lived_in, NEVER_S)),
        ]
        compare(variants)
        for key, more_is_better in (("p99_us", False), ("p50_us", False), ("calls_per_s", True)):
            report("P10 sends during retention", "p99 2.5x", variants, key, more_is_better=more_is_better)


if __name__ == "__main__":
    sys.exit(main())
