"""sqlite for a daemon: one writer thread with group commit, and a small pool of readers.

    store = await open_store(path, …)
    message_id = await store.write(messages.insert, message)    insert(db, message) runs in the writer's transaction
    page = await store.read(messages.newest, 100)                on a read-only connection, in a reader's thread
    row = store.look(deliveries.first, "iris")                   the same at once, in the event loop: a row or two

One connection writes. It takes every job that waits (up to GROUP_JOBS_MAX), runs them in one `BEGIN IMMEDIATE …
COMMIT`, and wakes the callers only after the commit: what was acknowledged is on disk (`WAL`, `synchronous=FULL`).
A job that fails, fails alone: the group is rolled back and run again, each job in its own savepoint. So a job may be
run twice, and must leave nothing behind but rows. A commit that fails, fails every job in it and ends the daemon: a
disk whose fsync failed is not to be trusted with the next one.

Groups are written by a thread, except those of `quick` jobs alone on a disk that is quick: to hand them over and back
takes longer than to write them (docs/decisions/0016). Either way there is one group at a time, in the order of asking.
"""

import queue
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import trio

from protocol.problem import Problem, Refused
from runtime.later import Later, soon
from runtime.outcomes import Error, Outcome, Value

P = ParamSpec("P")
T = TypeVar("T")

GROUP_JOBS_MAX: Final = 256
WAITING_JOBS_MAX: Final = 8_192
READERS_MAX: Final = 4
BUSY_TIMEOUT_MS: Final = 5_000
QUICK_COMMIT_S: Final = 0.02
"""A disk that takes longer than this for a commit is left to the thread."""
COMMIT_WEIGHT: Final = 0.1
"""How much the newest commit counts in what they take on average."""
SWITCH_INTERVAL_S: Final = 0.0002
"""A writer thread beside a busy loop waits for the interpreter lock this long at most (the default starves it)."""

DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""sqlite's codes of a file that it cannot make sense of."""

Db = sqlite3.Connection


class CommitFailed(Exception):
    """The disk did not take a commit. Nothing of it was acknowledged; the daemon must end."""


def quick(job: Callable[Concatenate[Db, P], T]) -> Callable[Concatenate[Db, P], T]:
    """Mark a job that changes few rows, found by their keys: the event loop may wait for it."""
    _quick.add(job)
    return job


def is_quick(job: Callable[..., Any]) -> bool:
    return job in _quick


_quick: set[Callable[..., Any]] = set()


@dataclass(slots=True)
class _Job:
    run: Callable[[Db], Any]
    told: Later[Any]
    is_quick: bool


@dataclass(frozen=True)
class StoreShape:
    """What a database file is: its pragmas and the databases attached to it, by name."""

    path: Path
    attached: Mapping[str, Path] = field(default_factory=dict[str, Path])
    relaxed: frozenset[str] = frozenset()
    """Attached databases that may lose their last moments in a power cut (`synchronous=NORMAL`).

    A job's rows in two files are committed one file after the other: a reader, or a power cut, may come in between.
    """


class GroupEnd(Protocol):
    """What writes once for all jobs of a group, at its end."""

    def begin(self) -> None:
        """A group begins, perhaps the same one a second time: forget what the last one left."""

    def write(self, db: Db) -> None:
        """All jobs were run; the commit follows."""


