"""kill -9 of privd in each step of a deployment, in a whole hive with real cages: it ends live, or as it was before.

Never two cages of one agent, no tag that is left over, and root's record is whole at the end. How often in each step is
`HIVE_KILLS` (1); the moments are drawn from `HIVE_SEED`.
"""

import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import trio

from privd.cages.identity import RANGE_UIDS
from privd.deploying import STEP_NAME
from privd.policy.steps import Step, StepName
from protocol.approvals import Click, Deployment, DeploymentState, ProposalKind
from protocol.brokerd import ListMessages
from protocol.configuration import Approve, ListDeployments, ListRefs, Propose, ShowProposal
from protocol.limits import PROPOSALS_PER_HOUR_MAX
from protocol.messages import DeliveryState
from protocol.privd import Cage, ListCages, Power, StopCage
from protocol.settings import Runner
from protocol.tools import Send
from runtime.client import Client, Disconnected
from runtime.clock import new_key
from tests.support.configuring import commit_in, config_of
from tests.support.hive import RunningHive, hive
from tests.support.repositories import ENVIRONMENT
from tests.support.spawning import ended, spawn
from tests.support.waiting import until
from tests.whole.conftest import UNHURRIED

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.whole,
    pytest.mark.cage,
    pytest.mark.root,
    pytest.mark.serial,
    pytest.mark.slow,
]

AGENT: Final = "iris"
KILLS: Final = int(os.environ.get("HIVE_KILLS", "1"))
SEED: Final = int(os.environ.get("HIVE_SEED", str(random.SystemRandom().randrange(10**6))))
BUILDING: Final = "building"
STEPS: Final = (BUILDING, *StepName)
ATTEMPTS_MAX: Final = 8
"""For each kill that is wanted: a short step may be over before the signal arrives."""
SPANS_S: Final = {StepName.SWITCHING: 0.8, StepName.CHECKING: 0.5, StepName.RETURNING: 0.4}
"""Within which a moment is drawn; the other steps are over sooner."""
PROPOSALS_EACH: Final = PROPOSALS_PER_HOUR_MAX - 10
"""For one agent; then it is another one's turn."""
LOOK_S: Final = 0.000_5
PASSING: Final = ("proposal", "agreed", "approved", "building")


