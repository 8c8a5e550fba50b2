"""sqlite for a daemon: one writer thread with group commit, and a small pool of readers.

    store = await open_store(path, …)
    message_id = await store.write(messages.insert, message)    insert(db, message) runs in the writer's transaction
    page = await store.read(messages.newest, 100)                on a read-only connection, in a reader's thread

The writer takes every job that waits (up to GROUP_JOBS_MAX), runs them in one `BEGIN IMMEDIATE … COMMIT`, each in
its own savepoint so that a failing job fails alone, and wakes the callers only after the commit: what was
acknowledged is on disk (`WAL`, `synchronous=FULL`). A commit that fails, fails every job in it and ends the daemon:
a disk whose fsync failed is not to be trusted with the next one.
"""

import queue
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import outcome
import trio

from protocol.problem import Problem, Refused

P = ParamSpec("P")
T = TypeVar("T")

GROUP_JOBS_MAX: Final = 256
WAITING_JOBS_MAX: Final = 8_192
READERS_MAX: Final = 4
BUSY_TIMEOUT_MS: Final = 5_000
SWITCH_INTERVAL_S: Final = 0.0002
"""A writer thread beside a busy loop waits for the interpreter lock this long at most (the default starves it)."""

Db = sqlite3.Connection


class CommitFailed(Exception):
    """The disk did not take a commit. Nothing of it was acknowledged; the daemon must end."""


@dataclass(slots=True)
class _Job:
    run: Callable[[Db], Any]
    task: trio.lowlevel.Task
    """Who waits for it."""


@dataclass(frozen=True)
class StoreShape:
    """What a database file is: its pragmas and the databases attached to it, by name."""

    path: Path
    attached: Mapping[str, Path] = field(default_factory=dict[str, Path])
    relaxed: frozenset[str] = frozenset()
    """Attached databases that may lose their last moments in a power cut (`synchronous=NORMAL`).

    A job's rows in two files are committed one file after the other: a reader, or a power cut, may come in between.
    """


class Store:
    """A handle for tasks; made by `open_store`."""

    def __init__(self, shape: StoreShape) -> None:
        self._shape = shape
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting = trio.CapacityLimiter(WAITING_JOBS_MAX)
        self._readers: queue.SimpleQueue[Db] = queue.SimpleQueue()
        self._reading = trio.CapacityLimiter(READERS_MAX)
        self._reader_threads = trio.CapacityLimiter(READERS_MAX)
        self._broken: BaseException | None = None
        self.failed = trio.Event()
        """Set when a commit failed: the daemon must end."""

    @property
    def fault(self) -> BaseException | None:
        """What ended this store; None while it works."""
        return self._broken

    async def write(self, job: Callable[Concatenate[Db, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `job(db, …)` in the writer's next transaction and return its result once that is on disk.

        Shielded from the moment it is queued: a caller that is cancelled has either stored nothing or stored it whole.
        """
        async with self._waiting:
            return await self._queued(lambda db: job(db, *args, **kwargs))

    async def _queued(self, run: Callable[[Db], T]) -> T:
        if self._broken is not None:
            raise CommitFailed("the database failed earlier") from self._broken
        self._jobs.put(_Job(run, trio.lowlevel.current_task()))

        def keep_waiting(_: Any) -> trio.lowlevel.Abort:
            return trio.lowlevel.Abort.FAILED

        result: T = await trio.lowlevel.wait_task_rescheduled(keep_waiting)
        return result

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
            finally:
                self._readers.put(db)

        async with self._reading:
            return await trio.to_thread.run_sync(run, limiter=self._reader_threads)

    def _serve_jobs(self, db: Db) -> None:
        """The writer thread."""
        stop = False
        while not stop:
            group: list[_Job] = []
            head = self._jobs.get()
            while head is not None:
                group.append(head)
                if len(group) >= GROUP_JOBS_MAX:
                    break
                try:
                    head = self._jobs.get_nowait()
                except queue.Empty:
                    break
            else:
                stop = True
            if group:
                self._commit(db, group)
        db.close()

    def _commit(self, db: Db, group: list[_Job]) -> None:
        results: list[outcome.Outcome[Any]] = []
        try:
            if self._broken is not None:
                raise CommitFailed("the database failed earlier") from self._broken
            db.execute("BEGIN IMMEDIATE")
            results.extend(_run_in_savepoint(db, job.run) for job in group)
            db.execute("COMMIT")
        except BaseException as error:
            self._undo(db, error)
            results = [outcome.Error(_not_stored(error)) for _ in group]
        self._token.run_sync_soon(self._tell, group, results)

    def _tell(self, group: list[_Job], results: list[outcome.Outcome[Any]]) -> None:
        """In the event loop, once for a whole group: to wake the loop costs the writer more than a small job."""
        if self._broken is not None:
            self.failed.set()
        for job, result in zip(group, results, strict=True):
            trio.lowlevel.reschedule(job.task, result)

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
        db = connect(self._shape)
        for _ in range(READERS_MAX):
            self._readers.put(connect(self._shape, read_only=True))
        writer = threading.Thread(target=self._serve_jobs, args=(db,), name=f"writer:{self._shape.path.name}")
        writer.start()
        return writer

    def close(self, writer: threading.Thread) -> None:
        """End the writer after what is queued, and close the readers."""
        self._jobs.put(None)
        writer.join()
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
            await trio.to_thread.run_sync(store.close, writer)


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


def _run_in_savepoint(db: Db, run: Callable[[Db], Any]) -> outcome.Outcome[Any]:
    db.execute("SAVEPOINT job")
    try:
        result = run(db)
    except Exception as error:
        if not db.in_transaction:
            raise
        db.execute("ROLLBACK TO job")
        db.execute("RELEASE job")
        return outcome.Error(_not_stored(error) if _is_full(error) else error)
    db.execute("RELEASE job")
    return outcome.Value(result)


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
