"""One connection to freshly made databases, as the writer has it, and a log for each job."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import pytest

from brokerd.store import agents, feed, schema
from brokerd.store.agents import Known
from brokerd.store.feed import Entry, FeedLog
from protocol.settings import AgentRole, AgentSettings
from runtime.store import Db, StoreShape, connect

P = ParamSpec("P")
T = TypeVar("T")


def shape_in(folder: Path) -> StoreShape:
    return schema.shape_of(folder / "broker.sqlite", folder / "events.sqlite")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> StoreShape:
    made = shape_in(tmp_path_factory.mktemp("migrated"))
    schema.migrate(made.path, made)
    return made


@pytest.fixture
def shape(migrated: StoreShape, tmp_path: Path) -> StoreShape:
    """Databases that are new; made once and copied."""
    copied = shape_in(tmp_path)
    for source, target in (
        (migrated.path, copied.path),
        (migrated.attached["broker"], copied.attached["broker"]),
    ):
        shutil.copyfile(source, target)
    return copied


@pytest.fixture
def db(shape: StoreShape) -> Iterator[Db]:
    """Not durable: no test of these functions cuts the power."""
    with closing(connect(shape)) as connection:
        connection.execute("PRAGMA main.synchronous = OFF")
        connection.execute("PRAGMA broker.synchronous = OFF")
        feed.open_feed(connection, "boot")
        yield connection


class Writer:
    """Runs jobs as brokerd does; keeps what they told the feed. `now_ms` is the time of the next."""

    def __init__(self, db: Db) -> None:
        self.db = db
        self.now_ms = 1_000
        self.told: list[Entry] = []

    def __call__(self, job: Callable[Concatenate[Db, FeedLog, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        log = FeedLog(self.db, self.now_ms)
        self.db.execute("SAVEPOINT job")
        try:
            result = job(self.db, log, *args, **kwargs)
            log.flush(durable=True)
        except BaseException:
            self.db.execute("ROLLBACK TO job")
            raise
        finally:
            self.db.execute("RELEASE job")
        self.told += log.entries
        return result

    def kinds(self) -> list[str]:
        """What was told since the last time, by kind."""
        kinds = [type(entry.body).__name__ for entry in self.told]
        self.told.clear()
        return kinds


@pytest.fixture
def write(db: Db) -> Writer:
    writer = Writer(db)
    settings = (
        AgentSettings(name="hm1nd", role=AgentRole.MANAGER),
        AgentSettings("iris"),
        AgentSettings("atlas"),
    )
    writer(agents.know, [Known(each.name, 70_001, each) for each in settings])
    writer.told.clear()
    return writer
