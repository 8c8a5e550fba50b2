"""One cage's power: start, stop, crash with back-off and budget, adoption, destruction. Virtual time, fake cages."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from privd.audit import Said
from privd.cages.limit_counts import LimitCounts
from privd.cages.spec import CageSpec, Exit, How, Places
from privd.keeper import Keeper
from privd.policy.agents import CRASHES_MAX
from privd.policy.base import Outlook
from privd.policy.limits import MIB
from privd.registry import AgentRecord, Registry
from protocol.privd import (
    AnyCageEvent,
    CageChanged,
    CageCrashed,
    CageLimitHit,
    CageRebuilt,
    Power,
    Resource,
)
from protocol.problem import Problem, Refused
from protocol.settings import AgentRole, AgentSettings, CageLimits
from runtime.clock import now_ms
from runtime.log import logger
from tests.support.fake_cages import FakeBackend, FakeCage

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

CRASH = Exit(How.SIGNAL, 11)


def spec(record: AgentRecord) -> CageSpec:
    return CageSpec(
        record.agent, AgentRole.AGENT, record.uid_base, CageLimits(), (), (), ("/bin/true",), b"{}"
    )


class Bench:
    """A keeper with everything around it."""

    def __init__(self, folder: Path, nursery: trio.Nursery, backend: FakeBackend, **record: bool) -> None:
        self.backend = backend
        self.hyperhive = "new"
        self.events: list[AnyCageEvent] = []
        self.by_itself: list[str] = []
        self.audit_refuses = False
        self.registry = Registry(folder)
        self.registry.load()
        self.registry.put(
            AgentRecord(
                agent="iris", uid_base=1_048_576, created_ms=1, settings=AgentSettings(name="iris"), **record
            )
        )
        kept = self.registry.get("iris")
        assert kept is not None

        def attend(task: Callable[[], Awaitable[None]]) -> None:
            nursery.start_soon(task)

        self.keeper = Keeper(
            kept,
            self.registry,
            backend,
            spec,
            lambda agent, count: ("last words",),
            self.events.append,
            attend,
            logger("test"),
            lambda record: Outlook(7, {"hyperhive": self.hyperhive}),
            self,
        )

    @asynccontextmanager
    async def effect(self, op: str, agent: str = "", number: int | None = None) -> AsyncIterator[Said]:
        """Hear what the keeper does by itself, as the audit log would."""
        if self.audit_refuses:
            raise Refused(Problem.STORAGE_FULL, "the audit log is full")
        self.by_itself.append(op)
        yield Said()

    def powers(self) -> list[Power]:
        return [event.cage.power for event in self.events if isinstance(event, CageChanged)]

    def wanted(self) -> bool:
        record = self.registry.get("iris")
        assert record is not None
        return record.wanted


@asynccontextmanager
async def bench(folder: Path, backend: FakeBackend | None = None, **record: bool) -> AsyncIterator[Bench]:
    """`record` is what the agent's record says: wanted, kept, rebuilding."""
    async with trio.open_nursery() as nursery:
        yield Bench(folder, nursery, backend or FakeBackend(), **record)
        nursery.cancel_scope.cancel()


async def test_start_is_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        assert (await at.keeper.start()).power is Power.RUNNING
        await at.keeper.start()
        assert len(at.backend.cages) == 1
        assert at.powers() == [Power.STARTING, Power.RUNNING]
        assert at.wanted()


async def test_two_starts_at_once_make_one_cage(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.keeper.start)
            nursery.start_soon(at.keeper.start)
        assert len(at.backend.cages) == 1


