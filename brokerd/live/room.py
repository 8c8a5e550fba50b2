"""Room on the disk: nothing new is taken in before it is used up, so that what settles always finds some.

    host.room.admit(bytes)     what is new asks first: storage_full, long before sqlite would say so
    Feed.write                 what settles asks nobody; when the disk takes nothing after all, the ballast is given
                               back and it is tried once more

The disk is looked at once a second and after much was stored, never for each message.
"""

import os
from pathlib import Path
from typing import Final

import trio

from brokerd.policy import room as policy
from brokerd.policy.room import Bounds, Space
from brokerd.settings import BrokerSettings
from brokerd.store import ballast, schema
from protocol.problem import Problem, Refused
from protocol.statistics import Disk
from runtime.log import Log
from runtime.store import Db, Store

LOOK_S: Final = 1.0
COUNT_EVERY_LOOKS: Final = 30
"""How much the databases hold is asked less often: it changes slowly."""
COUNT_PAGES: Final = tuple(
    (f"PRAGMA {name}.page_count", f"PRAGMA {name}.freelist_count", f"PRAGMA {name}.page_size")
    for name in ("main", schema.BROKER)
)
ROW_BYTES_MIN: Final = 4_096
"""What a row costs beside its text, at least."""


def used_bytes(db: Db) -> int:
    """Pages of both databases that hold something: what was deleted is used again before a file grows."""
    used = 0
    for counts in COUNT_PAGES:
        pages, free, page_bytes = (db.execute(count).fetchone()[0] for count in counts)
        used += (pages - free) * page_bytes
    return used


class Room:
    """What is left where brokerd keeps its databases. `fault` says why nothing new is stored; None when it is."""

    def __init__(self, settings: BrokerSettings, log: Log) -> None:
        self.fault: str | None = None
        self._settings = settings
        self._state = Path(settings.state)
        self._log = log
        self._used = 0
        self._unlooked = 0

    def admit(self, size: int) -> None:
        """Let something new of `size` bytes in. Refused: `storage_full`, with what is missing."""
        self._unlooked -= size + ROW_BYTES_MIN
        if self._unlooked < 0:
            self.look()
        self.check()

    def check(self) -> None:
        """Refused: `storage_full` while nothing new is stored."""
        if self.fault is not None:
            raise Refused(Problem.STORAGE_FULL, self.fault)

    def look(self) -> None:
        """See how much is left; said once when that changes what is taken in."""
        space, bounds = self.space()
        fault = policy.fault(space, bounds, was_full=self.fault is not None)
        self._unlooked = policy.UNLOOKED_BYTES_MAX if fault else policy.unlooked_bytes(space, bounds)
        self._judge(fault)

    def _judge(self, fault: str | None) -> None:
        if fault is not None and self.fault is None:
            self._log.error("nothing new is stored any more", reason=fault)
        elif fault is None and self.fault is not None:
            self._log.info("there is room again: messages are stored as before")
        self.fault = fault

    def space(self) -> tuple[Space, Bounds]:
        """The file system as it is now, and what that means for the settings."""
        found = os.statvfs(self._state)
        space = Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, self._used)
        return space, policy.bounds_for(space.total_bytes, self._settings.storage)

    def ran_out(self, *, settling: bool) -> bool:
        """The disk took nothing, whatever it said before. Whether to try again: what settles gets the ballast."""
        self._judge("the disk is full; nothing was stored: free some space")
        self._unlooked = policy.UNLOOKED_BYTES_MAX
        if not settling:
            return False
        if ballast.give_back(self._state):
            self._log.warning("the ballast was given back to the disk, for what settles")
        return True

    async def watch(self, store: Store) -> None:
        """For ever: look, and lay the ballast again once it fits."""
        looks = lay_from = 0
        while True:
            if looks % COUNT_EVERY_LOOKS == 0:
                self._used = await store.read(used_bytes)
            self.look()
            if looks >= lay_from and not ballast.is_laid(self._state) and not await self._lay_ballast():
                lay_from = looks + COUNT_EVERY_LOOKS
            looks += 1
            await trio.sleep(LOOK_S)

    async def _lay_ballast(self) -> bool:
        """Whether it did not fail; that it does not fit is no failure."""
        space, bounds = self.space()
        if policy.may_lay_ballast(space, bounds, is_full=self.fault is not None):
            try:
                await trio.to_thread.run_sync(ballast.lay, self._state, bounds.ballast_bytes)
            except OSError as error:
                self._log.warning("the ballast cannot be laid", error=str(error))
                return False
        return True

    def databases_bytes(self) -> int:
        """The files as they are, and what their logs will add."""
        files = (self._settings.database, self._settings.events_database)
        return sum(_size(file) + _size(_log_of(file)) for file in files)

    def disk(self, backups_bytes: int) -> Disk:
        """The sizes of now, for people."""
        space, bounds = self.space()
        files = (self._settings.database, self._settings.events_database)
        return Disk(
            messages_bytes=_size(files[0]),
            events_bytes=_size(files[1]),
            log_bytes=sum(_size(_log_of(file)) for file in files),
            backups_bytes=backups_bytes,
            free_bytes=space.free_bytes,
            reserve_bytes=bounds.reserve_bytes,
        )


def _log_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
