"""The turn loop under virtual time: leases, pauses, stops, and a broker that comes and goes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from harness.commands import Commands
from harness.errands import Checked, Errands
from harness.mcp.toolbox import Toolbox
from harness.policy.outcomes import Stop, Verdict
from harness.runner import Emit, Report
from harness.stop import TurnStop
from harness.turn import TurnLoop
from protocol import agent as wire
from protocol.limits import ONLY_IF_S_MAX
from protocol.problem import Problem, Refused
from protocol.turns import Outcome, Said, ToolCalled
from runtime.client import Client
from runtime.clock import now_ms
from runtime.log import logger
from runtime.stopping import Stopping
from tests.harness.hub import Hub

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

Script = Callable[[TurnStop], Awaitable[Verdict]]


class Scripted:
    """A runner whose turns go as the test wants; after the script, every turn is done at once."""

    def __init__(self, *script: Script) -> None:
        self._script = iter(script)
        self.ran: list[tuple[str, int]] = []
        self.models: list[str | None] = []

    async def run(
        self, delivery: wire.Delivery, emit: Emit, stop: TurnStop, model: str | None = None
    ) -> Report:
        self.ran.append((delivery.message.body, delivery.attempt))
        self.models.append(model)
        emit(Said(0, 0, "working"))
        part = next(self._script, None)
        return Report(await part(stop) if part else Verdict(Outcome.DONE))


class ScriptedErrands:
    """Checks that answer as the test wants, after a while; notes of a fixed size."""

    def __init__(self, *answers: Checked, after_s: float = 0.0) -> None:
        self._answers = iter(answers)
        self._after_s = after_s
        self.commands: list[str] = []
        self.cancelled = 0
        self.fault = ""

    async def self_test(self) -> str:
        return self.fault

    async def only_if(self, command: str) -> Checked:
        self.commands.append(command)
        try:
            await trio.sleep(self._after_s)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        return next(self._answers, Checked(passed=True))

    async def notes_bytes(self) -> int | None:
        return 512


def ends(outcome: Outcome, after_s: float = 0.0, until_in_ms: int | None = None) -> Script:
    async def script(stop: TurnStop) -> Verdict:
        with trio.move_on_after(after_s):
            await stop.wait()
        until_ms = None if until_in_ms is None else now_ms() + until_in_ms
        return Verdict(outcome, f"scripted {outcome}", until_ms)

    return script


async def until_stopped(stop: TurnStop) -> Verdict:
    await stop.wait()
    by = {
        Stop.OPERATOR: Outcome.CANCELLED,
        Stop.SHUTDOWN: Outcome.INTERRUPTED,
        Stop.LEASE_LOST: Outcome.INTERRUPTED,
    }
    assert stop.reason is not None
    return Verdict(by[stop.reason], str(stop.reason))


class Running:
    def __init__(self, loop: TurnLoop, stopping: Stopping, done: trio.Event) -> None:
        self.loop = loop
        self.stopping = stopping
        self.done = done


@asynccontextmanager
async def looping(hub: Hub, runner: Scripted, errands: Errands | None = None) -> AsyncIterator[Running]:
    """The loop and the commands of iris, as the service runs them."""
    stopping, log = Stopping(), logger("test")
    async with Client(hub.socket("iris")) as broker, trio.open_nursery() as nursery:
        loop = TurnLoop(broker, runner, Toolbox(broker), errands or ScriptedErrands(), stopping, log)
        commands = Commands(broker, log)
        running = Running(loop, stopping, trio.Event())

        async def serve() -> None:
            await commands.attached.wait()
            await loop.serve()
            running.done.set()

        nursery.start_soon(commands.follow, loop.obey, loop.tell_parked)
        nursery.start_soon(loop.answer_health)
        nursery.start_soon(serve)
        with trio.fail_after(30 * 24 * 3_600):
            yield running
        nursery.cancel_scope.cancel()


async def ended(hub: Hub, number: int) -> None:
    await hub.sees(lambda: len(hub.ended()) >= number)


def asked(hub: Hub, kind: type) -> int:
    return sum(isinstance(each.request, kind) for each in hub.asked)


async def test_a_long_turn_keeps_its_lease(place: Path) -> None:
    hub, runner = Hub(place), Scripted(ends(Outcome.DONE, after_s=3_600))
    async with hub.up("iris"), looping(hub, runner):
        hub.write("iris", "a long one")
        await ended(hub, 1)
    assert asked(hub, wire.ExtendLease) >= 3_600 / (10 * 60)
    assert hub.ended()[0].end is not None


async def test_a_lost_lease_ends_the_turn(place: Path) -> None:
    hub, runner = Hub(place), Scripted(until_stopped)
    hub.refuse = lambda agent, request: (
        Refused(Problem.CONFLICT, "lost") if isinstance(request, wire.ExtendLease) else None
    )
    async with hub.up("iris"), looping(hub, runner):
        hub.write("iris", "x")
        await ended(hub, 1)
    end = hub.ended()[0].end
    assert end is not None
    assert (end.outcome, end.detail) == (Outcome.INTERRUPTED, "lease_lost")


async def test_a_lease_survives_a_broker_that_is_away_for_a_while(place: Path) -> None:
    hub, runner = Hub(place), Scripted(ends(Outcome.DONE, after_s=1_200))
    async with looping(hub, runner):
        async with hub.up("iris"):
            hub.write("iris", "x")
            await hub.sees(lambda: hub.turns)
        await trio.sleep(400)
        async with hub.up("iris"):
            await ended(hub, 1)
            await trio.sleep(1)
    assert hub.ended()[0].kinds() == ["Woken", "Said"]
    assert asked(hub, wire.Attach) == 2
    assert len({each.request.instance for each in hub.asked if isinstance(each.request, wire.Attach)}) == 1


async def test_a_rate_limit_parks_until_its_end_and_wakes_by_itself(place: Path) -> None:
    hub, runner = Hub(place), Scripted(ends(Outcome.RATE_LIMITED, until_in_ms=3_600_000))
    async with hub.up("iris"), looping(hub, runner):
        hub.write("iris", "x")
        began = trio.current_time()
        await ended(hub, 1)
        await trio.sleep(1)
        assert hub.parked["iris"].reason is Outcome.RATE_LIMITED
        assert hub.parked["iris"].until_ms is not None
        await ended(hub, 2)
        assert 3_599 <= trio.current_time() - began <= 3_700
        assert hub.parked["iris"].reason is None
    assert runner.ran == [("x", 1), ("x", 2)]


async def test_a_missing_login_parks_until_the_operator_says_so(place: Path) -> None:
    hub, runner = Hub(place), Scripted(ends(Outcome.AUTH))
    async with hub.up("iris"), looping(hub, runner):
        hub.write("iris", "x")
        await ended(hub, 1)
        await trio.sleep(7 * 24 * 3_600)
        assert len(hub.ended()) == 1
        assert hub.parked["iris"].detail == "scripted auth"
        hub.command("iris", wire.Unpark())
        await ended(hub, 2)


async def test_crashes_slow_down_and_success_forgets_them(place: Path) -> None:
    crash = ends(Outcome.CRASHED)
    hub, runner = Hub(place), Scripted(crash, crash, crash, ends(Outcome.DONE), crash)
    async with hub.up("iris"), looping(hub, runner):
        hub.write("iris", "x")
        began = trio.current_time()
        await ended(hub, 4)
        assert 71.9 <= trio.current_time() - began <= 80
        hub.write("iris", "y")
        began = trio.current_time()
        await ended(hub, 6)
        assert 1.9 <= trio.current_time() - began <= 5


async def test_a_broker_that_was_restarted_is_told_of_the_pause(place: Path) -> None:
    hub, runner = Hub(place), Scripted(ends(Outcome.BILLING))
    async with looping(hub, runner):
        async with hub.up("iris"):
            hub.write("iris", "x")
            await ended(hub, 1)
            await trio.sleep(1)
        hub.parked.clear()
        async with hub.up("iris"):
            await trio.sleep(10)
            assert hub.parked["iris"].reason is Outcome.BILLING


async def test_a_stop_while_parked_or_waiting_is_prompt(place: Path) -> None:
    for script in ([], [ends(Outcome.AUTH)]):
        hub, runner = Hub(place), Scripted(*script)
        async with hub.up("iris"), looping(hub, runner) as running:
            hub.write("iris", "x")
            await ended(hub, 1)
            await trio.sleep(1)
            running.stopping.set()
            with trio.fail_after(1):
                await running.done.wait()


async def test_a_stop_waits_for_the_turn_and_begins_no_other(place: Path) -> None:
    hub, runner = Hub(place), Scripted(ends(Outcome.DONE, after_s=20))
    async with hub.up("iris"), looping(hub, runner) as running:
        hub.write("iris", "x")
        hub.write("iris", "y")
        await trio.sleep(1)
        running.stopping.set()
        await running.done.wait()
    assert [turn.end.outcome for turn in hub.ended() if turn.end] == [Outcome.DONE]
    assert runner.ran == [("x", 1)]


async def test_after_the_grace_the_turn_is_interrupted(place: Path) -> None:
    hub, runner = Hub(place), Scripted(until_stopped)
    async with hub.up("iris"), looping(hub, runner) as running:
        hub.write("iris", "x")
        await trio.sleep(1)
        running.stopping.set()
        await trio.sleep(5)
        running.loop.stop_turn()
        with trio.fail_after(1):
            await running.done.wait()
    assert [turn.end.outcome for turn in hub.ended() if turn.end] == [Outcome.INTERRUPTED]


async def test_a_stop_with_the_broker_away_does_not_wait_for_ever(place: Path) -> None:
    hub, runner = Hub(place), Scripted(ends(Outcome.DONE, after_s=5))
    async with looping(hub, runner) as running:
        async with hub.up("iris"):
            hub.write("iris", "x")
            await hub.sees(lambda: hub.turns)
        await trio.sleep(60)
        running.stopping.set()
        await trio.sleep(5)
        assert not running.done.is_set()
        running.loop.stop_turn()
        with trio.fail_after(6):
            await running.done.wait()
    assert hub.ended() == []


async def test_a_delivery_that_arrives_with_the_stop_is_given_back(place: Path) -> None:
    hub, runner = Hub(place), Scripted()
    async with hub.up("iris"), looping(hub, runner) as running:

        def stop(request: object) -> bool:
            if isinstance(request, wire.TakeDelivery):
                running.stopping._event.set()  # but the reply on its way is not given up: the narrowest race
            return False

        await trio.sleep(100)
        hub.lose_reply = stop
        hub.write("iris", "x")
        await running.done.wait()
    assert runner.ran == []
    assert asked(hub, wire.ReleaseDelivery) == 1
    assert len(hub.inboxes["iris"].queued) == 1


async def test_a_turn_that_cannot_begin_is_left_to_the_broker(place: Path) -> None:
    hub, runner = Hub(place), Scripted()
    refusals = iter([Problem.CONFLICT, Problem.CONFLICT])

    def refuse(agent: str, request: object) -> Refused | None:
        problem = next(refusals, None) if isinstance(request, wire.BeginTurn) else None
        return Refused(problem, "not yet") if problem else None

    hub.refuse = refuse
    async with hub.up("iris"), looping(hub, runner):
        hub.write("iris", "x")
        await ended(hub, 1)
    assert runner.ran == [("x", 1)]


async def test_a_turns_end_tells_its_tools_and_the_size_of_the_notes(place: Path) -> None:
    class Busy(Scripted):
        async def run(
            self, delivery: wire.Delivery, emit: Emit, stop: TurnStop, model: str | None = None
        ) -> Report:
            for tool in ("Bash", "send", "Bash"):
                emit(ToolCalled(0, 0, "c", tool, "", "{}"))
            return await super().run(delivery, emit, stop)

    hub = Hub(place)
    async with hub.up("iris"), looping(hub, Busy()):
        hub.write("iris", "x")
        await ended(hub, 1)
    end = hub.ended()[0].end
    assert end is not None
    assert (end.tools, end.notes_bytes) == ({"Bash": 2, "send": 1}, 512)


async def test_the_tools_speak_for_the_agent_while_its_cli_runs_and_not_after(place: Path) -> None:
    hub, during = Hub(place), []  # type: Hub, list[bool]

    class Sending(Scripted):
        async def run(
            self, delivery: wire.Delivery, emit: Emit, stop: TurnStop, model: str | None = None
        ) -> Report:
            during.append((await toolbox().call("send", {"to": "operator", "body": "x"})).is_error)
            return await super().run(delivery, emit, stop)

    held = trio.Event()
    hub.refuse = lambda agent, request: (
        Refused(Problem.BUSY, "later") if isinstance(request, wire.EndTurn) and not held.is_set() else None
    )
    async with hub.up("iris"), looping(hub, Sending()) as running:

        def toolbox() -> Toolbox:
            return running.loop._toolbox

        hub.write("iris", "x")
        await hub.sees(hub.received)
        await trio.testing.wait_all_tasks_blocked()
        late = await toolbox().call("send", {"to": "operator", "body": "late"})
        held.set()
        await ended(hub, 1)
    assert (during, late.is_error) == ([False], True)
    assert [message.body for message in hub.received()] == ["x"]


async def test_a_reminder_whose_check_says_no_costs_no_turn(place: Path) -> None:
    hub, runner = Hub(place), Scripted()
    errands = ScriptedErrands(Checked(passed=False, detail="only_if ended with 1: nothing new"))
    async with hub.up("iris"), looping(hub, runner, errands):
        hub.write("iris", "look", only_if="test -s inbox")
        hub.write("iris", "next")
        await ended(hub, 1)
    assert errands.commands == ["test -s inbox"]
    assert [skip.detail for skip in hub.skipped] == ["only_if ended with 1: nothing new"]
    assert runner.ran == [("next", 1)]


async def test_a_reminder_whose_check_says_yes_drives_a_turn(place: Path) -> None:
    hub, runner = Hub(place), Scripted()
    errands = ScriptedErrands(Checked(passed=True), after_s=ONLY_IF_S_MAX)
    async with hub.up("iris"), looping(hub, runner, errands):
        hub.write("iris", "look", only_if="true")
        await ended(hub, 1)
    assert runner.ran == [("look", 1)]
    assert hub.skipped == []
    assert asked(hub, wire.BeginTurn) == 1


async def test_a_skip_that_is_not_taken_comes_again_without_a_storm(place: Path) -> None:
    hub, no = Hub(place), Checked(passed=False, detail="no")
    errands = ScriptedErrands(*[no] * 1_000)
    hub.refuse = lambda agent, request: (
        Refused(Problem.STORAGE_FULL, "no room") if isinstance(request, wire.SkipDelivery) else None
    )
    async with hub.up("iris"), looping(hub, Scripted(), errands):
        hub.write("iris", "look", only_if="false")
        await trio.sleep(600)
        assert 100 < asked(hub, wire.SkipDelivery) < 200
        hub.refuse = lambda agent, request: None
        await hub.sees(lambda: hub.skipped)


async def test_a_stop_ends_a_check_and_gives_the_delivery_back(place: Path) -> None:
    hub, errands = Hub(place), ScriptedErrands(after_s=50)
    async with hub.up("iris"), looping(hub, Scripted(), errands) as running:
        hub.write("iris", "look", only_if="sleep 50")
        await trio.sleep(1)
        running.stopping.set()
        with trio.fail_after(1):
            await running.done.wait()
    assert errands.cancelled == 1
    assert (asked(hub, wire.ReleaseDelivery), asked(hub, wire.BeginTurn)) == (1, 0)
    assert len(hub.inboxes["iris"].queued) == 1


async def test_an_agent_that_was_paused_between_take_and_begin_is_no_storm(place: Path) -> None:
    hub, runner = Hub(place), Scripted()
    hub.refuse = lambda agent, request: (
        Refused(Problem.CONFLICT, "iris is paused") if isinstance(request, wire.BeginTurn) else None
    )
    async with hub.up("iris"), looping(hub, runner):
        hub.write("iris", "x")
        await trio.sleep(600)
        assert 100 < asked(hub, wire.BeginTurn) < 200
        assert asked(hub, wire.ReleaseDelivery) >= asked(hub, wire.BeginTurn) - 1
        hub.refuse = lambda agent, request: None
        await ended(hub, 1)
    assert runner.ran == [("x", 1)]


async def test_a_broker_that_gives_nothing_is_asked_again_without_a_storm(place: Path) -> None:
    hub, runner = Hub(place), Scripted()
    hub.refuse = lambda agent, request: (
        Refused(Problem.INTERNAL, "incident") if isinstance(request, wire.TakeDelivery) else None
    )
    async with hub.up("iris"), looping(hub, runner):
        await trio.sleep(600)
    assert asked(hub, wire.TakeDelivery) < 200


async def test_it_says_how_it_is_when_it_is_asked(place: Path) -> None:
    hub, errands = Hub(place), ScriptedErrands()
    errands.fault = "its user cannot write"
    async with hub.up("iris"), looping(hub, Scripted(), errands):
        await trio.sleep(1)
        hub.command("iris", wire.ProveHealth(40))
        await trio.sleep(1)
        assert hub.health == [("iris", wire.ReportHealth(40, "its user cannot write"))]
        errands.fault = ""
        hub.command("iris", wire.ProveHealth(41))
        await trio.sleep(1)
        assert hub.health[-1] == ("iris", wire.ReportHealth(41))


async def test_a_turn_uses_the_model_that_was_chosen_when_it_began(place: Path) -> None:
    hub, runner = Hub(place), Scripted()
    async with hub.up("iris"), looping(hub, runner):
        hub.write("iris", "one")
        await ended(hub, 1)
        hub.models["iris"] = "opus"
        hub.write("iris", "two")
        await ended(hub, 2)
    assert runner.models == [None, "opus"]
