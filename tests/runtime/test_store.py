"""The store on real files: group commit, jobs that fail alone, writers that are cancelled, disks that are full."""

import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest
import trio

from protocol.problem import Problem, Refused
from runtime.store import GROUP_JOBS_MAX, CommitFailed, Db, Store, StoreShape, connect, is_damage, open_store

CHECKOUT = Path(__file__).parents[2]
SCHEMA = "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)"

pytestmark = pytest.mark.anyio  # of the coroutines among these


def migrate(path: Path, shape: StoreShape) -> None:
    db = connect(shape)
    db.execute(SCHEMA)
    db.close()


def insert(db: Db, text: str) -> int:
    """One note; its id."""
    row: int = db.execute("INSERT INTO notes (text) VALUES (?) RETURNING id", (text,)).fetchone()[0]
    return row


def insert_twice_and_fail(db: Db, text: str) -> None:
    insert(db, text)
    insert(db, text)
    raise ZeroDivisionError("after two rows")


def texts(db: Db) -> list[str]:
    return [row["text"] for row in db.execute("SELECT text FROM notes ORDER BY id")]


def count(db: Db) -> int:
    number: int = db.execute("SELECT count(*) FROM notes").fetchone()[0]
    return number


@asynccontextmanager
async def notes(folder: Path) -> AsyncIterator[Store]:
    async with open_store(StoreShape(folder / "notes.sqlite"), migrate) as store:
        yield store


def stored(folder: Path) -> list[str]:
    """What a new process would find."""
    db = connect(StoreShape(folder / "notes.sqlite"))
    try:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return texts(db)
    finally:
        db.close()