@pytest.fixture(scope="module")
def running() -> Iterator[RunningHive]:
    """A hive whose agents may also be configured for a CLI that is not there any more: they are not well then."""
    with tempfile.TemporaryDirectory(prefix="hive-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        program = Path(folder) / "claude"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        environment = {"HIVE_CLAUDE": str(program)}
        with hive(
            "--runner", "demo", "--agents", AGENT, settings=UNHURRIED, environment=environment
        ) as found:
            program.unlink()
            yield found


class Cages(threading.Thread):
    """Counts, all the time, the cages of each agent: first processes of a process namespace, with uids of its range."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ranges: tuple[int, ...] = ()
        """Of the agents that are looked at."""
        self._over = threading.Event()
        self.most = 0
        self.looks = 0

    def run(self) -> None:
        while not self._over.wait(0.05):
            self.most = max(self.most, self.count())
            self.looks += 1

    def end(self) -> None:
        self._over.set()
        self.join()

    def count(self) -> int:
        """Of the agent that has most."""
        found = Counter(
            agent
            for entry in Path("/proc").iterdir()
            if entry.name.isdecimal() and (agent := self._first_of(entry)) is not None
        )
        return max(found.values(), default=0)

    def _first_of(self, process: Path) -> int | None:
        """Whose cage's first process it is."""
        try:
            agent = process.stat().st_uid // RANGE_UIDS
            if agent not in self.ranges:
                return None
            status = (process / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = dict(line.partition(":")[::2] for line in status.splitlines())
        inner = fields["NSpid"].split()
        is_first = len(inner) == 2 and inner[-1] == "1" and not fields["State"].strip().startswith("Z")
        return agent if is_first else None


@contextmanager
def counted() -> Iterator[Cages]:
    cages = Cages()
    cages.start()
    try:
        yield cages
    finally:
        cages.end()


class Campaign:
    """One deployment after the other, each with an end of privd in it."""

    def __init__(self, running: RunningHive, cages: Cages) -> None:
        self.running = running
        self.cages = cages
        self.agent = AGENT
        self.chance = random.Random(SEED)
        self.killed: Counter[str] = Counter()
        self.turn = 0

    @property
    def record(self) -> Path:
        return self.running.places.state / "applied" / f"{self.agent}.git"

    async def look_at_cages(self) -> None:
        self.cages.ranges += ((await self.cage()).harness_uid // RANGE_UIDS,)

    async def go_over_to(self, agent: str) -> None:
        """Stop the agent, which has had many proposals, and make another one."""
        async with Client(self.running.socket("privd")) as privd:
            await privd.call(StopCage(self.agent), patience_s=60)
            row = await ended(privd, await spawn(privd, agent, runner=Runner.DEMO, patience_s=60))
        assert row.state is DeploymentState.DEPLOYED, row
        self.agent = agent
        await self.look_at_cages()

    async def round(self, aim: str) -> None:
        """A deployment that is ended in a step, if that is met; then everything must have come to its end."""
        if self.turn and self.turn % PROPOSALS_EACH == 0:
            await self.go_over_to(f"{AGENT}{self.turn}")
        self.turn += 1
        sick = aim is StepName.RETURNING or (aim is StepName.CHECKING and self.chance.random() < 0.5)
        text = f'pronouns = "{self.turn}"\nrunner = "{"claude" if sick else "demo"}"\n'
        commit = commit_in(config_of(self.running.places.state, self.agent), text)
        before = await self.cage()
        async with Client(self.running.socket("privd")) as privd:
            proposal = await privd.call(Propose(self.agent, ProposalKind.CONFIG, commit), patience_s=30)
            page = await privd.call(ShowProposal(self.agent, proposal.number), patience_s=30)
            pid = self.running.daemon_pid("privd")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    self._approve, privd, Approve(self.agent, proposal.number, page.digest, Click())
                )
                met = await trio.to_thread.run_sync(self._kill, pid, proposal.number, aim)
                nursery.cancel_scope.cancel()
        self.killed[met] += 1
        await until(lambda: self._runs_again(pid), what="privd to start again")
        row = await until(lambda: self._ended(proposal.number), what=f"an end after a kill while {met}")
        wanted = {DeploymentState.RETURNED} if sick else {DeploymentState.DEPLOYED}
        assert row.state in wanted, (met, row)
        cage = await until(self._running_cage, what="the cage")
        assert cage.settings.pronouns == (before.settings.pronouns if sick else str(self.turn))
        await until(self._is_tidy, what="an end of the tidying up")

    async def _approve(self, privd: Client, request: Approve) -> None:
        try:
            await privd.call(request)
        except Disconnected:
            return

    def _kill(self, pid: int, number: int, aim: str) -> str:
        """Wait for the step, and for a moment of it; kill; in which step that was. In a thread of its own."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if (at := self._at(number)) == aim or at == "ended":
                break
            time.sleep(LOOK_S)
        time.sleep(self.chance.uniform(0, SPANS_S.get(StepName(aim), 0) if aim != BUILDING else 0))
        os.kill(pid, signal.SIGKILL)
        return self._at(number)

    def _at(self, number: int) -> str:
        """The step that is written down."""
        try:
            step = msgspec.json.decode((self.record / STEP_NAME).read_bytes(), type=Step)
            if step.number == number:
                return step.step
        except FileNotFoundError:
            pass
        tags = self.record / "refs" / "tags"
        if any((tags / end / str(number)).exists() for end in ("deployed", "failed")):
            return "ended"
        return BUILDING if (tags / "approved" / str(number)).exists() else "before"

    def _runs_again(self, before: int) -> bool:
        try:
            return self.running.daemon_pid("privd") != before
        except AssertionError:
            return False

    async def _asked(self, ask: Callable[[Client], Any]) -> Any:
        """An answer, or None while privd is not there."""
        try:
            async with Client(self.running.socket("privd")) as privd:
                return await ask(privd)
        except Disconnected:
            return None

    async def _ended(self, number: int) -> Deployment | None:
        rows = await self._asked(lambda privd: privd.call(ListDeployments(self.agent), patience_s=20))
        return next((row for row in rows or () if row.number == number and row.ended_ms), None)

    async def cage(self) -> Cage:
        return await until(self._cage, what="the cage's row")

    async def _cage(self) -> Cage | None:
        rows = await self._asked(lambda privd: privd.call(ListCages(), patience_s=20))
        return next((row for row in rows or () if row.agent == self.agent), None)

    async def _running_cage(self) -> Cage | None:
        row = await self._cage()
        return row if row is not None and row.power is Power.RUNNING else None

    async def _is_tidy(self) -> bool:
        """No step that is written down, and no tag but those of ends."""
        refs = await self._asked(lambda privd: privd.call(ListRefs(self.agent), patience_s=20))
        passing = [ref.name for ref in refs or () if ref.name.split("/")[0] in PASSING]
        return refs is not None and not passing and not (self.record / STEP_NAME).exists()


async def test_killed_in_each_step_a_deployment_comes_to_its_end(
    running: RunningHive, record_property: Callable[[str, object], None]
) -> None:
    print(f"HIVE_SEED={SEED} HIVE_KILLS={KILLS}")
    with counted() as cages:
        campaign = Campaign(running, cages)
        await campaign.look_at_cages()
        await until(lambda: cages.most == 1, what="the first look at the cage")
        while min(campaign.killed[step] for step in STEPS) < KILLS:
            assert campaign.turn < ATTEMPTS_MAX * KILLS * len(STEPS), campaign.killed
            await campaign.round(min(STEPS, key=lambda step: campaign.killed[step]))
        assert cages.count() == 1
    record_property("killed", dict(campaign.killed))
    print(f"killed in {dict(campaign.killed)}")
    assert cages.most == 1, "two cages of one agent"
    assert cages.looks > campaign.turn

    report = running.hivectl("audit", "verify")
    assert report["faults"] == []
    assert any("begun and not ended" in notice for notice in report["notices"])
    for repository in (*(running.places.state / "applied").iterdir(), running.places.state / "meta"):
        assert fsck(repository) == ""
    await works(running, campaign.agent)


def fsck(repository: Path) -> str:
    done = subprocess.run(
        ["git", "-C", str(repository), "fsck", "--full", "--strict", "--no-dangling", "--no-progress"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    return done.stdout + done.stderr


async def works(running: RunningHive, agent: str) -> None:
    """The agent still takes a turn."""
    async with Client(running.socket("brokerd")) as brokerd:
        sent = await brokerd.call(Send(to=agent, body="who", key=new_key()), patience_s=20)

        async def done() -> bool:
            page = await brokerd.call(ListMessages(before=sent.message + 1, limit=1), patience_s=20)
            return page.messages[0].deliveries[0].state is DeliveryState.DONE

        await until(done, what="a turn")
