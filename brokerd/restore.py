"""`python -m brokerd.restore STATE [BACKUP]`: go back to a backup, while no brokerd runs.

    STATE                brokerd's folder
    BACKUP               a backup's name, or its folder; without it, the newest
    --list               only say which there are
    --without-log        restore nothing: put a damaged events.sqlite aside, which costs no message

What was there is moved aside, never removed. The copy is made and looked through before anything is moved, and until
all is in its place brokerd does not start, so a restore that was cut short is simply run again.

The restored hive begins a new feed, since watchers saw what it does not have, and goes on with numbers that were
never given: a turn of the time after the backup cannot be taken for one of the time after the restore.
"""

import argparse
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from brokerd.policy import backups as policy
from brokerd.store import backup, folder, schema, soundness
from brokerd.store.backup import Manifest
from runtime.clock import now_ms
from runtime.service import Unusable
from runtime.settings import EXIT_SETTINGS

NUMBERS_SKIPPED: Final = 1_000_000
"""Where the present numbers cannot be read, more than anybody will have given since the backup."""
SIDE_FILES: Final = ("", "-wal", "-shm", "-journal")

SEQUENCES: Final = "SELECT name, seq FROM sqlite_sequence"
RAISE_SEQUENCE: Final = "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?"
BEGIN_SEQUENCE: Final = "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)"
COUNT_AS_GONE: Final = (
    "UPDATE retention SET messages_gone = messages_gone + "
    "(SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'messages') - ?"
)
"""Numbers that no message has are no messages that are kept."""
FEED_HEAD: Final = "SELECT head FROM feed_state"
BEGIN_FEED_ANEW: Final = "UPDATE feed_state SET boot = '', head = max(head, ?)"
"""No machine's boot is called that, so the next start begins a new epoch (brokerd.store.feed)."""
DOUBT_INDEX: Final = "UPDATE behind SET head = 9007199254740991 WHERE head > ?"
"""An index that knows messages which are not in the copy is made anew (brokerd.store.behind)."""
LAST_TURN: Final = "SELECT coalesce(max(id), 0) FROM turns"
FORGET_TURN_EVENTS: Final = "DELETE FROM turn_events WHERE turn > ?"


class Listed(Struct, frozen=True):
    """One backup that may be restored."""

    name: str
    at_ms: int
    bytes: int
    version: str


class Restored(Struct, frozen=True):
    """What was done. `name` is empty when only the log was put aside."""

    name: str
    at_ms: int
    set_aside: str
    """The folder that has what was there before; empty when there was nothing."""


def main() -> int:
    """Parse, restore, print what was done as JSON; the exit code."""
    parser = argparse.ArgumentParser(prog="brokerd.restore", description="Go back to a backup of the broker.")
    parser.add_argument("state", type=Path)
    parser.add_argument("backup", nargs="?")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--without-log", action="store_true")
    values = parser.parse_args()
    state: Path = values.state.absolute()
    answer: list[Listed] | Restored
    try:
        if values.list:
            answer = listed(state)
        elif values.without_log:
            answer = go_on_without_log(state, now_ms())
        else:
            answer = restore(state, values.backup, now_ms())
    except Unusable as fault:
        sys.stderr.write(f"{fault}\n")
        return EXIT_SETTINGS
    except OSError as fault:
        sys.stderr.write(f"{fault.filename or state}: {fault.strerror}; nothing was lost, run it again\n")
        return EXIT_SETTINGS
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    return 0


def listed(state: Path) -> list[Listed]:
    """The backups that can be read, oldest first. Why another cannot is said when it is asked for."""
    backups = state / folder.BACKUPS
    found: list[Listed] = []
    for name in backup.names(backups):
        with suppress(Unusable):
            each = backup.read_manifest(backups / name)
            found.append(Listed(name, each.at_ms, each.bytes, each.version))
    return found


def go_on_without_log(state: Path, at_ms: int) -> Restored:
    """Put events.sqlite aside: the next start makes a new one, and a new feed. Its turn events and counts are gone."""
    if not (state / folder.BROKER_FILE).is_file():
        raise Unusable(f"{state}: there is no {folder.BROKER_FILE} to go on with")
    with _held(state):
        folder.check_whole(state)
        aside = _free_aside(state, at_ms)
        _move_aside(_present(state, folder.EVENTS_FILE), aside)
        folder.sync(state)
        return Restored("", at_ms, str(aside) if aside.exists() else "")


