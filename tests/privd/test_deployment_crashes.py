"""Proposals and deployments while privd ends between any two steps: in a model here, and by SIGKILL in a real process.

A crash is an exception at the n-th thing that reaches the disk, and an end of everything that runs. The privd that
comes after it must bring every deployment to an end: live, or what was there before.
"""

import functools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from privd import deploying
from privd.audit_files import File
from privd.git.applied import Applied
from privd.host import Host
from privd.policy.admission import Admitted
from privd.policy.objects_made import commit_of, tree_of
from privd.policy.record import ENDS, PASSING
from privd.policy.steps import TRIES_MAX, Step
from privd.registry import Registry
from privd.verify import verify
from protocol.approvals import DeploymentState, ProposalKind, ProposalState
from protocol.configuration import Deny, RollBack
from tests.privd.deployment_driver import REPORT
from tests.support.configuring import Desk, desk, ground
from tests.support.repositories import ENVIRONMENT

pytestmark = [pytest.mark.root, pytest.mark.cage]

AGENT = "iris"
WRITES = (
    (Applied, "put"),
    (Applied, "move_main"),
    (Applied, "tag"),
    (Applied, "drop_tag"),
    (File, "append"),
    (Registry, "put"),
    (Registry, "forget"),
    (deploying.Deploying, "_write"),
    (deploying, "erase"),
)
"""What reaches the disk, one thing after the other."""
KILLS = int(os.environ.get("HIVE_KILLS", "3"))


class Crash(BaseException):
    """Privd ends here."""