class Gate:
    """A job that holds the writer until it is opened, so that others gather behind it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()
        self.statements: list[str] = []

    def hold(self, db: Db) -> None:
        db.set_trace_callback(self.statements.append)
        self.entered.set()
        assert self._open.wait(20)

    def open(self) -> None:
        self._open.set()

    def commits(self) -> int:
        return self.statements.count("COMMIT")


@asynccontextmanager
async def held(store: Store) -> AsyncIterator[tuple[Gate, trio.Nursery]]:
    """A nursery whose writes gather behind a held writer; it is let go at the end of the block."""
    gate = Gate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.write, gate.hold)
        await trio.to_thread.run_sync(gate.entered.wait, 20)
        yield gate, nursery
        await trio.testing.wait_all_tasks_blocked()
        gate.open()


# writing and reading


async def test_what_was_written_can_be_read_and_stays(tmp_path: Path) -> None:
    async with notes(tmp_path) as store:
        first = await store.write(insert, "first")
        second = await store.write(insert, text="second")
        assert second == first + 1
        assert await store.read(texts) == ["first", "second"]
    assert stored(tmp_path) == ["first", "second"]


async def test_the_pragmas_are_those_of_this_house(tmp_path: Path) -> None:
    def pragmas(db: Db) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "query_only")
        return {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    async with notes(tmp_path) as store:
        written = await store.write(pragmas)
        assert written == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "query_only": 0}
        assert (await store.read(pragmas))["query_only"] == 1


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    async with notes(tmp_path) as store:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await store.read(insert, "sneaked in")
        assert await store.read(count) == 0


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "ä b"])
async def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    async with notes(tmp_path / name) as store:
        await store.write(insert, "x")
        assert await store.read(count) == 1
    assert (tmp_path / name / "notes.sqlite").exists()


async def test_a_schema_that_cannot_be_brought_up_to_date_opens_nothing(tmp_path: Path) -> None:
    def refuse(path: Path, shape: StoreShape) -> None:
        raise ValueError("from the future")

    threads = threading.active_count()
    with pytest.raises(ValueError, match="from the future"):
        async with open_store(StoreShape(tmp_path / "notes.sqlite"), refuse):
            raise AssertionError("opened")
    assert threading.active_count() <= threads + 1  # the thread pool may keep the one that migrated


async def test_closing_waits_for_what_is_queued(tmp_path: Path) -> None:
    async with notes(tmp_path) as store:
        async with held(store) as (_, nursery):
            for number in range(50):
                nursery.start_soon(store.write, insert, str(number))
    assert len(stored(tmp_path)) == 50
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("writer:")]


# group commit


async def test_writers_that_wait_together_share_a_commit(tmp_path: Path) -> None:
    async with notes(tmp_path) as store, held(store) as (gate, nursery):
        for number in range(200):
            nursery.start_soon(store.write, insert, str(number))
    assert gate.commits() == 2  # the holder's, and one for all
    assert sorted(stored(tmp_path), key=int) == [str(number) for number in range(200)]


async def test_a_group_has_a_bound(tmp_path: Path) -> None:
    async with notes(tmp_path) as store, held(store) as (gate, nursery):
        for number in range(GROUP_JOBS_MAX + 1):
            nursery.start_soon(store.write, insert, str(number))
    assert gate.commits() == 3


async def test_nobody_is_told_before_the_commit(tmp_path: Path) -> None:
    told: list[int] = []
    seen: list[int] = []

    async def write(text: str) -> None:
        told.append(await store.write(insert, text))

    async with notes(tmp_path) as store, held(store) as (_, nursery):
        outside = connect(StoreShape(tmp_path / "notes.sqlite"), read_only=True)
        for number in range(5):
            nursery.start_soon(write, str(number))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(store.write, lambda db: seen.extend((len(told), count(db), count(outside))))
    outside.close()
    assert seen == [0, 5, 0]
    assert len(told) == 5


async def test_a_failing_job_fails_alone_and_leaves_nothing(tmp_path: Path) -> None:
    failed: list[str] = []

    async def fail(text: str) -> None:
        with pytest.raises(ZeroDivisionError, match="after two rows"):
            await store.write(insert_twice_and_fail, text)
        failed.append(text)

    async def write(text: str) -> None:
        await store.write(insert, text)

    async with notes(tmp_path) as store, held(store) as (gate, nursery):
        for number in range(10):
            nursery.start_soon(fail if number % 3 == 0 else write, str(number))
    assert gate.commits() == 2
    assert sorted(failed) == ["0", "3", "6", "9"]
    assert sorted(stored(tmp_path)) == ["1", "2", "4", "5", "7", "8"]


async def test_a_refusal_of_a_job_reaches_its_caller(tmp_path: Path) -> None:
    def refuse(db: Db) -> None:
        insert(db, "never")
        raise Refused(Problem.CONFLICT, "not now")

    async with notes(tmp_path) as store:
        with pytest.raises(Refused, match="conflict: not now"):
            await store.write(refuse)
        with pytest.raises(sqlite3.IntegrityError):
            await store.write(lambda db: db.execute("INSERT INTO notes (text) VALUES (NULL)"))
        assert await store.read(count) == 0
        assert not store.failed.is_set()


@pytest.mark.parametrize("seed", range(5))
async def test_a_cancelled_writer_stored_all_or_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    done: set[str] = set()

    def two_rows(db: Db, text: str) -> None:
        insert(db, text)
        insert(db, text)

    async def write(text: str, within_s: float) -> None:
        with trio.move_on_after(within_s):
            await store.write(two_rows, text)
            done.add(text)

    async with notes(tmp_path) as store, trio.open_nursery() as nursery:
        for number in range(300):
            nursery.start_soon(write, str(number), chance.choice([0.0, chance.uniform(0, 0.02), 5.0]))
            if chance.random() < 0.2:
                await trio.sleep(chance.uniform(0, 0.002))
    found = stored(tmp_path)
    assert {found.count(text) for text in found} <= {2}
    assert done <= set(found)
    assert len(done) < 300


async def test_readers_never_see_half_of_a_job(tmp_path: Path) -> None:
    def pair(db: Db, text: str) -> None:
        insert(db, text)
        insert(db, text)

    def count_twice(db: Db) -> tuple[int, int]:
        first = count(db)
        for _ in range(2_000):  # time for the writer to go on
            db.execute("SELECT 1").fetchone()
        return first, count(db)

    over = trio.Event()
    seen: list[tuple[int, int]] = []

    async def read() -> None:
        while not over.is_set():
            seen.append(await store.read(count_twice))

    async with notes(tmp_path) as store, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(read)
        while len(seen) < 40:
            await store.write(pair, "x")
        over.set()
    assert all(first == second and first % 2 == 0 for first, second in seen)
    assert len({first for first, _ in seen}) > 5


async def test_a_job_spans_the_attached_databases(tmp_path: Path) -> None:
    shape = StoreShape(
        tmp_path / "notes.sqlite", {"events": tmp_path / "events.sqlite"}, frozenset({"events"})
    )

    def migrate_both(path: Path, shape: StoreShape) -> None:
        db = connect(shape)
        db.execute(SCHEMA)
        db.execute("CREATE TABLE events.happened (text TEXT)")
        db.close()

    def write(db: Db, text: str, *, fail: bool) -> None:
        insert(db, text)
        db.execute("INSERT INTO events.happened VALUES (?)", (text,))
        if fail:
            raise ZeroDivisionError

    def read(db: Db) -> list[list[str]]:
        return [texts(db), [row[0] for row in db.execute("SELECT text FROM events.happened")]]

    def pragmas(db: Db) -> list[object]:
        return [
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("events.journal_mode", "main.synchronous", "events.synchronous")
        ]

    async with open_store(shape, migrate_both) as store:
        await store.write(write, "kept", fail=False)
        with pytest.raises(ZeroDivisionError):
            await store.write(write, "undone", fail=True)
        assert await store.read(read) == [["kept"], ["kept"]]
        assert await store.write(pragmas) == ["wal", 2, 1]


# what cannot be stored


async def write_until_it_fails(store: Store, written: list[str]) -> None:
    for number in range(1_000):
        text = f"{number} " + "x" * 5_000
        await store.write(insert, text)
        written.append(text)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.root
async def test_a_full_disk_is_a_refusal_that_may_be_repeated(tmp_path: Path) -> None:
    written: list[str] = []
    with small_disk(tmp_path / "disk") as disk:
        ballast = disk / "ballast"
        async with notes(disk) as store:
            ballast.write_bytes(b"x" * 400_000)
            with pytest.raises(Refused) as caught:
                await write_until_it_fails(store, written)
            assert caught.value.problem is Problem.STORAGE_FULL
            assert len(written) > 5
            assert await store.read(texts) == written
            assert not store.failed.is_set()
            with pytest.raises(Refused, match="storage_full"):
                await store.write(insert, "x" * 100_000)
            ballast.unlink()
            await store.write(insert, "fits again")
        assert stored(disk) == [*written, "fits again"]


@pytest.mark.root
async def test_a_full_disk_fails_everybody_in_the_commit_each_by_its_own(tmp_path: Path) -> None:
    faults: list[Refused] = []

    async def write(store: Store, text: str) -> None:
        try:
            await store.write(insert, text)
        except Refused as refused:
            faults.append(refused)

    with small_disk(tmp_path / "disk") as disk:
        async with notes(disk) as store:
            (disk / "ballast").write_bytes(b"x" * 600_000)
            async with held(store) as (_, nursery):
                for number in range(20):
                    nursery.start_soon(write, store, f"{number} " + "x" * 50_000)
            assert await store.read(count) == 20 - len(faults)
        assert len(stored(disk)) == 20 - len(faults)
    assert len(faults) > 5
    assert len(set(map(id, faults))) == len(faults)


async def test_a_disk_that_fails_a_commit_ends_the_store(tmp_path: Path) -> None:
    written: list[str] = []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN  # Python's own choice
    async with notes(tmp_path) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        try:
            with pytest.raises(CommitFailed) as caught:
                await write_until_it_fails(store, written)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        with trio.fail_after(60):
            await store.failed.wait()
        with pytest.raises(CommitFailed, match="failed earlier"):
            await store.write(insert, "after the end")
        assert await store.read(texts) == written
    assert len(written) > 5
    assert stored(tmp_path) == written


async def test_a_job_that_meddles_with_the_transaction_ends_the_store(tmp_path: Path) -> None:
    faults: list[CommitFailed] = []

    async def write() -> None:
        try:
            await store.write(insert, "in the same group")
        except CommitFailed as fault:
            faults.append(fault)

    async with notes(tmp_path) as store:
        async with held(store) as (_, nursery):
            nursery.start_soon(write)

            async def meddle() -> None:
                with pytest.raises(CommitFailed):
                    await store.write(lambda db: db.execute("ROLLBACK"))

            nursery.start_soon(meddle)
        with trio.fail_after(60):
            await store.failed.wait()
        assert len(faults) == 1
    assert stored(tmp_path) == []


async def test_a_job_that_ends_the_thread_ends_the_store_instead(tmp_path: Path) -> None:
    def leave(db: Db) -> None:
        insert(db, "never")
        raise SystemExit(1)

    async with notes(tmp_path) as store:
        with pytest.raises(CommitFailed) as caught:
            await store.write(leave)
        assert isinstance(caught.value.__cause__, SystemExit)
        with trio.fail_after(60):
            await store.failed.wait()
    assert stored(tmp_path) == []


WRITER = """
import sys, trio
from pathlib import Path
from runtime.store import StoreShape, open_store
from tests.runtime.test_store import insert, migrate

