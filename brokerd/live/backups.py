"""Backups while brokerd serves: one at a time, in a thread of their own, at a request and each night."""

import sqlite3
import time
from datetime import datetime
from pathlib import Path
from typing import Final

import trio

from brokerd.live.room import Room
from brokerd.policy import backups as policy
from brokerd.policy import room as space_policy
from brokerd.settings import BrokerSettings
from brokerd.store import backup, folder, schema
from brokerd.store.backup import Manifest
from protocol.brokerd import BackedUp
from protocol.problem import Problem, Refused
from runtime.clock import now_ms
from runtime.log import Log

LOOK_S: Final = 600.0
"""How often it is asked whether the night's backup is due."""
PAUSE_S: Final = 0.002
"""After each MiB: whoever commits meanwhile finds the disk free."""


class Backups:
    """The folder of backups below brokerd's own."""

    def __init__(self, settings: BrokerSettings, room: Room, log: Log) -> None:
        self._folder = Path(settings.state) / folder.BACKUPS
        self._shape = schema.shape_of(settings.database, settings.events_database)
        self._kept = settings.storage.backups_kept
        self._room = room
        self._log = log
        self._is_making = False

    async def make(self) -> BackedUp:
        """A new backup, on disk. Refused: `conflict` while another is being made, `storage_full`, `failed`."""
        if self._is_making:
            raise Refused(Problem.CONFLICT, "a backup is being made already; wait for it")
        self._is_making = True
        try:
            return await self._make(now_ms())
        finally:
            self._is_making = False

    async def _make(self, at_ms: int) -> BackedUp:
        space_policy.check_copy(self._room.databases_bytes(), *self._room.space())
        name = policy.name_for(at_ms, await trio.to_thread.run_sync(backup.names, self._folder))
        try:
            made: Manifest = await trio.to_thread.run_sync(
                backup.make, self._shape, self._folder, name, at_ms, _pause
            )
            gone = await trio.to_thread.run_sync(backup.clear, self._folder, self._kept)
        except (OSError, sqlite3.Error) as error:
            raise Refused(Problem.FAILED, f"the backup was not made: {error}") from error
        self._log.info("backed up", backup=name, bytes=made.bytes, removed=gone)
        return BackedUp(name, made.bytes, at_ms)

    async def make_nightly(self) -> None:
        """For ever: the night's backup, once; also by day, where the machine was off at night."""
        while self._kept:
            await trio.sleep(LOOK_S)
            try:
                await self.make_if_due()
            except Refused as refused:
                self._log.error("the night's backup was not made", reason=str(refused))

    async def make_if_due(self) -> BackedUp | None:
        """The night's backup, unless there is one already."""
        newest_ms = await trio.to_thread.run_sync(backup.newest_ms, self._folder)
        newest = None if newest_ms is None else _local(newest_ms)
        return await self.make() if policy.is_due(_local(now_ms()), newest) else None

    async def size(self) -> int:
        """The bytes of all backups."""
        return await trio.to_thread.run_sync(backup.size_of, self._folder)


def _local(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000).astimezone()


def _pause() -> None:
    """In the thread: let others at the disk, and end when the daemon does."""
    trio.from_thread.check_cancelled()
    time.sleep(PAUSE_S)
