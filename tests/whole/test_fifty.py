"""Many cages at once: started, spoken to, killed at random, privd killed too, stopped; none doubled, nothing left.

HIVE_CAGES says how many (50 for the whole; a dozen in every run), HIVE_SEED which kills; both are printed.
"""

import os
import random
import re
import signal
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from privd.cages.boot import is_locked
from privd.cages.identity import RANGE_UIDS, RANGES_PER_BLOCK, hive_tag
from privd.cages.spec import Places
from protocol.approvals import DeploymentState
from protocol.brokerd import ListMessages
from protocol.privd import ListCages, Power, StopCage
from protocol.settings import Runner
from protocol.tools import Send
from runtime.client import Client
from runtime.clock import new_key
from tests.support.hive import RunningHive, remove, start_hive
from tests.support.spawning import ended, spawn
from tests.support.waiting import until
from tests.whole.conftest import UNHURRIED

CAGES = int(os.environ.get("HIVE_CAGES", "12"))
SEED = int(os.environ.get("HIVE_SEED", str(random.randrange(1 << 32))))
AT_ONCE = 8
ROUNDS = 2
CRASHES_EACH_MAX = 2
"""Far below what would make privd give a cage up."""
SETTLED_MS = 60_000 + 4_000 * CAGES
PATIENCE_S = 120.0
ASK_SELDOM_S = 0.5
OTHERS = ("hm1nd", "iris")
"""Whom a new hive has; nobody kills these."""
VICTIMS = ("init", "supervisor", "harness")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.whole,
    pytest.mark.cage,
    pytest.mark.root,
    pytest.mark.serial,
    pytest.mark.timeout(300 + 20 * CAGES),
]