async def test_stop_gives_its_grace_and_is_remembered(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        assert (await at.keeper.stop(30)).power is Power.STOPPED
        assert at.backend.cages[0].stops == [30]
        assert not at.wanted()
        assert not any(isinstance(event, CageCrashed) for event in at.events)


async def test_stopped_until_the_next_start_stays_wanted(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        await at.keeper.stop(30, until_next_start=True)
        assert at.wanted()
    async with bench(tmp_path / "again", wanted=True) as at:
        await at.keeper.recover(30)
        assert at.keeper.power is Power.RUNNING


async def test_a_crash_is_told_and_the_cage_starts_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        at.backend.cages[0].end(CRASH)
        await trio.sleep(5)
        assert at.powers()[-3:] == [Power.CRASHED, Power.STARTING, Power.RUNNING]
        (crashed,) = [event for event in at.events if isinstance(event, CageCrashed)]
        assert (crashed.agent, crashed.how, crashed.journal) == ("iris", "signal 11", ("last words",))
        assert crashed.at_ms == at.keeper.row().crashed_ms
        assert len(at.backend.cages) == 2


async def test_crashing_too_often_waits_for_the_operator(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        for crash in range(CRASHES_MAX + 1):
            assert len(at.backend.cages) == crash + 1
            at.backend.cages[-1].end(CRASH)
            await trio.sleep(100)
        assert at.keeper.power is Power.FAILED
        assert "start it to try again" in at.keeper.row().detail
        assert (await at.keeper.start()).power is Power.RUNNING


async def test_what_starts_again_is_told_in_the_audit_log_or_waits_for_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        assert at.by_itself == [], "whoever asked for it is told with the request"
        at.backend.cages[0].end(CRASH)
        await trio.testing.wait_all_tasks_blocked()
        at.audit_refuses = True
        await trio.sleep(1.5)
        assert (at.keeper.power, len(at.backend.cages)) == (Power.CRASHED, 1)
        assert "the audit log is full" in at.keeper.row().detail
        at.audit_refuses = False
        await trio.sleep(100)
        assert at.keeper.power is Power.RUNNING
        assert at.by_itself == ["start_again"]


async def test_a_stop_during_the_back_off_holds(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        at.backend.cages[0].end(CRASH)
        await trio.testing.wait_all_tasks_blocked()
        await at.keeper.stop(30)
        await trio.sleep(1_000)
        assert at.keeper.power is Power.STOPPED
        assert len(at.backend.cages) == 1


async def test_a_start_during_the_back_off_makes_one_cage(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        at.backend.cages[0].end(CRASH)
        await trio.testing.wait_all_tasks_blocked()
        await at.keeper.start()
        await trio.sleep(1_000)
        assert at.keeper.power is Power.RUNNING
        assert len(at.backend.cages) == 2


async def test_a_cage_that_cannot_start_says_why(tmp_path: Path) -> None:
    async with bench(tmp_path, FakeBackend(fails=1)) as at:
        with pytest.raises(Refused) as refused:
            await at.keeper.start()
        assert refused.value.problem is Problem.FAILED
        assert at.keeper.row().detail == "no such luck"
        assert at.keeper.power is Power.FAILED


async def test_recovery_adopts_what_runs(tmp_path: Path) -> None:
    left = FakeCage(leader_pid=42)
    async with bench(tmp_path, FakeBackend(left_running=left), wanted=True) as at:
        await at.keeper.recover(30)
        assert at.keeper.power is Power.RUNNING
        assert at.keeper.row().since_ms == left.started_ms
        assert at.backend.cages == []
        left.end(CRASH)
        await trio.sleep(5)
        assert len(at.backend.cages) == 1


async def test_recovery_ends_what_should_not_run(tmp_path: Path) -> None:
    left = FakeCage(leader_pid=42)
    async with bench(tmp_path, FakeBackend(left_running=left)) as at:
        await at.keeper.recover(30)
        assert at.keeper.power is Power.STOPPED
        assert (await left.wait()).how is How.SIGNAL


async def test_recovery_goes_on_when_a_cage_cannot_start(tmp_path: Path) -> None:
    async with bench(tmp_path, FakeBackend(fails=1), wanted=True) as at:
        await at.keeper.recover(30)
        row = at.keeper.row()
        assert (row.power, row.detail) == (Power.CRASHED, "no such luck; starts again in 1 s")
        await trio.sleep(5)
        assert at.keeper.power is Power.RUNNING


async def test_a_start_after_a_crash_that_fails_is_tried_again_within_the_budget(tmp_path: Path) -> None:
    """What hinders it may pass: a machine that is too busy, somebody who kills it half-way."""
    async with bench(tmp_path) as at:
        await at.keeper.start()
        at.backend.fails = 2
        at.backend.cages[0].end(CRASH)
        await trio.sleep(60)
        assert at.keeper.power is Power.RUNNING
        assert len(at.backend.cages) == 2
        at.backend.fails = 1_000
        at.backend.cages[1].end(CRASH)
        await trio.sleep(600)
        row = at.keeper.row()
        assert (row.power, row.detail) == (Power.FAILED, "no such luck")
        assert 1_000 - at.backend.fails < 10


async def test_a_crash_that_nobody_saw_is_told_and_the_cage_starts_again(tmp_path: Path) -> None:
    async with bench(tmp_path, FakeBackend(left_running=Exit(How.UNKNOWN)), wanted=True) as at:
        await at.keeper.recover(30)
        (crashed,) = [event for event in at.events if isinstance(event, CageCrashed)]
        assert (crashed.how, crashed.journal) == ("an end that nobody saw", ("last words",))
        row = at.keeper.row()
        assert (row.power, row.crashes, row.crashed_ms) == (Power.CRASHED, 1, crashed.at_ms)
        await trio.sleep(5)
        assert at.keeper.power is Power.RUNNING
        at.backend.cages[0].end(CRASH)
        await trio.testing.wait_all_tasks_blocked()
        assert at.keeper.row().crashes == 2, "it counts for the budget"


async def test_an_end_of_what_should_not_run_is_no_crash(tmp_path: Path) -> None:
    async with bench(tmp_path, FakeBackend(left_running=Exit(How.UNKNOWN))) as at:
        await at.keeper.recover(30)
        assert at.keeper.power is Power.STOPPED
        assert not any(isinstance(event, CageCrashed) for event in at.events)


@pytest.mark.parametrize("left", [None, FakeCage(leader_pid=42), Exit(How.UNKNOWN)])
async def test_a_rebuild_that_was_interrupted_is_done_again(
    tmp_path: Path, left: FakeCage | Exit | None
) -> None:
    async with bench(tmp_path, FakeBackend(left_running=left), wanted=True, rebuilding=True) as at:
        await at.keeper.recover(30)
        await trio.testing.wait_all_tasks_blocked()
        assert at.keeper.power is Power.RUNNING
        assert (at.backend.cleared, len(at.backend.cages)) == (1, 1)
        assert at.keeper.row().rebuilt_ms is not None
        assert not any(isinstance(event, CageCrashed) for event in at.events)
        record = at.registry.get("iris")
        assert record is not None
        assert not record.rebuilding


async def test_a_rebuild_is_remembered_until_it_is_over(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        seen: list[bool] = []
        clear = at.backend.clear

        async def look(places: Places) -> None:
            record = at.registry.get("iris")
            assert record is not None
            seen.append(record.rebuilding)
            await clear(places)

        at.backend.clear = look  # type: ignore[method-assign]  # one call is watched
        await at.keeper.rebuild(30)
        at.backend.found_wrong = "not what is deployed"
        with pytest.raises(Refused):
            await at.keeper.rebuild(30)
        assert seen == [True, True]
        record = at.registry.get("iris")
        assert record is not None
        assert not record.rebuilding


def hits(at: Bench) -> list[tuple[Resource, int]]:
    return [(event.resource, event.times) for event in at.events if isinstance(event, CageLimitHit)]


async def test_what_a_limit_refused_is_told_at_once_and_then_folded(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        cage = at.backend.cages[0]
        at.keeper.look_at_limits()
        assert hits(at) == []
        cage.counts = LimitCounts(tasks_refused=3)
        at.keeper.look_at_limits()
        for refused in range(4, 1000, 100):
            cage.counts = LimitCounts(tasks_refused=refused, ended_for_memory=1)
            at.keeper.look_at_limits()
        assert hits(at) == [(Resource.TASKS, 3), (Resource.MEMORY, 1)]


async def test_what_was_counted_last_is_told_before_the_crash(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        at.backend.cages[0].counts = LimitCounts(ended_for_memory=2)
        at.backend.cages[0].end(CRASH)
        await trio.testing.wait_all_tasks_blocked()
        assert hits(at) == [(Resource.MEMORY, 2)]
        kinds = [type(event) for event in at.events if isinstance(event, CageLimitHit | CageCrashed)]
        assert kinds == [CageLimitHit, CageCrashed]


async def test_what_an_adopted_cage_met_before_is_not_told_again(tmp_path: Path) -> None:
    left = FakeCage(leader_pid=42, counts=LimitCounts(ended_for_memory=5))
    async with bench(tmp_path, FakeBackend(left_running=left), wanted=True) as at:
        await at.keeper.recover(30)
        at.keeper.look_at_limits()
        assert hits(at) == []


async def test_a_full_disk_is_told_and_one_that_takes_far_too_much_is_stopped(tmp_path: Path) -> None:
    most = CageLimits().disk_mib_max
    assert most is not None
    async with bench(tmp_path) as at:
        await at.keeper.start()
        at.backend.cages[0].started_ms = now_ms()
        await at.keeper.look_at_disk(most * MIB)
        assert hits(at) == []
        await at.keeper.look_at_disk(2 * most * MIB)
        assert hits(at) == [(Resource.DISK, 1)]
        assert at.keeper.power is Power.RUNNING, "it was started a moment ago and may delete something"
        at.backend.cages[0].started_ms = 7
        await at.keeper.look_at_disk(2 * most * MIB)
        row = at.keeper.row()
        assert (row.power, at.wanted()) == (Power.FAILED, False)
        assert "disk_mib_max" in row.detail
        assert at.by_itself == ["stop_for_its_disk"]
        assert not any(isinstance(event, CageCrashed) for event in at.events)
        assert (await at.keeper.start()).power is Power.RUNNING


async def test_where_the_kernel_holds_the_disk_nothing_is_stopped(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        at.backend.cages[0].held = {"disk": "quotas"}
        await at.keeper.look_at_disk(1 << 50)
        assert at.keeper.power is Power.RUNNING
        assert hits(at) == [(Resource.DISK, 1)]


async def test_destroy_keeps_the_record_and_refuses_a_start(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        assert (await at.keeper.destroy(30)).power is Power.KEPT
        assert at.backend.removed == 1
        with pytest.raises(Refused, match="its state is kept"):
            await at.keeper.start()
        with pytest.raises(Refused, match="its state is kept"):
            await at.keeper.restart(30)
        assert (await at.keeper.stop(30)).power is Power.KEPT


async def test_restart_is_a_new_cage(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        assert (await at.keeper.restart(30)).power is Power.RUNNING
        assert len(at.backend.cages) == 2


async def test_rebuild_makes_the_root_anew_and_tells(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        assert (await at.keeper.rebuild(30)).power is Power.RUNNING
        assert at.backend.cages[0].stops == [30]
        assert (at.backend.cleared, len(at.backend.cages)) == (1, 2)
        assert at.powers()[-4:] == [Power.STOPPING, Power.STOPPED, Power.STARTING, Power.RUNNING]
        rebuilt_ms = at.keeper.row().rebuilt_ms
        assert rebuilt_ms is not None
        assert at.events[-1] == CageRebuilt("iris", rebuilt_ms)
        assert not any(isinstance(event, CageCrashed) for event in at.events)


async def test_rebuild_starts_what_was_stopped_and_forgets_old_crashes(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        at.backend.cages[0].end(CRASH)
        await trio.testing.wait_all_tasks_blocked()
        row = await at.keeper.rebuild(30)
        assert (row.power, row.crashes) == (Power.RUNNING, 0)
        await trio.sleep(1_000)
        assert len(at.backend.cages) == 2
        assert at.wanted()


async def test_a_rebuild_that_does_not_come_up_says_why_and_tells_nobody_otherwise(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        at.backend.fails = 1
        with pytest.raises(Refused, match="no such luck"):
            await at.keeper.rebuild(30)
        assert at.keeper.power is Power.FAILED
        assert not any(isinstance(event, CageRebuilt) for event in at.events)
        assert (await at.keeper.rebuild(30)).power is Power.RUNNING


async def test_a_rebuild_is_looked_at_and_not_trusted(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        at.backend.found_wrong = "agent.json is not what is deployed"
        with pytest.raises(Refused, match="iris was not rebuilt: agent"):
            await at.keeper.rebuild(30)
        assert at.keeper.power is Power.FAILED
        assert not any(isinstance(event, CageRebuilt) for event in at.events)
        assert (await at.backend.cages[-1].wait()).how is How.SIGNAL


async def test_kept_state_is_not_rebuilt(tmp_path: Path) -> None:
    async with bench(tmp_path, kept=True) as at:
        with pytest.raises(Refused, match="its state is kept"):
            await at.keeper.rebuild(30)
        assert at.backend.cages == []


async def test_every_row_can_cross_the_wire(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.keeper.start()
        row = at.keeper.row()
        assert msgspec.json.decode(msgspec.json.encode(row), type=type(row)) == row
