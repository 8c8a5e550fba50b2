"""Cages as units of a real systemd: limited by it, left alone whatever becomes of privd, ended by nobody unnoticed."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
import trio

from privd.cages.units import unit_of
from protocol.privd import (
    AnyCageEvent,
    Cage,
    CageCrashed,
    CageLimitHit,
    ListCages,
    Power,
    RebuildCage,
    Resource,
    StartCage,
    StopCage,
    WatchCages,
)
from protocol.problem import Problem, Refused
from protocol.rpc import Call
from runtime.client import Client
from tests.systemd.installed import Installed, installed
from tests.systemd.lab import BOOT_S, until

pytestmark = [pytest.mark.systemd, pytest.mark.root]

MEMORY_MIB: Final = 192
TASKS: Final = 40
SETTINGS: Final = f"""
name = "lab"

[cages.limits]
memory_mib_max = {MEMORY_MIB}
tasks_max = {TASKS}
cpu_percent_max = 50
"""
UNIT: Final = unit_of("iris")
GROUP: Final = f"hyperhive.slice/hyperhive-cages.slice/{UNIT}"
DEADLINE_S: Final = 60.0
MEMORY_BOMB: Final = "held = []\nwhile True: held.append(bytearray(8 << 20))"
FORK_BOMB: Final = """
import os, time
forked = 0
try:
    while forked < 500:
        if os.fork() == 0:
            time.sleep(600)
        forked += 1
except BlockingIOError:
    raise SystemExit(7)
"""
R = TypeVar("R")


class Caged:
    """The hive in its lab, asked as the operator would."""

    def __init__(self, hive: Installed) -> None:
        self.hive = hive
        self.lab = hive.lab
        self._socket = hive.lab.path("/run/hyperhive/privd/operator.sock")

    def ask(self, request: Call[R]) -> R:
        async def call() -> R:
            async with Client(self._socket) as client:
                return await client.call(request, patience_s=DEADLINE_S)

        return trio.run(call)

    def row(self) -> Cage:
        return next(row for row in self.ask(ListCages()) if row.agent == "iris")

    def until_running(self) -> Cage:
        until(lambda: self.row().power is Power.RUNNING, "the cage of iris running")
        return self.row()

    def told(self, act: Callable[[], object], wanted: Callable[[AnyCageEvent], bool]) -> AnyCageEvent:
        """The first such event that privd publishes after something was done."""

        async def watch() -> AnyCageEvent:
            with trio.fail_after(DEADLINE_S):
                async with Client(self._socket) as client, client.watch(WatchCages()) as events:
                    await anext(events)
                    await trio.to_thread.run_sync(act)
                    async for event in events:
                        if wanted(event):
                            return event
            raise AssertionError("the watch ended")

        return trio.run(watch)

    @contextmanager
    def drop_in(self, text: str) -> Iterator[None]:
        """Change the cage's unit inside the block."""
        place = self.lab.root / f"etc/systemd/system/{UNIT}.d/test.conf"
        place.parent.mkdir()
        place.write_text(text)
        self.lab.systemctl("daemon-reload")
        try:
            yield
        finally:
            place.unlink()
            place.parent.rmdir()
            self.lab.systemctl("daemon-reload")

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.lab.path("/var/lib/hyperhive/cages/iris/running.json").read_text()
        )
        return found

    def in_its_groups(self, source: str) -> int:
        """Run a program in the cage's control groups; its exit code."""
        join = "".join(
            f"echo $$ > /sys/fs/cgroup/{name}/{GROUP}/cgroup.procs; " for name in ("memory", "pids")
        )
        command = f'{join}exec /usr/bin/python3 -I -c "$1" >/dev/null 2>&1'
        return self.lab.raw("sh", "-c", command, "sh", source).returncode

    def end_strangers(self) -> None:
        """End what `in_its_groups` left there."""
        own = self._pids("systemd/" + GROUP)
        strangers = {*self._pids("pids/" + GROUP), *self._pids("memory/" + GROUP)} - own
        for pid in strangers:  # told by the kernel in this machine's numbers
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def _pids(self, group: str) -> set[str]:
        place = self.lab.path(f"/sys/fs/cgroup/{group}")
        return {pid for file in place.rglob("cgroup.procs") for pid in file.read_text().split()}