@contextmanager
def crashing(after: int | None, *, late: bool) -> Iterator[None]:
    """Let the process end before (or just after) the n-th write, and every one that would follow."""
    done = 0

    def wrapped(act: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(act)
        def crash(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if after is not None and (done > after or (done == after and not late)):
                raise Crash
            found = act(*arguments, **named)
            if done == after:
                raise Crash
            return found

        return crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)  # a crash of privd, not of the machine
        patch.setattr(Host, "fill", _filled)
        patch.setattr(Host, "ingest", _ingested)
        patch.setattr(deploying, "LOOK_S", 0.002)
        for owner, name in WRITES:
            patch.setattr(owner, name, wrapped(getattr(owner, name)))
        yield


async def _filled(host: Host, agent: str, commit: str) -> None:
    """Boxes have tests of their own."""


async def _ingested(host: Host, agent: str, commit: str) -> Admitted:
    """What the reader would have found stands in the applied repository already."""
    from privd.git.contents import tree_id  # noqa: PLC0415 - of the one test

    return Admitted(commit, tree_id(host.repositories.applied(agent), commit), (), (), 0)


def prepared(place: Path, model: str) -> str:
    """A commit that says this model, as if it had been taken in."""
    applied = Applied(place / "applied" / f"{AGENT}.git")
    applied.make()
    objects = tree_of({"agent.toml": f'model = "{model}"\n'.encode()})
    commit = commit_of(objects[-1].id, (), model, 1_700_000_000)
    applied.put((*objects, commit))
    return commit.id


MODELS = st.sampled_from(["haiku", "opus", "sonnet"])
CRASHES = st.none() | st.integers(1, 36)


class Configuring(RuleBasedStateMachine):
    """One agent, and a privd that is started anew for whatever is done."""

    def __init__(self) -> None:
        super().__init__()
        self._held = tempfile.TemporaryDirectory(prefix="hive-", dir="/tmp")
        self.place = Path(self._held.name)

    def teardown(self) -> None:
        self._held.cleanup()

    def play(
        self, act: Callable[[Desk], Awaitable[None]], after: int | None, *, late: bool, fault: str = ""
    ) -> bool:
        """Do something, crash perhaps, then let another privd bring everything to an end. Whether it crashed."""

        async def run() -> None:
            async with desk(self.place) as at, trio.open_nursery() as nursery:
                nursery.start_soon(_confirm, at, fault)
                await act(at)
                await _settled(at)
                nursery.cancel_scope.cancel()

        async def nothing(at: Desk) -> None:
            await trio.lowlevel.checkpoint()

        crashed = False
        with crashing(after, late=late):
            try:
                trio.run(run)
            except BaseExceptionGroup as group:
                crashed = True
                if group.split(Crash)[1] is not None:
                    raise
        act = nothing
        with crashing(None, late=False):
            trio.run(run)
        return crashed

    @rule(model=MODELS, after=CRASHES, late=st.booleans())
    def propose(self, model: str, after: int | None, late: bool) -> None:
        with crashing(None, late=False):
            commit = prepared(self.place, model)

        async def act(at: Desk) -> None:
            living = at.host.standing(AGENT).value == "living"
            kind = ProposalKind.CONFIG if living else ProposalKind.SPAWN
            if at.host.standing(AGENT).value == "nobody":
                await at.propose(AGENT, kind)
            else:
                await at.propose(AGENT, kind, commit)

        self.play(act, after, late=late)

    @rule(after=CRASHES, late=st.booleans(), fault=st.sampled_from(["", "", "not well"]))
    def approve(self, after: int | None, late: bool, fault: str) -> None:
        self.approved(after, late=late, fault=fault)

    def approved(self, after: int | None, *, late: bool, fault: str = "") -> bool:
        """Approve what is open. Whether privd crashed on the way."""

        async def act(at: Desk) -> None:
            living = at.host.standing(AGENT).value == "living"
            kind = ProposalKind.CONFIG if living else ProposalKind.SPAWN
            for row in at.host.proposals.rows(AGENT, 9, ended=False):
                if row.kind is kind:
                    with pytest.MonkeyPatch.context() as patch:
                        patch.setattr("privd.proposals.difference", _no_difference)
                        await at.approve(row)
                    return

        return self.play(act, after, late=late, fault=fault)

    @rule(after=CRASHES, late=st.booleans())
    def deny(self, after: int | None, late: bool) -> None:
        async def act(at: Desk) -> None:
            for row in at.host.proposals.rows(AGENT, 1, ended=False):
                await at.ask(Deny(AGENT, row.number))

        self.play(act, after, late=late)

    @precondition(
        lambda self: (self.place / "applied" / f"{AGENT}.git" / "refs" / "tags" / "deployed").exists()
    )
    @rule(after=CRASHES, late=st.booleans(), fault=st.sampled_from(["", "not well"]))
    def roll_back(self, after: int | None, late: bool, fault: str) -> None:
        async def act(at: Desk) -> None:
            rows = [row for row in at.host.deployments.rows(AGENT) if row.state is DeploymentState.DEPLOYED]
            if rows and at.host.standing(AGENT).value == "living":
                await at.ask(RollBack(AGENT, rows[0].number))

        self.play(act, after, late=late, fault=fault)

    @invariant()
    def everything_has_ended_and_fits(self) -> None:
        trio.run(check, self.place)


async def _no_difference(*_: object) -> tuple[()]:
    await trio.lowlevel.checkpoint()
    return ()


async def _confirm(at: Desk, fault: str) -> None:
    """The broker: finds every cage well, or not. What was there before is well in any case."""
    while True:
        await trio.sleep(0.002)
        for row in at.host.rows():
            if row.started_ms is not None:
                at.host.deployments.confirm_health(AGENT, row.started_ms, fault)


async def _settled(at: Desk) -> None:
    while at.host.deployments._at_work:  # noqa: ASYNC110 - tests wait for what no event tells
        await trio.sleep(0.002)


async def check(place: Path) -> None:
    """What must be true whenever nothing is under way."""
    async with desk(place) as at:
        assert verify(place, None).faults == ()
        ledger = at.host.ledger(AGENT)
        record = ledger.record()
        ended = {number for mark, number in ledger.tags if mark in ENDS}
        for row in record.deployments.values():
            assert row.ended_ms is not None, f"{row} has not ended"
            assert not any((mark, row.number) in ledger.tags for mark in PASSING)
        for proposal in record.proposals.values():
            assert (proposal.state is ProposalState.OPEN) == (proposal.number not in ended)
        assert not (ledger.folder / "step.json").exists()
        live = [row for row in record.deployments.values() if row.state is DeploymentState.DEPLOYED]
        main = ledger.applied.main()
        assert main == (live[-1].commit if live else None)
        if at.host.standing(AGENT).value == "living":
            assert live, "an agent lives without a generation"
            assert main is not None
            reading = await at.host.read(AGENT, main)
            assert at.host.keeper(AGENT).record.settings == reading.settings, (
                "the settings are not the deployed ones"
            )
        else:
            assert not live


Configuring.TestCase.settings = settings(
    max_examples=int(os.environ.get("HIVE_CRASH_EXAMPLES", "8")),
    stateful_step_count=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestConfiguring = Configuring.TestCase


@pytest.mark.parametrize("fault", ["", "not well"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("is_new", [False, True])
def test_a_crash_at_every_single_write(fault: str, late: bool, is_new: bool) -> None:
    """One deployment, of a new agent or of one that lives, over and over: each time privd ends a write later."""
    at = 0
    crashed = True
    while crashed:
        at += 1
        model = Configuring()
        try:
            if not is_new:
                model.propose("haiku", None, False)
                assert not model.approved(None, late=False)
            model.propose("opus", None, False)
            crashed = model.approved(at, late=late, fault=fault)
            model.everything_has_ended_and_fits()
            trio.run(_has_come_out, model.place, "" if is_new else "haiku", fault, crashed)
        finally:
            model.teardown()
    assert at > len(WRITES)


async def _has_come_out(place: Path, before: str, fault: str, crashed: bool) -> None:
    """The verdict is there, unless the crash came before the approval was written down."""
    async with desk(place) as at:
        row = at.host.proposals.find(AGENT, 2 if before else 1)
        standing = at.host.standing(AGENT).value
        model = at.host.keeper(AGENT).record.settings.model if standing == "living" else ""
        wanted = {ProposalState.FAILED if fault else ProposalState.DEPLOYED}
        assert row.state in wanted | ({ProposalState.OPEN} if crashed else set())
        new = "opus" if before else "haiku"
        assert model == (new if row.state is ProposalState.DEPLOYED else before)


def test_a_configuration_that_brings_privd_down_does_so_three_times_and_no_more() -> None:
    ends = 0

    async def down(host: Host, agent: str, step: Step) -> bool:
        nonlocal ends
        ends += 1
        raise Crash

    model = Configuring()
    try:
        model.propose("haiku", None, False)
        assert not model.approved(None, late=False)
        model.propose("opus", None, False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Host, "take_up", down)
            with pytest.raises(BaseExceptionGroup):
                model.approved(None, late=False)
            for _ in range(TRIES_MAX - 2):
                with pytest.raises(BaseExceptionGroup):
                    trio.run(_brought_to_an_end, model.place)
            trio.run(_brought_to_an_end, model.place)
        assert ends == TRIES_MAX
        trio.run(_has_come_out, model.place, "haiku", "returned", False)
    finally:
        model.teardown()


def test_killed_at_any_moment_it_ends_deployed_or_returned() -> None:
    """A real privd, without sockets and cages, that deploys one configuration after the other."""
    with ground() as place:
        for _ in range(KILLS):
            driver = subprocess.Popen(
                [sys.executable, "-m", "tests.privd.deployment_driver", str(place)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=Path(__file__).parents[2],
            )
            assert driver.stdout is not None
            heard = json.loads(driver.stdout.readline())
            assert heard == REPORT
            time.sleep(secrets.randbelow(2_000) / 1000)  # the moment is what is drawn
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            driver.stdout.close()
        trio.run(_brought_to_an_end, place)
        trio.run(check, place)
        found = subprocess.run(
            ["git", "-C", str(place / "applied" / f"{AGENT}.git"), "fsck", "--full", "--strict"],
            env=ENVIRONMENT | {"GIT_CONFIG_COUNT": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr


async def _brought_to_an_end(place: Path) -> None:
    async with desk(place) as at, trio.open_nursery() as nursery:
        nursery.start_soon(_confirm, at, "")
        await _settled(at)
        nursery.cancel_scope.cancel()
