"""What the kernel counts, read from files as each version of control groups has them, and from this machine's own."""

import os
from pathlib import Path

import pytest
import trio

from privd.cages.control_groups import create, remove
from privd.cages.limit_counts import LimitCounts, count
from protocol.settings import CageLimits

TASKS_MAX = 20
FORKS = """
import os, time
for _ in range(99):
    try:
        if os.fork() == 0:
            time.sleep(99)
    except BlockingIOError:
        break
"""
NAMES = {
    "memory_events": "memory.events",
    "oom_control": "memory.oom_control",
    "pids_events": "pids.events",
}


def folder(place: Path, **files: str) -> str:
    place.mkdir(parents=True)
    for name, text in files.items():
        (place / NAMES[name]).write_text(text)
    return str(place)


def test_version_two_counts_for_all_below(tmp_path: Path) -> None:
    top = folder(tmp_path / "iris", memory_events="low 0\nmax 9\noom 4\noom_kill 2\n", pids_events="max 3\n")
    folder(tmp_path / "iris/payload", memory_events="oom_kill 2\n", pids_events="max 0\n")
    assert count((top,)) == LimitCounts(ended_for_memory=2, tasks_refused=3)


def test_version_one_counts_where_it_happened(tmp_path: Path) -> None:
    memory = folder(tmp_path / "memory", oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    folder(tmp_path / "memory/payload/deeper", oom_control="oom_kill 5\n")
    (tmp_path / "memory/payload/memory.oom_control").write_text("oom_kill 0\n")
    tasks = folder(tmp_path / "pids", pids_events="max 7\n")
    assert count((memory, tasks)) == LimitCounts(ended_for_memory=6, tasks_refused=7)


@pytest.mark.parametrize("text", ["", "oom_kill\n", "oom_kill x\n", "oom_killer 5\n", "max max\n"])
def test_what_says_no_number_counts_as_nothing(tmp_path: Path, text: str) -> None:
    place = folder(tmp_path / "iris", memory_events=text, pids_events=text)
    assert count((place,)) == LimitCounts()


def test_what_is_gone_counts_as_nothing() -> None:
    assert count(("/nowhere/at/all",)) == count(()) == LimitCounts()


def test_a_group_that_went_with_its_count_is_remembered() -> None:
    before = LimitCounts(ended_for_memory=3, tasks_refused=1)
    assert LimitCounts(ended_for_memory=1, tasks_refused=4).at_least(before) == LimitCounts(3, 4)


@pytest.mark.root
@pytest.mark.anyio
async def test_this_kernel_counts_what_it_refuses() -> None:
    groups = await create("counts", "iris", CageLimits(tasks_max=TASKS_MAX))
    try:
        if "tasks" not in groups.held:
            pytest.skip("no controller for tasks here")
        joined = "".join(f"echo $$ > {place}/cgroup.procs; " for place in groups.folders)
        bomb = await trio.lowlevel.open_process(
            ["sh", "-c", f'{joined}exec /usr/bin/python3 -I -c "$1"', "sh", FORKS], start_new_session=True
        )
        await bomb.wait()
        assert count(groups.folders).tasks_refused >= 1
        assert count(groups.folders).ended_for_memory == 0
        os.killpg(bomb.pid, 9)
    finally:
        assert await remove(groups.folders) == ()