@pytest.fixture(scope="module")
def caged() -> Iterator[Caged]:
    with installed(SETTINGS) as hive:
        yield Caged(hive)


@pytest.fixture(autouse=True)
def running(caged: Caged) -> Iterator[None]:
    """Each test finds the cage running, and leaves it so."""
    caged.ask(StartCage(agent="iris"))
    yield
    caged.end_strangers()


def crash(event: AnyCageEvent) -> bool:
    return isinstance(event, CageCrashed) and event.agent == "iris"


def test_a_cage_is_a_unit_and_its_program_a_child_of_systemd(caged: Caged) -> None:
    shown = caged.lab.shown(UNIT, "ActiveState", "MainPID", "ControlGroup", "Slice", "Delegate", "OOMPolicy")
    assert shown["ActiveState"] == "active"
    assert shown["ControlGroup"] == f"/{GROUP}"
    assert (shown["Slice"], shown["Delegate"], shown["OOMPolicy"]) == (
        "hyperhive-cages.slice",
        "yes",
        "continue",
    )
    main = int(shown["MainPID"])
    assert caged.record()["supervisor"]["pid"] == main
    assert caged.lab.path(f"/proc/{main}/comm").read_text().strip() == "systemd-nspawn"
    assert "\nPPid:\t1\n" in caged.lab.path(f"/proc/{main}/status").read_text()
    lock = caged.lab.path("/var/lib/hyperhive/cages/iris/lock")
    leader = caged.record()["leader"]["pid"]
    assert all(Path(f"{caged.lab.path('/proc')}/{pid}/fd/0").samefile(lock) for pid in (main, leader))
    assert not caged.lab.path("/var/lib/hyperhive/cages/iris/launch.sock").exists()


def test_systemd_holds_its_limits_and_it_says_so(caged: Caged) -> None:
    values = {
        "memory/{}/memory.limit_in_bytes": str(MEMORY_MIB << 20),
        "pids/{}/pids.max": str(TASKS),
        "cpu/{}/cpu.cfs_quota_us": "50000",
    }
    for file, value in values.items():
        assert caged.lab.path("/sys/fs/cgroup/" + file.format(GROUP)).read_text().strip() == value
    assert {name: by for name, by in caged.record()["held"].items() if name != "disk"} == dict.fromkeys(
        ("memory", "tasks", "cpu"), "systemd"
    )
    assert not [text for text in caged.row().degraded if "control group" in text]


def test_a_memory_bomb_is_ended_and_told_and_the_cage_lives(caged: Caged) -> None:
    before = caged.row()

    def bomb() -> None:
        assert caged.in_its_groups(MEMORY_BOMB) in {-9, 137}

    event = caged.told(bomb, lambda event: isinstance(event, CageLimitHit))
    assert isinstance(event, CageLimitHit)
    assert (event.agent, event.resource) == ("iris", Resource.MEMORY)
    assert event.times >= 1
    assert str(MEMORY_MIB) in event.detail
    assert caged.row().started_ms == before.started_ms
    assert caged.lab.is_active(UNIT)


def test_a_fork_bomb_is_refused_and_told_and_the_cage_lives(caged: Caged) -> None:
    before = caged.row()

    def bomb() -> None:
        assert caged.in_its_groups(FORK_BOMB) == 7

    event = caged.told(bomb, lambda event: isinstance(event, CageLimitHit))
    assert isinstance(event, CageLimitHit)
    assert (event.agent, event.resource) == ("iris", Resource.TASKS)
    assert caged.row().started_ms == before.started_ms


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_privd_may_restart_or_crash_and_cages_stay(caged: Caged, how: str) -> None:
    before, main = caged.row(), caged.lab.main_pid(UNIT)
    privd = caged.lab.main_pid("hive-privd.service")
    if how == "restart":
        caged.lab.systemctl("restart", "hive-privd.service")
    else:
        caged.lab.run("kill", "-9", str(privd))
    until(lambda: caged.lab.main_pid("hive-privd.service") not in {0, privd}, "another privd")
    after = caged.until_running()
    assert (after.started_ms, after.crashed_ms) == (before.started_ms, None)
    assert caged.lab.main_pid(UNIT) == main


