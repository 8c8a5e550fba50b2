"""A queue in Postgres as a reference: `FOR UPDATE SKIP LOCKED` to take, NOTIFY to wake, as shipped (synced)."""

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.measure import PAYLOAD
from bench.processes import START_S, serving, skip
from bench.ways import Exchange, Place, Steps, Way

PREPARE = """
PREPARE send(int, text) AS INSERT INTO jobs (recipient, body) VALUES ($1, $2);
PREPARE take(int) AS UPDATE jobs SET state = 'leased' WHERE id = (SELECT id FROM jobs WHERE recipient = $1
    AND state = 'queued' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, body;
PREPARE done(bigint) AS DELETE FROM jobs WHERE id = $1;
"""
SCHEMA = """
CREATE TABLE jobs (id bigserial PRIMARY KEY, recipient int NOT NULL, body text NOT NULL,
    state text NOT NULL DEFAULT 'queued');
CREATE INDEX waiting ON jobs (recipient, id) WHERE state = 'queued';
"""


def answers(heard: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The whole answers in what was heard: kind and content."""
    at = 0
    while at + 5 <= len(heard):
        (length,) = struct.unpack_from(">I", heard, at + 1)
        if at + 1 + length > len(heard):
            return
        yield heard[at : at + 1], heard[at + 5 : at + 1 + length]
        at += 1 + length


def has(kind: bytes) -> Callable[[bytes], bool]:
    """Ready for the next query (Z), or a notification (A)."""
    return lambda heard: any(found == kind for found, _ in answers(heard))


def query(text: str) -> Exchange:
    words = text.encode() + b"\0"
    return Exchange(b"Q" + struct.pack(">I", len(words) + 4) + words, has(b"Z"))


class Postgres(Way):
    """One table for all pairs, a connection for each end."""

    name = "Postgres, SKIP LOCKED + NOTIFY"

    def __init__(self, place: Path) -> None:
        self._place = place

    def sender(self, pair: int) -> Place:
        return self._place

    def greet(self, pair: int, *, sends: bool) -> list[Exchange]:
        words = struct.pack(">I", 196_608) + b"user\0postgres\0database\0postgres\0\0"
        begin = Exchange(struct.pack(">I", len(words) + 4) + words, has(b"Z"))
        fresh = f"DELETE FROM jobs WHERE recipient = {pair}; LISTEN p{pair}"
        return [begin, query(PREPARE), *([] if sends else [query(fresh)])]

    def send(self, pair: int) -> Exchange:
        return query(f"EXECUTE send({pair}, '{PAYLOAD}'); NOTIFY p{pair}")

    def take(self, pair: int) -> Steps:
        while True:
            heard = yield query(f"EXECUTE take({pair})")
            found = dict(answers(heard))
            if b"D" in found:
                return found[b"D"]
            if b"A" not in found:
                yield Exchange(b"", has(b"A"))

    def settle(self, pair: int, taken: bytes) -> Steps:
        (length,) = struct.unpack_from(">I", taken, 2)
        return (yield query(f"EXECUTE done({taken[6 : 6 + length].decode()})"))

    def is_refusal(self, heard: bytes) -> bool:
        return any(kind == b"E" for kind, _ in answers(heard))


def start(servers: ExitStack, run: Path, state: Path, pairs: int) -> Way | None:
    """A cluster of our own; None when there is no Postgres. It refuses to be root, so root lends it a user."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        skip("Postgres", "postgresql is not installed")
        return None
    as_user: list[str] = []
    sockets = run / "postgres"
    sockets.mkdir()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            skip("Postgres", "setpriv is not installed")
            return None
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        for folder in (state, sockets):
            shutil.chown(folder, "postgres", "postgres")
        for folder in (state.parent, run):
            folder.chmod(0o711)
    bin_ = programs[-1].parent
    data = state / "data"
    initdb = [*as_user, bin_ / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"]
    subprocess.run([str(part) for part in initdb], check=True, capture_output=True, cwd="/")
    place = sockets / ".s.PGSQL.5432"
    options = ("-c", f"max_connections={pairs * 2 + 20}", "-c", "listen_addresses=")
    servers.enter_context(
        serving(
            *as_user,
            bin_ / "postgres",
            "-D",
            data,
            "-k",
            sockets,
            *options,
            ready=place,
            log=run / "postgres.log",
        )
    )
    until = time.monotonic() + START_S
    while subprocess.run([bin_ / "pg_isready", "-q", "-h", sockets], check=False).returncode:
        if time.monotonic() > until:
            raise SystemExit("Postgres does not get ready")  # its socket is there before it is
        time.sleep(0.05)
    make = [bin_ / "psql", "-h", sockets, "-U", "postgres", "-q", "-c", SCHEMA]
    subprocess.run([str(part) for part in make], check=True, capture_output=True)
    return Postgres(place)
