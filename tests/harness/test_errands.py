"""What is done as the agent's user between turns, with a real spawner: a reminder's command, and the notes' size."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from harness import errands
from harness.cli import STDERR_BYTES_MAX
from harness.errands import LAST_WORDS_CHARS_MAX, AgentErrands, check_environment
from harness.places import Places
from protocol.limits import DETAIL_CHARS_MAX, LEASE_MS, ONLY_IF_S_MAX
from tests.harness.test_cli import spawning
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

PROXY = {"HTTPS_PROXY": "http://127.0.0.1:3128"}


@asynccontextmanager
async def of_iris(folder: Path) -> AsyncIterator[tuple[AgentErrands, Places]]:
    places = Places("iris", folder)
    places.state.mkdir(parents=True)
    environment = check_environment({"COLOUR": "red", "HOME": "/elsewhere"}, places, PROXY)
    async with spawning() as (spawner, _):
        yield AgentErrands(spawner, places, environment), places


async def test_zero_is_yes_and_anything_else_is_no_with_its_last_words(tmp_path: Path) -> None:
    async with of_iris(tmp_path) as (checks, _):
        assert (await checks.only_if("true")).passed
        assert (await checks.only_if("echo a lot; exit 0")).detail == ""
        refused = await checks.only_if("echo first; echo nothing new >&2; exit 3")
        assert (refused.passed, refused.detail) == (False, "only_if ended with 3: first\nnothing new")
        assert (await checks.only_if("false")).detail == "only_if ended with 1"
        assert (await checks.only_if("kill -9 $$")).detail == "only_if ended with -9"
        assert "not found" in (await checks.only_if("no-such-program")).detail


async def test_the_self_test_says_what_no_turn_could_do_without(tmp_path: Path) -> None:
    places, program = Places("iris", tmp_path), tmp_path / "the claude"
    places.state.mkdir(parents=True)
    async with spawning() as (spawner, _):
        assert await AgentErrands(spawner, places, {}).self_test() == ""
        checks = AgentErrands(spawner, places, {}, program)
        assert await checks.self_test() == f"the runner's program is not there: {program}"
        program.write_text("#!/bin/sh\necho no room for me >&2; exit 3\n")
        program.chmod(0o755)
        assert await checks.self_test() == (
            "the runner's program does not start: it ended with 3: no room for me"
        )
        program.write_text('#!/bin/sh\ntest "$*" = --version\n')
        assert await checks.self_test() == ""
        places.state.rmdir()
        assert await checks.self_test() == f"its user cannot write to {places.state}"


async def test_it_runs_where_the_agent_works_and_with_what_it_has(tmp_path: Path) -> None:
    async with of_iris(tmp_path) as (checks, places):
        assert (await checks.only_if("pwd > seen; env >> seen; cat >> seen")).passed
        folder, *variables = (places.state / "seen").read_text().splitlines()
    assert folder == str(places.state)
    found = dict(line.split("=", 1) for line in variables)
    assert {"COLOUR": "red", "HOME": str(places.state), **PROXY}.items() <= found.items()
    assert "HIVE_SPAWNER_FD" not in found


async def test_its_output_is_bounded_and_free_of_nul(tmp_path: Path) -> None:
    async with of_iris(tmp_path) as (checks, _):
        flood = await checks.only_if("head -c 30000000 /dev/zero; echo the end; exit 1")
    assert flood.detail.endswith("the end")
    assert "\0" not in flood.detail
    assert len(flood.detail) < LAST_WORDS_CHARS_MAX + 100 < min(DETAIL_CHARS_MAX, STDERR_BYTES_MAX)


async def test_at_its_time_limit_its_whole_group_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errands, "ONLY_IF_S_MAX", 0.5)
    async with of_iris(tmp_path) as (checks, places):
        began = time.monotonic()
        command = "trap '' INT TERM; sleep 1000 & echo $! > sleeper; echo waiting; wait; sleep 1000"
        late = await checks.only_if(command)
        assert (late.passed, late.detail) == (False, "only_if took longer than 0.5 s: waiting")
        sleeper = int((places.state / "sleeper").read_text())
        await until(lambda: not alive(sleeper), what="the sleeper to end")
        assert time.monotonic() - began < 20


async def test_what_it_leaves_behind_is_ended_too(tmp_path: Path) -> None:
    async with of_iris(tmp_path) as (checks, places):
        assert (await checks.only_if("sleep 1000 & echo $! > sleeper")).passed
        sleeper = int((places.state / "sleeper").read_text())
        await until(lambda: not alive(sleeper), what="the sleeper to end")


async def test_a_stop_ends_it_at_once(tmp_path: Path) -> None:
    async with of_iris(tmp_path) as (checks, places):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(checks.only_if, "echo $$ > pid; sleep 1000")
                await until((places.state / "pid").exists, what="its beginning")
                pid = int(await until((places.state / "pid").read_text, what="its pid"))
                scope.cancel()
        assert not alive(pid)
        assert (await checks.only_if("true")).passed


async def test_a_command_that_cannot_be_started_is_a_no_that_says_so(tmp_path: Path) -> None:
    async with of_iris(tmp_path) as (checks, places):
        places.state.rmdir()
        assert (await checks.only_if("true")).detail.startswith(
            "only_if did not start: cannot start '/bin/sh'"
        )


async def test_the_size_of_the_notes(tmp_path: Path) -> None:
    async with of_iris(tmp_path) as (checks, places):
        assert await checks.notes_bytes() is None
        places.notes.write_bytes(b"x" * 1_234)
        assert await checks.notes_bytes() == 1_234
        places.notes.unlink()
        os.mkfifo(places.notes)
        assert await checks.notes_bytes() is None
        places.notes.unlink()
        places.notes.symlink_to("/etc/passwd")
        assert await checks.notes_bytes() is None


def test_a_check_ends_long_before_its_lease() -> None:
    assert 2 * ONLY_IF_S_MAX * 1000 < LEASE_MS


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