class Store:
    """A handle for tasks; made by `open_store`."""

    def __init__(self, shape: StoreShape) -> None:
        self._shape = shape
        self._jobs: deque[_Job] = deque()
        self._groups: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._is_writing = False
        """Whether the writer thread has a group."""
        self._is_due = False
        """Whether the next group is about to be taken."""
        self._commit_s = 0.0
        """What the last commits took, the newest weighing most."""
        self._waiting = trio.CapacityLimiter(WAITING_JOBS_MAX)
        self._readers: queue.SimpleQueue[Db] = queue.SimpleQueue()
        self._reading = trio.CapacityLimiter(READERS_MAX)
        self._reader_threads = trio.CapacityLimiter(READERS_MAX)
        self._broken: BaseException | None = None
        self.group_ends: list[GroupEnd] = []
        self.failed = trio.Event()
        """Set when a commit failed, or a file was found damaged: the daemon must end."""

    @property
    def fault(self) -> BaseException | None:
        """What ended this store; None while it works."""
        return self._broken

    async def write(self, job: Callable[Concatenate[Db, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `job(db, …)` in the writer's next transaction and return its result once that is on disk.

        Shielded from the moment it is queued: a caller that is cancelled has either stored nothing or stored it whole.
        """
        async with self._waiting:
            return await self._queued(lambda db: job(db, *args, **kwargs), is_quick=False)

    async def write_quickly(
        self, job: Callable[Concatenate[Db, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same for a job of few rows, which the event loop may do itself. Needs no task to be awaited in."""
        return await self._queued(lambda db: job(db, *args, **kwargs), is_quick=True)

    def _queued(self, run: Callable[[Db], T], *, is_quick: bool) -> Later[T]:
        if self._broken is not None:
            raise CommitFailed("the database failed earlier") from self._broken
        return self._put(run, is_quick=is_quick)

    def _put(self, run: Callable[[Db], T], *, is_quick: bool) -> Later[T]:
        told: Later[T] = Later(is_shielded=True)
        self._jobs.append(_Job(run, told, is_quick))
        self._take_soon()
        return told

    def _take_soon(self) -> None:
        """Whoever asks in the meantime comes along."""
        if not self._is_writing and not self._is_due:
            self._is_due = True
            soon(self._take_group)

    def _take_group(self) -> None:
        self._is_due = False
        group = [self._jobs.popleft() for _ in range(min(len(self._jobs), GROUP_JOBS_MAX))]
        if self._commit_s < QUICK_COMMIT_S and all(job.is_quick for job in group):
            self._tell(group, self._commit(self._db, group))
        else:
            self._is_writing = True
            self._groups.put(group)

    async def read(self, job: Callable[Concatenate[Db, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `job(db, …)` on a read-only connection, in one snapshot of the database."""

        def run() -> T:
            db = self._readers.get()
            try:
                db.execute("BEGIN")
                try:
                    return job(db, *args, **kwargs)
                finally:
                    db.execute("ROLLBACK")
            except sqlite3.DatabaseError as error:
                self._token.run_sync_soon(self._mind, error)
                raise
            finally:
                self._readers.put(db)

        async with self._reading:
            return await trio.to_thread.run_sync(run, limiter=self._reader_threads)

    def look(self, job: Callable[Concatenate[Db, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, at once and in the event loop: for a row or two, found by their keys."""
        self._looking.execute("BEGIN")
        try:
            return job(self._looking, *args, **kwargs)
        except sqlite3.DatabaseError as error:
            self._mind(error)
            raise
        finally:
            self._looking.execute("ROLLBACK")

    def _mind(self, error: sqlite3.DatabaseError) -> None:
        """Nothing more is stored in a file that is damaged."""
        if is_damage(error) and self._broken is None:
            self._broken = error
            self.failed.set()

    def _serve_groups(self) -> None:
        """The writer thread."""
        while (group := self._groups.get()) is not None:
            results = self._commit(self._db, group)
            self._token.run_sync_soon(self._tell, group, results)

    def _commit(self, db: Db, group: list[_Job]) -> list[Outcome[Any]]:
        results: list[Outcome[Any]] | None
        try:
            if self._broken is not None:
                raise CommitFailed("the database failed earlier") from self._broken
            self._begin(db)
            results = _run_together(db, group)
            if results is None:
                db.execute("ROLLBACK")
                self._begin(db)
                results = [_run_in_savepoint(db, job.run) for job in group]
            for end in self.group_ends:
                end.write(db)
            began = time.monotonic()
            db.execute("COMMIT")
            self._commit_s += (time.monotonic() - began - self._commit_s) * COMMIT_WEIGHT
        except BaseException as error:
            self._undo(db, error)
            results = [Error(_not_stored(error)) for _ in group]
        return results

    def _begin(self, db: Db) -> None:
        db.execute("BEGIN IMMEDIATE")
        for end in self.group_ends:
            end.begin()

    def _tell(self, group: list[_Job], results: list[Outcome[Any]]) -> None:
        """In the event loop, once for a whole group: to wake the loop costs the writer more than a small job."""
        self._is_writing = False
        if self._broken is not None:
            self.failed.set()
        if self._jobs:
            self._take_soon()
        for job, result in zip(group, results, strict=True):
            job.told.end(result)

    def _undo(self, db: Db, error: BaseException) -> None:
        """Leave no transaction open; whatever is not a full disk is the end of this store."""
        try:
            if db.in_transaction:
                db.execute("ROLLBACK")
        except sqlite3.Error as worse:
            self._broken = worse
        if self._broken is None and not _is_full(error):
            self._broken = error

    def start(self) -> threading.Thread:
        """Open the connections and start the writer; called by `open_store` inside trio."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._token = trio.lowlevel.current_trio_token()
        self._db = connect(self._shape)
        self._looking = connect(self._shape, read_only=True)
        for _ in range(READERS_MAX):
            self._readers.put(connect(self._shape, read_only=True))
        writer = threading.Thread(target=self._serve_groups, name=f"writer:{self._shape.path.name}")
        writer.start()
        return writer

    async def close(self, writer: threading.Thread) -> None:
        """End the writer after what is queued, and close the connections."""
        if self._jobs or self._is_writing:
            with suppress(CommitFailed):  # whoever asked was told, and `failed` is set
                await self._put(_nothing, is_quick=False)
        self._groups.put(None)
        await trio.to_thread.run_sync(writer.join)
        self._db.close()
        self._looking.close()
        for _ in range(READERS_MAX):
            self._readers.get().close()


@asynccontextmanager
async def open_store(shape: StoreShape, migrate: Callable[[Path, StoreShape], None]) -> AsyncIterator[Store]:
    """Bring the schema up to date, then open the store. `migrate` runs before anything else touches the file."""
    await trio.to_thread.run_sync(migrate, shape.path, shape)
    store = Store(shape)
    writer = store.start()
    try:
        yield store
    finally:
        with trio.CancelScope(shield=True):
            await store.close(writer)


def connect(shape: StoreShape, *, read_only: bool = False) -> Db:
    """Open one connection with the pragmas of this house. Transactions are explicit (`isolation_level=None`)."""
    mode = "?mode=ro" if read_only else ""
    db = sqlite3.connect(
        f"file:{_quoted(shape.path)}{mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    db.row_factory = sqlite3.Row
    for name, path in shape.attached.items():
        db.execute(f"ATTACH DATABASE ? AS {name}", (f"file:{_quoted(path)}{mode}",))
    for name in ("main", *shape.attached):
        if not read_only:
            db.execute(f"PRAGMA {name}.journal_mode = WAL")
        db.execute(f"PRAGMA {name}.synchronous = {'NORMAL' if name in shape.relaxed else 'FULL'}")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    if read_only:
        db.execute("PRAGMA query_only = ON")
    return db


def _nothing(db: Db) -> None:
    """A job that shows that all before it are done."""


def _run_together(db: Db, group: list[_Job]) -> list[Outcome[Any]] | None:
    """All jobs without a savepoint; None when one failed after it had changed something."""
    results: list[Outcome[Any]] = []
    for job in group:
        changes = db.total_changes
        try:
            results.append(Value(job.run(db)))
        except Exception as error:
            if not db.in_transaction:
                raise
            if db.total_changes != changes or isinstance(error, sqlite3.Error):
                return None
            results.append(Error(error))
        if not db.in_transaction:
            raise CommitFailed("a job ended the transaction that it was in")
    return results


def _run_in_savepoint(db: Db, run: Callable[[Db], Any]) -> Outcome[Any]:
    db.execute("SAVEPOINT job")
    try:
        result = run(db)
    except Exception as error:
        if not db.in_transaction or is_damage(error):
            raise
        db.execute("ROLLBACK TO job")
        db.execute("RELEASE job")
        return Error(_not_stored(error) if _is_full(error) else error)
    db.execute("RELEASE job")
    return Value(result)


def is_damage(error: BaseException | None) -> bool:
    """Whether an error says that a file is not what sqlite wrote."""
    return isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGE


def _is_full(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL


def _not_stored(error: BaseException) -> Exception:
    """What one writer is told: a full disk is a refusal that it may repeat, anything else the end."""
    if _is_full(error):
        return Refused(Problem.STORAGE_FULL, "the disk is full; nothing was stored")
    fault = CommitFailed("the database did not take a commit; nothing of it was stored")
    fault.__cause__ = error
    return fault


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