def test_a_stop_by_somebody_else_is_an_end_that_privd_did_not_ask_for(caged: Caged) -> None:
    main = caged.lab.main_pid(UNIT)
    event = caged.told(lambda: caged.lab.systemctl("stop", UNIT), crash)
    assert isinstance(event, CageCrashed)
    assert event.journal
    after = caged.until_running()
    assert after.crashed_ms == event.at_ms
    assert caged.lab.main_pid(UNIT) not in {0, main}


@pytest.mark.parametrize("victim", ["supervisor", "leader"])
def test_no_half_of_a_cage_is_left(caged: Caged, victim: str) -> None:
    """A systemd in a container is not told that a group of version 1 runs empty: it waits for its own deadline."""
    with caged.drop_in("[Service]\nTimeoutStopSec=1s\n"):
        record = caged.record()
        caged.told(lambda: caged.lab.run("kill", "-9", str(record[victim]["pid"])), crash)
        caged.until_running()
    for half in ("supervisor", "leader"):
        assert not caged.lab.path(f"/proc/{record[half]['pid']}/exe").exists()


def test_a_crash_while_privd_was_down_is_told_and_mended(caged: Caged) -> None:
    before = caged.row()
    caged.lab.systemctl("stop", "hive-privd.service")
    leader = caged.record()["leader"]["pid"]
    caged.lab.run("kill", "-9", str(leader))
    until(lambda: not caged.lab.is_active(UNIT), "the end of the unit")
    caged.lab.systemctl("start", "hive-privd.service")
    row = caged.row()
    assert row.crashed_ms is not None
    assert row.crashed_ms > (before.crashed_ms or 0)
    assert row.crashes == 1
    assert caged.until_running().started_ms != before.started_ms


def test_a_stop_is_gentle_and_leaves_nothing(caged: Caged) -> None:
    assert caged.ask(StopCage(agent="iris")).power is Power.STOPPED
    shown = caged.lab.shown(UNIT, "ActiveState", "MainPID")
    assert shown == {"ActiveState": "inactive", "MainPID": "0"}
    assert not caged.lab.path(f"/sys/fs/cgroup/pids/{GROUP}").exists()
    assert not caged.lab.path("/var/lib/hyperhive/cages/iris/running.json").exists()
    assert caged.row().power is Power.STOPPED


def test_a_rebuild_is_a_new_start_of_the_unit(caged: Caged) -> None:
    main = caged.lab.main_pid(UNIT)
    row = caged.ask(RebuildCage(agent="iris"))
    assert row.power is Power.RUNNING
    assert row.rebuilt_ms is not None
    assert caged.lab.main_pid(UNIT) not in {0, main}


def test_a_unit_that_nobody_asked_for_makes_no_cage(caged: Caged) -> None:
    caged.lab.raw("systemctl", "start", unit_of("ghost"))
    until(lambda: not caged.lab.is_active(unit_of("ghost")), "its end", BOOT_S)
    assert "privd did not ask for this cage" in caged.lab.journal(unit_of("ghost"))
    caged.lab.raw("systemctl", "reset-failed", unit_of("ghost"))


def test_a_second_start_by_hand_changes_nothing(caged: Caged) -> None:
    main = caged.lab.main_pid(UNIT)
    caged.lab.systemctl("start", UNIT)
    assert caged.lab.main_pid(UNIT) == main


def test_a_unit_that_cannot_start_says_why_and_privd_lives(caged: Caged) -> None:
    caged.ask(StopCage(agent="iris"))
    with caged.drop_in("[Service]\nExecStart=\nExecStart=/usr/bin/no-such-program\n"):
        with pytest.raises(Refused) as refused:
            caged.ask(StartCage(agent="iris"))
        assert refused.value.problem is Problem.FAILED
        assert UNIT in refused.value.detail
        row = caged.row()
        assert (row.power, UNIT in row.detail) == (Power.FAILED, True)
    assert caged.ask(StartCage(agent="iris")).power is Power.RUNNING


def test_a_program_that_does_not_call_is_given_up(caged: Caged) -> None:
    """The unit's program ends without a word: nothing of it is left, and the lock is free for the next start."""
    caged.ask(StopCage(agent="iris"))
    with (
        caged.drop_in("[Service]\nExecStart=\nExecStart=/usr/bin/true\n"),
        pytest.raises(Refused, match="did not call"),
    ):
        caged.ask(StartCage(agent="iris"))
    assert caged.ask(StartCage(agent="iris")).power is Power.RUNNING
