"""brokerd killed while ten thousand reminders fire: whatever was half done is done once, by the next one."""

import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trio

from brokerd.live.scheduler import FIRED_PER_JOB_MAX
from protocol.reminders import Every, Once
from runtime.clock import now_ms
from tests.brokerd.hive import Hive, Privd, cage
from tests.brokerd.test_service import Process
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole, pytest.mark.slow]

AGENTS = ("iris", "atlas")
REMINDERS = 10_000  # half for each agent: their inboxes hold as many
KILLS = 3
INSERT = (
    "INSERT INTO reminders (agent, set_by, body, schedule, recurs, state, created_ms, changed_ms, next_ms) "
    "VALUES (?1, 'operator', 'look', ?2, instr(?2, 'once') = 0, 'active', 1, 1, ?3)"
)
FIRED = "SELECT count(*) FROM messages WHERE event = 'reminder'"
TWICE = "SELECT about FROM messages WHERE event = 'reminder' GROUP BY about HAVING count(*) > 1"
WHOLE = (
    "SELECT count(*) FROM messages AS m JOIN occurrences AS o ON o.message = m.id AND o.reminder = m.about "
    "JOIN deliveries AS d ON d.id >> 7 = m.id JOIN reminders AS r ON r.id = m.about AND r.waiting = m.id "
    "WHERE o.state = 'waiting' AND d.state = 'queued' AND r.attempted = 1"
)
OCCURRED = "SELECT count(*) FROM occurrences"
LEFT = "SELECT count(*) FROM reminders WHERE state = 'active' AND next_ms <= ?"


@pytest.fixture
async def hive_on_disk() -> AsyncIterator[Hive]:
    """On the real disk: what is killed must have reached it."""
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        hive = Hive(Path(folder), Privd(Path(folder)))
        for name in ("hm1nd", *AGENTS):
            hive.privd.change(cage(name))
        async with hive.privd.serving():
            yield hive
        await hive.forget_connections()


def insert(hive: Hive, at_ms: int) -> None:
    """Half of them come once, half every day; both were missed for a while."""
    schedules = (
        msgspec.json.encode(Once(at_ms)),
        msgspec.json.encode(Every(86_400, at_ms)),
    )
    with closing(sqlite3.connect(hive.settings.database)) as db, db:
        db.executemany(INSERT, ((AGENTS[n % 2], schedules[n // 2 % 2], at_ms) for n in range(REMINDERS)))


def count(hive: Hive, query: str, *values: int) -> int:
    with hive.reader() as db:
        found: int = db.execute(query, values).fetchone()[0]
    return found


async def test_killed_in_the_middle_each_fires_once(hive_on_disk: Hive) -> None:
    hive = hive_on_disk
    async with hive.broker():
        pass
    at_ms = now_ms() - 3_600_000
    insert(hive, at_ms)
    process = Process(hive)
    seen = [0]
    async with trio.open_nursery() as nursery:
        for _ in range(KILLS):
            running = await process.start(nursery)
            fired = await until(lambda: max(0, count(hive, FIRED) - seen[-1]), what="the first batch")
            running.kill()
            await running.wait()
            seen.append(count(hive, FIRED))
            assert seen[-1] % FIRED_PER_JOB_MAX == 0
            assert seen[-1] >= seen[-2] + fired
            assert count(hive, WHOLE) == count(hive, OCCURRED) == seen[-1]
        assert 0 < seen[1] < REMINDERS, "killed too late to say anything"
        running = await process.start(nursery)
        await until(lambda: count(hive, LEFT, now_ms()) == 0, what="all reminders fired")
        running.terminate()
        await running.wait()
    with hive.reader() as db:
        assert db.execute(TWICE).fetchall() == []
    assert count(hive, FIRED) == count(hive, WHOLE) == count(hive, OCCURRED) == REMINDERS
