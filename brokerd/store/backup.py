"""A copy of both databases, taken while they are in use: whole, looked through and on disk before it has its name.

Both files are read in one snapshot each, broker.sqlite's first. So a message that was acknowledged before is in the
copy, and events.sqlite may know more than broker.sqlite, never less, as after a kill between the two (decision 4). A
restore begins a new feed, whose watchers take a snapshot, and forgets what the surplus says (brokerd.restore).

    <name>/broker.sqlite  events.sqlite  backup.json      beside the others in <state>/backups
"""

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from brokerd.policy import backups as policy
from brokerd.store import folder, soundness
from protocol.problem import Problem, Refused
from runtime import VERSION
from runtime.service import Unusable
from runtime.store import StoreShape, connect, is_damage

STEP_PAGES: Final = 256
"""Copied between two pauses: one MiB."""
SYNC_EVERY_STEPS: Final = 16
"""So that the disk gets little at a time, and nobody's commit has to wait for all of it."""
PIECE_BYTES: Final = 1024 * 1024
DIGEST_BYTES: Final = 32
MANIFEST: Final = "backup.json"
PARTIAL: Final = ".partial"

FILES: Final = (
    (folder.BROKER_FILE, "broker", "SELECT 1 FROM broker.sqlite_master LIMIT 1"),
    (folder.EVENTS_FILE, "main", "SELECT 1 FROM main.sqlite_master LIMIT 1"),
)
"""Each file, its name in a connection, and a statement that begins its snapshot; in the order in which that matters."""


class Copied(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a backup."""

    bytes: int
    blake2b: str


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup says of itself."""

    version: str
    """Of hyperhive, that made it."""
    at_ms: int
    files: dict[str, Copied]

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.files.values())


def make(shape: StoreShape, backups: Path, name: str, at_ms: int, pause: Callable[[], None]) -> Manifest:
    """Make a backup of that name. `pause` is called between two steps and may raise to give it up."""
    partial = backups / f"{name}{PARTIAL}"
    partial.mkdir(mode=0o700, parents=True)
    try:
        _copy(shape, partial, pause)
        files = {file: _looked_through(partial / file, pause) for file, _, _ in FILES}
        manifest = Manifest(VERSION, at_ms, files)
        _write(partial / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        folder.sync(partial)
        partial.rename(backups / name)
        folder.sync(backups)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def _copy(shape: StoreShape, partial: Path, pause: Callable[[], None]) -> None:
    with closing(connect(shape, read_only=True)) as source:
        source.execute("BEGIN")
        for _, _, begin_snapshot in FILES:
            source.execute(begin_snapshot).fetchone()
        for file, schema, _ in FILES:
            with closing(sqlite3.connect(partial / file, isolation_level=None)) as target:
                target.execute("PRAGMA journal_mode = OFF")
                target.execute("PRAGMA synchronous = OFF")
                with (partial / file).open("rb") as written:
                    source.backup(
                        target, pages=STEP_PAGES, name=schema, progress=_stepping(written.fileno(), pause)
                    )
        source.execute("ROLLBACK")


def _stepping(descriptor: int, pause: Callable[[], None]) -> Callable[[int, int, int], None]:
    steps = 0

    def step(_status: int, _remaining: int, _total: int) -> None:
        nonlocal steps
        steps += 1
        if steps % SYNC_EVERY_STEPS == 0:
            os.fdatasync(descriptor)
        pause()

    return step


def _looked_through(file: Path, pause: Callable[[], None]) -> Copied:
    """Put a copied file on disk and look through it; Refused(failed) when it is damaged, as its original is then.

    The next start looks through the original before it serves it.
    """
    found = copy_faults(file)
    if found:
        folder.doubt(file.parents[2])
        raise Refused(
            Problem.FAILED,
            f"{file.name} is damaged ({'; '.join(found)}): no backup was made, the older ones are kept; "
            "restart brokerd to have all of it looked through",
        )
    with file.open("rb") as copied:
        os.fsync(copied.fileno())
    return digest_of(file, pause)


def copy_faults(file: Path) -> list[str]:
    """What is wrong with a database that nobody writes to; nothing is made beside it."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        try:
            return soundness.faults(db)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return [str(error)]


def digest_of(file: Path, pause: Callable[[], None]) -> Copied:
    """The size of a file and its digest."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with file.open("rb") as copied:
        while piece := copied.read(PIECE_BYTES):
            digest.update(piece)
            pause()
    return Copied(file.stat().st_size, digest.hexdigest())


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def names(backups: Path) -> list[str]:
    """The backups that are whole, oldest first."""
    if not backups.is_dir():
        return []
    return policy.named(path.name for path in backups.iterdir() if (path / MANIFEST).is_file())


def newest_ms(backups: Path) -> int | None:
    """When the newest was made that can be read; None without any."""
    for name in reversed(names(backups)):
        try:
            return read_manifest(backups / name).at_ms
        except Unusable:
            continue
    return None


def clear(backups: Path, kept: int) -> list[str]:
    """Remove what a killed backup left, and all but the `kept` newest backups; the names of those."""
    if not backups.is_dir():
        return []
    for partial in backups.glob(f"*{PARTIAL}"):
        shutil.rmtree(partial)
    gone = policy.outdated(names(backups), kept)
    for name in gone:
        leaving = backups / f"{name}{PARTIAL}"
        (backups / name).rename(leaving)  # never half a backup under its name
        shutil.rmtree(leaving)
    return gone


def read_manifest(backup: Path) -> Manifest:
    """Unusable when there is none, or one that cannot be read."""
    try:
        return msgspec.json.decode((backup / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise Unusable(f"{backup}: is no backup: it has no {MANIFEST}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unusable(f"{backup / MANIFEST}: cannot be read: {error}") from None


def size_of(backups: Path) -> int:
    """The bytes of all backups."""
    return sum(file.stat().st_size for name in names(backups) for file in (backups / name).iterdir())
