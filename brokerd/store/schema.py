"""brokerd's two databases: what they are to each other, and how they are brought up to date.

Their tables are numbered steps (brokerd.store.broker_steps, events_steps).

broker.sqlite is on disk before anybody is told; events.sqlite may lose its last moments in a power cut. What
settles together lives in broker.sqlite, because a commit over two files is whole only within each.

A commit over both writes them one after the other, and a process can be killed in between. So events.sqlite is the
connection's `main`, which goes first: what it may hold too much was never shown to anybody, and is taken back at the
next start (brokerd.store.feed). The other way round a message could lack its feed entry for ever.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlite_utils import Database, Migrations

from brokerd.store import folder, soundness
from brokerd.store.broker_steps import broker
from brokerd.store.events_steps import events
from runtime import VERSION
from runtime.service import Unusable
from runtime.store import StoreShape

BROKER: Final = "broker"


def shape_of(database: Path, events_database: Path) -> StoreShape:
    return StoreShape(events_database, attached={BROKER: database}, relaxed=frozenset({"main"}))


def migrate(path: Path, shape: StoreShape) -> None:
    """Bring both files up to date, each in one transaction. Unusable: a file that is damaged, newer, or lost."""
    database = shape.attached[BROKER]
    _check_not_lost(database, path)
    for file, steps in ((database, broker), (path, events)):
        with soundness.believed(file), closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            _check_sound(connection, file)
            made = Database(connection, execute_plugins=False)
            _check_known(made, steps, file)
            with made.atomic():
                steps.apply(made)
                _sign(connection)
    folder.trust(path.parent)
    folder.sync(
        path.parent
    )  # or a journal that was removed may be found again after a power cut, and be obeyed


def _check_not_lost(database: Path, events_database: Path) -> None:
    """broker.sqlite is made first: alone, events.sqlite says that somebody took the messages away."""
    if _is_empty(database) and not _is_empty(events_database):
        raise Unusable(
            f"{database}: is missing or empty, and {events_database.name} beside it is not: a hive's messages are "
            "gone. To go back to a backup: hivectl restore; to begin anew, move the other file away, too"
        )


def _is_empty(file: Path) -> bool:
    return not file.exists() or file.stat().st_size == 0


def _check_sound(connection: sqlite3.Connection, file: Path) -> None:
    """Look through a file that is small, or that was doubted, before anything is done with it."""
    if file.stat().st_size > soundness.CHECKED_FIRST_BYTES_MAX and not folder.is_doubted(file.parent):
        return
    found = soundness.faults(connection)
    if found:
        raise soundness.unusable(file, found)


def _check_known(made: Database, steps: Migrations, file: Path) -> None:
    """Unusable when steps were taken that this version does not know."""
    with closing(sqlite3.connect(":memory:")) as nothing:
        own = {step.name for step in steps.pending(Database(nothing, execute_plugins=False))}
    unknown = [step.name for step in steps.applied(made) if step.name not in own]
    if unknown:
        (number,) = made.conn.execute("PRAGMA user_version").fetchone()
        raise Unusable(
            f"{file}: was written by hyperhive {version_of(number)}, and this is {VERSION}, which does not know "
            f"{unknown[0]}; install {version_of(number)} or a newer one, or go back to a backup that was made "
            "before: hivectl restore"
        )


def _sign(connection: sqlite3.Connection) -> None:
    """Note the newest version that wrote here."""
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    if number < VERSION_NUMBER:
        connection.execute(f"PRAGMA user_version = {VERSION_NUMBER}")


def number_of(version: str) -> int:
    """`1.2.3` as the whole number that a file keeps."""
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    return (major * 1_000 + minor) * 1_000 + patch


VERSION_NUMBER: Final = number_of(VERSION)


def version_of(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"
