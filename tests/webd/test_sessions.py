"""Sessions with a clock of their own: lives of links and sessions, what is on disk, and what a restart takes up."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from protocol.problem import Problem, Refused
from runtime.log import logger
from runtime.store import open_store
from webd.policy.sessions import HOUR_MS, LINK_MS, SEEN_EVERY_MS
from webd.sessions import SESSIONS_MAX, STREAMS_MAX, STREAMS_PER_SESSION_MAX, Session, Sessions
from webd.store import schema
from webd.store.sessions import LinkRefused

pytestmark = pytest.mark.anyio

START = 1_000_000_000_000


@dataclass
class Clock:
    ms: int = START

    def __call__(self) -> int:
        return self.ms


@asynccontextmanager
async def sessions_in(folder: Path, clock: Clock) -> AsyncIterator[Sessions]:
    async with open_store(schema.shape(folder), schema.migrate) as store:
        sessions = Sessions(store, clock, logger("test"))
        await sessions.load()
        yield sessions


async def signed_in(sessions: Sessions) -> str:
    code, _ = await sessions.mint_link("ada")
    token, _ = await sessions.sign_in(code, "127.0.0.1", "a browser")
    return token


async def session_of(sessions: Sessions) -> Session:
    session = sessions.find(await signed_in(sessions))
    assert session is not None
    return session


async def test_a_link_lives_five_minutes(tmp_path: Path) -> None:
    clock = Clock()
    async with sessions_in(tmp_path, clock) as sessions:
        code, expires_ms = await sessions.mint_link("ada")
        assert expires_ms == START + LINK_MS == START + 300_000
        clock.ms = expires_ms
        with pytest.raises(LinkRefused, match="this link has expired"):
            await sessions.sign_in(code, "", "")
        clock.ms -= 1
        assert await sessions.sign_in(code, "", "")


async def test_of_two_who_use_a_link_at_once_one_gets_in(tmp_path: Path) -> None:
    async with sessions_in(tmp_path, Clock()) as sessions:
        code, _ = await sessions.mint_link("ada")
        ended: list[str] = []

        async def use() -> None:
            try:
                await sessions.sign_in(code, "", "")
                ended.append("in")
            except LinkRefused as refused:
                ended.append(str(refused))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(use)
    assert sorted(ended) == ["in"] + ["this link was already used"] * 7


async def test_a_used_link_stays_used_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    async with sessions_in(tmp_path, clock) as sessions:
        code, _ = await sessions.mint_link("ada")
        fresh, _ = await sessions.mint_link("ada")
        await sessions.sign_in(code, "", "")
    async with sessions_in(tmp_path, clock) as sessions:
        with pytest.raises(LinkRefused, match="already used"):
            await sessions.sign_in(code, "", "")
        assert await sessions.sign_in(fresh, "", "")


async def test_a_session_ends_when_it_is_not_used_for_twelve_hours(tmp_path: Path) -> None:
    clock = Clock()
    async with sessions_in(tmp_path, clock) as sessions:
        token = await signed_in(sessions)
        session = sessions.find(token)
        assert session is not None
        for _ in range(5):
            clock.ms += 12 * HOUR_MS - 1
            assert sessions.find(token) is session
        clock.ms += 12 * HOUR_MS
        assert sessions.find(token) is None
        assert not sessions.is_live(session)
        assert sessions.newest_first() == ()


async def test_a_session_ends_after_seven_days_however_much_it_is_used(tmp_path: Path) -> None:
    clock = Clock()
    async with sessions_in(tmp_path, clock) as sessions:
        token = await signed_in(sessions)
        for hour in range(7 * 24):
            clock.ms = START + hour * HOUR_MS
            assert sessions.find(token) is not None
        clock.ms = START + 7 * 24 * HOUR_MS
        assert sessions.find(token) is None


async def test_nothing_on_disk_signs_anybody_in(tmp_path: Path) -> None:
    async with sessions_in(tmp_path, Clock()) as sessions:
        code, _ = await sessions.mint_link("ada")
        token, _ = await sessions.sign_in(code, "", "")
        open_code, _ = await sessions.mint_link("ada")
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for secret in (code, token, open_code):
        assert secret.encode() not in content
    assert (tmp_path / schema.FILE).stat().st_mode & 0o077 == 0


async def test_the_sweep_writes_use_down_and_ends_what_is_over(tmp_path: Path) -> None:
    clock = Clock()
    async with sessions_in(tmp_path, clock) as sessions:
        used, idle = await signed_in(sessions), await signed_in(sessions)
        clock.ms += 12 * HOUR_MS - SEEN_EVERY_MS
        over, kept = sessions.find(idle), sessions.find(used)
        assert over is not None
        assert kept is not None
        over.seen_ms = START
        clock.ms += SEEN_EVERY_MS
        await sessions.sweep_once()
        assert over.ending
        assert not kept.ending
    with sqlite3.connect(tmp_path / schema.FILE) as db:
        rows = db.execute("SELECT id, seen_ms FROM sessions").fetchall()
    db.close()
    assert rows == [(kept.id, clock.ms - SEEN_EVERY_MS)]


async def test_a_restart_takes_up_who_is_signed_in_and_forgets_who_is_over(tmp_path: Path) -> None:
    clock = Clock()
    async with sessions_in(tmp_path, clock) as sessions:
        token = await signed_in(sessions)
    async with sessions_in(tmp_path, clock) as sessions:
        found = sessions.find(token)
        assert found is not None
        assert (found.operator, found.browser) == ("ada", "a browser")
    clock.ms += 12 * HOUR_MS
    async with sessions_in(tmp_path, clock) as sessions:
        assert sessions.find(token) is None
    clock.ms = START
    async with sessions_in(tmp_path, clock) as sessions:
        assert sessions.find(token) is None, "it was removed from the disk"


async def test_sessions_are_bounded(tmp_path: Path) -> None:
    async with sessions_in(tmp_path, Clock()) as sessions:
        for _ in range(SESSIONS_MAX):
            await signed_in(sessions)
        with pytest.raises(Refused) as refused:
            await signed_in(sessions)
    assert refused.value.problem is Problem.LIMIT


async def test_streams_are_bounded_for_each_session_and_in_all(tmp_path: Path) -> None:
    async with sessions_in(tmp_path, Clock()) as sessions:
        full = [await session_of(sessions) for _ in range(STREAMS_MAX // STREAMS_PER_SESSION_MAX)]
        for session in full:
            session.streams = STREAMS_PER_SESSION_MAX
            with pytest.raises(Refused, match="16 live streams"):
                sessions.check_place(session)
        last = await session_of(sessions)
        with pytest.raises(Refused, match="at most 256 live streams in all"):
            sessions.check_place(last)
        full[0].streams -= 1
        sessions.check_place(last)
        with sessions.streaming(last):
            assert last.streams == 1
        assert last.streams == 0


async def test_what_a_browser_says_it_is_is_made_plain(tmp_path: Path) -> None:
    async with sessions_in(tmp_path, Clock()) as sessions:
        code, _ = await sessions.mint_link("ada")
        _, session = await sessions.sign_in(code, "127.0.0.1", "\x1b[31mred\n" + "x" * 1_000)
    assert session.browser.startswith("red x")
    assert len(session.browser) < 250