class Swarm:
    """The hive, its agents, and what was measured."""

    def __init__(self, hive: RunningHive) -> None:
        self.hive = hive
        self.agents = [f"a{number}" for number in range(CAGES)]
        self.began = time.monotonic()
        self.figures: dict[str, float] = {}
        self.asked: dict[int, str] = {}

    @property
    def state(self) -> Path:
        return self.hive.places.state

    def places(self, agent: str) -> Places:
        return Places(self.state / "cages" / agent)

    def privd(self) -> Client:
        return Client(self.hive.socket("privd"))

    async def each(
        self, act: Callable[[str, Client], Awaitable[object]], agents: list[str], what: str
    ) -> None:
        """Ask privd one thing for each agent, a few at once; how long each took and all of them."""
        took: list[float] = []
        limiter = trio.CapacityLimiter(AT_ONCE)

        async def one(agent: str) -> None:
            async with limiter, self.privd() as privd:
                began = time.monotonic()
                await act(agent, privd)
                took.append(time.monotonic() - began)

        began = time.monotonic()
        async with trio.open_nursery() as all_of_them:
            for agent in agents:
                all_of_them.start_soon(one, agent)
        self.figures[f"{what}_all_s"] = round(time.monotonic() - began, 2)
        self.figures[f"{what}_median_ms"] = round(statistics.median(took) * 1000)
        self.figures[f"{what}_most_ms"] = round(max(took) * 1000)

    async def ask_all(self, brokerd: Client, agents: list[str], round_: int) -> None:
        for agent in agents:
            sent = await brokerd.call(
                Send(to=agent, body=f"hello {agent}, round {round_}", key=new_key()), patience_s=PATIENCE_S
            )
            self.asked[sent.message] = agent

    async def answered(self, brokerd: Client) -> Counter[int] | None:
        """Answers by question, once there is one to each."""
        answers: Counter[int] = Counter()
        before: int | None = None
        while True:
            page = await brokerd.call(ListMessages(before=before), patience_s=PATIENCE_S)
            for message in page.messages:
                if message.in_reply_to in self.asked and message.sender == self.asked[message.in_reply_to]:
                    answers[message.in_reply_to] += 1
            before = page.before
            if before is None:
                break
        if set(answers) != set(self.asked):
            await trio.sleep(ASK_SELDOM_S)  # all pages again cost the hive more than a message
            return None
        return answers

    async def all_run(self) -> bool:
        async with self.privd() as privd:
            cages = await privd.call(ListCages(), patience_s=PATIENCE_S)
        states = {cage.agent: cage.power for cage in cages}
        assert Power.FAILED not in states.values(), [
            cage.detail for cage in cages if cage.power is Power.FAILED
        ]
        return {states[agent] for agent in self.agents} == {Power.RUNNING}

    def processes(self) -> dict[str, list[tuple[int, str, bytes]]]:
        """Agent → (pid, pid namespace, command line) of whatever sees its folders or stands on its lock."""
        found: dict[str, list[tuple[int, str, bytes]]] = defaultdict(list)
        home = re.compile(re.escape(f"{self.state}/agents/") + r"([a-z0-9]+)/")
        lock = re.compile(re.escape(f"{self.state}/cages/") + r"([a-z0-9]+)/lock")
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                if (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                    continue
                held = lock.search(str((entry / "fd/0").readlink()))
                mounted = home.search((entry / "mountinfo").read_text())
                space, command = str((entry / "ns/pid").readlink()), (entry / "cmdline").read_bytes()
            except OSError:
                continue
            for match in (held or mounted,):
                if match is not None:
                    found[match[1]].append((int(entry.name), space, command))
        return found

    def machines(self) -> Counter[str]:
        """How many nspawn processes each agent has, those of other hives aside."""
        return Counter(
            agent
            for agent, processes in self.processes().items()
            for _, _, command in processes
            if b"systemd-nspawn" in command.split(b"\0")[0] and f"--machine={agent}".encode() in command
        )

    def kill_one(self, rng: random.Random, agent: str) -> bool:
        """SIGKILL to one process of a cage; whether it was there."""
        victim = rng.choice(VICTIMS)
        for pid, _, command in self.processes().get(agent, []):
            words = command.split(b"\0")
            kind = (
                "supervisor"
                if b"systemd-nspawn" in words[0]
                else "init"
                if b"harness.init" in words
                else "harness"
                if b"harness" in words
                else ""
            )
            if kind == victim:
                os.kill(pid, signal.SIGKILL)
                return True
        return False


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    hive = start_hive("--runner", "demo", settings=UNHURRIED)
    try:
        hive.await_link()
        yield Swarm(hive)
    finally:
        hive.stop()
        remove(hive.places.state)


async def test_many_cages(swarm: Swarm, record_property: Callable[[str, object], None]) -> None:
    print(f"HIVE_CAGES={CAGES} HIVE_SEED={SEED}")
    rng = random.Random(SEED)
    block = min(int(path.name) for path in _blocks(swarm.state))
    mounts = _mounts(swarm.state)

    async def make(agent: str, privd: Client) -> None:
        begun = await spawn(privd, agent, runner=Runner.DEMO, patience_s=PATIENCE_S)
        assert (await ended(privd, begun)).state is DeploymentState.DEPLOYED

    async def stop(agent: str, privd: Client) -> None:
        await privd.call(StopCage(agent, graceful=True), patience_s=PATIENCE_S)

    await swarm.each(make, swarm.agents, "spawn")
    async with Client(swarm.hive.socket("brokerd")) as brokerd:
        began = time.monotonic()
        await swarm.ask_all(brokerd, swarm.agents, 0)
        await until(lambda: swarm.answered(brokerd), what="an answer of everybody", deadline_ms=SETTLED_MS)
        swarm.figures["first_answers_s"] = round(time.monotonic() - began, 2)
        assert swarm.machines() == Counter([*swarm.agents, *OTHERS])

        began = time.monotonic()
        async with trio.open_nursery() as storm:
            storm.start_soon(_ask_in_rounds, swarm, brokerd, rng)
            storm.start_soon(_kill_at_random, swarm, rng)
        answers = await until(
            lambda: swarm.answered(brokerd), what="an answer to every question", deadline_ms=SETTLED_MS
        )
        await until(swarm.all_run, what="every cage to run again", deadline_ms=SETTLED_MS)
        swarm.figures["storm_s"] = round(time.monotonic() - began, 2)
    assert set(answers.values()) == {1}, "answered once, however often its cage was killed"
    _check_none_doubled(swarm)

    await swarm.each(stop, swarm.agents, "stop")
    assert set(swarm.processes()) == set(OTHERS)
    assert [agent for agent in swarm.agents if is_locked(swarm.places(agent))] == []
    assert [agent for agent in swarm.agents if swarm.places(agent).record.exists()] == []
    assert swarm.hive.stop() == 0
    _check_nothing_left(swarm, block, mounts)
    print(swarm.figures)
    for name, value in swarm.figures.items():
        record_property(name, value)


async def _ask_in_rounds(swarm: Swarm, brokerd: Client, rng: random.Random) -> None:
    for round_ in range(1, ROUNDS + 1):
        await swarm.ask_all(brokerd, rng.sample(swarm.agents, len(swarm.agents)), round_)


async def _kill_at_random(swarm: Swarm, rng: random.Random) -> None:
    """As many kills as cages, each cage a bounded number of times, and privd's in the middle."""
    kills: Counter[str] = Counter()
    for number in range(CAGES):
        if number == CAGES // 2:
            swarm.hive.kill_daemon("privd")
        may_die = [agent for agent in swarm.agents if kills[agent] < CRASHES_EACH_MAX]
        agent = rng.choice(may_die)
        kills[agent] += swarm.kill_one(rng, agent)
        await trio.sleep(rng.random() / 5)  # spreads the kills over starts, turns and rests
    swarm.figures["killed"] = kills.total()
    assert kills.total() > CAGES // 3


def _check_none_doubled(swarm: Swarm) -> None:
    """One nspawn and one pid namespace for each agent, the one that privd knows."""
    assert swarm.machines() == Counter([*swarm.agents, *OTHERS])
    ours = str(Path("/proc/self/ns/pid").readlink())
    for agent, processes in swarm.processes().items():
        spaces = {space for _, space, _ in processes} - {ours}
        assert len(spaces) == 1, (agent, processes)
        outside = [command.split(b"\0")[0] for _, space, command in processes if space == ours]
        assert all(b"systemd-nspawn" in program for program in outside), (agent, outside)


def _check_nothing_left(swarm: Swarm, block: int, mounts: int) -> None:
    assert dict(swarm.processes()) == {}
    assert _of_uids(range(block, block + RANGE_UIDS * RANGES_PER_BLOCK)) == []
    assert _mounts(swarm.state) == mounts
    tag = hive_tag(str(swarm.state.resolve()))
    assert [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/hyperhive-{tag}*")] == []
    listening = [
        line.split()[-1]
        for line in Path("/proc/net/unix").read_text().splitlines()
        if str(swarm.state) in line
    ]
    assert listening == []
    assert [agent for agent in swarm.agents if is_locked(swarm.places(agent))] == []


def _blocks(state: Path) -> list[Path]:
    """This hive's block of uids, by the link that claims it."""
    registry = Path("/var/lib/hyperhive-blocks")
    return [link for link in registry.iterdir() if link.is_symlink() and link.readlink() == state.resolve()]


def _mounts(state: Path) -> int:
    return sum(str(state) in line for line in Path("/proc/self/mountinfo").read_text().splitlines())


def _of_uids(uids: range) -> list[int]:
    """Pids of processes of these users."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and entry.stat().st_uid in uids:
                found.append(int(entry.name))
        except FileNotFoundError:
            continue
    return found