async def main():
    async with open_store(StoreShape(Path(sys.argv[1]) / "notes.sqlite"), migrate) as store:
        async def write(lane):
            number = 0
            while True:
                text = f"{lane}:{number}"
                await store.write(insert, text)
                sys.stdout.write(text + "\\n")
                sys.stdout.flush()
                number += 1
        async with trio.open_nursery() as nursery:
            for lane in range(16):
                nursery.start_soon(write, lane)

trio.run(main)
"""


@pytest.mark.whole
@pytest.mark.parametrize("lines", [1, 100, 3_000])
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, lines: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(lines)]
        writer.kill()
        acknowledged += writer.stdout.readlines()
    whole = {line.strip() for line in acknowledged if line.endswith("\n")}
    found = stored(tmp_path)
    assert whole <= set(found)
    assert len(found) == len(set(found))


# quick jobs


async def test_quick_jobs_that_are_asked_for_together_share_a_commit_without_the_thread(
    tmp_path: Path,
) -> None:
    threads: set[int] = set()
    statements: list[str] = []

    def quick(db: Db, text: str) -> None:
        threads.add(threading.get_ident())
        insert(db, text)

    async with notes(tmp_path) as store:
        await store.write(lambda db: db.set_trace_callback(statements.append))
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(store.write_quickly, quick, str(number))
        assert statements.count("COMMIT") == 2
        assert len(store.look(texts)) == 20
    assert threads == {threading.get_ident()}


async def test_quick_jobs_keep_their_place_behind_others(tmp_path: Path) -> None:
    order: list[str] = []

    def note(db: Db, text: str) -> None:
        order.append(text)

    async with notes(tmp_path) as store, held(store) as (_, nursery):
        for number in range(10):
            nursery.start_soon((store.write if number % 3 else store.write_quickly), note, str(number))
            await trio.testing.wait_all_tasks_blocked()
    assert order == [str(number) for number in range(10)]


async def test_a_slow_disk_is_left_to_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.store.QUICK_COMMIT_S", 0.0)
    async with notes(tmp_path) as store:
        await store.write(insert, "first")
        assert await store.write_quickly(lambda db: threading.get_ident()) != threading.get_ident()


async def test_a_quick_job_that_fails_undoes_nothing_of_the_others(tmp_path: Path) -> None:
    failed: list[str] = []

    def refuse_early(db: Db, text: str) -> None:
        raise Refused(Problem.CONFLICT, text)

    async def fail(job: Callable[[Db, str], None], text: str) -> None:
        with pytest.raises((ZeroDivisionError, Refused)):
            await store.write_quickly(job, text)
        failed.append(text)

    async with notes(tmp_path) as store, trio.open_nursery() as nursery:
        for number in range(12):
            if number % 3:
                nursery.start_soon(store.write_quickly, insert, str(number))
            else:
                nursery.start_soon(fail, insert_twice_and_fail if number % 2 else refuse_early, str(number))
    assert sorted(failed) == ["0", "3", "6", "9"]
    assert sorted(stored(tmp_path), key=int) == ["1", "2", "4", "5", "7", "8", "10", "11"]


async def test_a_look_sees_one_state_and_changes_nothing(tmp_path: Path) -> None:
    async with notes(tmp_path) as store:
        await store.write(insert, "x")
        assert store.look(count) == 1
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            store.look(insert, "sneaked in")
        assert store.look(texts) == ["x"]


@pytest.mark.parametrize("way", ["read", "look", "write"])
async def test_a_damaged_file_ends_the_store_whoever_meets_it(tmp_path: Path, way: str) -> None:
    """One job's failure is not enough: nothing more is to be stored beside what cannot be read."""
    async with notes(tmp_path) as store:
        await store.write(insert, "x" * 100_000)
        await store.write(lambda db: None)
        file = tmp_path / "notes.sqlite"
        with closing(sqlite3.connect(file)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        file.write_bytes(file.read_bytes()[:4_096] + b"\xff" * (file.stat().st_size - 4_096))

        async def meet() -> None:
            if way == "look":
                store.look(texts)
            else:
                await (store.read(texts) if way == "read" else store.write(texts))

        with pytest.raises((sqlite3.DatabaseError, CommitFailed)):
            await meet()
        with trio.fail_after(60):
            await store.failed.wait()
        assert is_damage(store.fault)
        with pytest.raises(CommitFailed):
            await store.write(insert, "after the end")