def restore(state: Path, wanted: str | None, at_ms: int) -> Restored:
    """Put a backup in the databases' place. Unusable: brokerd runs, there is no such backup, it is not whole."""
    if not state.is_dir():
        raise Unusable(f"{state}: there is no such folder")
    with _held(state):
        source = _chosen(state, wanted)
        manifest = backup.read_manifest(source)
        aside = _free_aside(state, at_ms)
        work = state / folder.RESTORING
        if work.exists():
            _move_aside([work], aside)
        work.mkdir(mode=0o700)
        _copy(source, manifest, work)
        _make_fit(work, state)
        _exchange(state, work, aside)
        folder.trust(state)
        return Restored(source.name, manifest.at_ms, str(aside) if aside.exists() else "")


@contextmanager
def _held(state: Path) -> Iterator[None]:
    descriptor = folder.hold(state)
    try:
        yield
    finally:
        os.close(descriptor)


def _chosen(state: Path, wanted: str | None) -> Path:
    backups = state / folder.BACKUPS
    there = backup.names(backups)
    if wanted is None:
        if not there:
            raise Unusable(f"{backups}: there is no backup")
        return backups / there[-1]
    if "/" in wanted:
        return Path(wanted).absolute()
    if wanted not in there:
        raise Unusable(f"{backups}: there is no backup {wanted!a}; there are: {', '.join(there) or 'none'}")
    return backups / wanted


def _copy(source: Path, manifest: Manifest, work: Path) -> None:
    """Copy and compare with what the backup says of itself."""
    for file, _, _ in backup.FILES:
        expected = manifest.files.get(file)
        if expected is None or not (source / file).is_file():
            raise Unusable(f"{source}: this backup has no {file}; choose another")
        shutil.copyfile(source / file, work / file)
        if backup.digest_of(work / file, _go_on) != expected:
            raise Unusable(f"{source / file}: is not what was backed up any more; choose another backup")
        found = backup.copy_faults(work / file)
        if found:
            raise soundness.unusable(source / file, found)


def _go_on() -> None:
    """Nobody waits: a restore runs alone."""


def _make_fit(work: Path, state: Path) -> None:
    """Bring the copy to this version's schema, and let it go on after everything that was told or numbered since."""
    database, events = (work / file for file, _, _ in backup.FILES)
    schema.migrate(events, schema.shape_of(database, events))
    present = _sequences(state / folder.BROKER_FILE)
    head = _sequences(state / folder.EVENTS_FILE).get("feed", 0)
    with closing(sqlite3.connect(database)) as db, db:
        numbers = dict(db.execute(SEQUENCES).fetchall())
        for name, number in numbers.items():
            db.execute(RAISE_SEQUENCE, (present.pop(name, number + NUMBERS_SKIPPED), name))
        db.executemany(BEGIN_SEQUENCE, present.items())
        last_message = numbers.get("messages", 0)
        db.execute(COUNT_AS_GONE, (last_message,))
        last_turn = db.execute(LAST_TURN).fetchone()[0]
        known = db.execute(FEED_HEAD).fetchone()
        db.execute(BEGIN_FEED_ANEW, (head or (known[0] if known else 0) + NUMBERS_SKIPPED,))
    with closing(sqlite3.connect(events)) as db, db:
        db.execute(FORGET_TURN_EVENTS, (last_turn,))
        db.execute(DOUBT_INDEX, (last_message,))
    for file in (database, events):
        with file.open("rb") as copied:
            os.fsync(copied.fileno())
    folder.sync(work)


def _sequences(file: Path) -> dict[str, int]:
    """The numbers that were given last, by table; empty where that cannot be read any more."""
    if not file.exists():
        return {}
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as db:
        try:
            return dict(db.execute(SEQUENCES).fetchall())
        except sqlite3.DatabaseError:
            return {}


def _exchange(state: Path, work: Path, aside: Path) -> None:
    """The present files go, the copies come; while `work` is there, brokerd does not start."""
    _move_aside([path for file, _, _ in backup.FILES for path in _present(state, file)], aside)
    folder.sync(state)
    for file, _, _ in backup.FILES:
        (work / file).rename(state / file)
    folder.sync(state)
    work.rmdir()
    folder.sync(state)


def _present(state: Path, file: str) -> list[Path]:
    """A database, and what sqlite keeps beside it."""
    return [path for side in SIDE_FILES if (path := state / f"{file}{side}").exists()]


def _free_aside(state: Path, at_ms: int) -> Path:
    asides = state / folder.SET_ASIDE
    taken = [path.name for path in asides.iterdir()] if asides.is_dir() else []
    return asides / policy.name_for(at_ms, taken)


def _move_aside(paths: list[Path], aside: Path) -> None:
    if not paths:
        return
    aside.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in paths:
        path.rename(aside / path.name)
    folder.sync(aside)


if __name__ == "__main__":
    sys.exit(main())
