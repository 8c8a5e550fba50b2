"""T12: an agent that takes all it can get of processes, memory, open files and disk harms nobody but itself.

A real cage runs the bombs as its agent CLI. What a neighbour's messages take is compared with what they took before
and after, in the same run, by their quicker half: a machine that is busy with something else slows all of them.
"""

import shutil
import statistics
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

from protocol.brokerd import ListMessages
from protocol.privd import AnyCageEvent, Cage, CageLimitHit, ListCages, Power, Resource, WatchCages
from protocol.tools import Send
from runtime.client import Client
from runtime.clock import new_key
from tests.support.hive import RunningHive, hive
from tests.support.waiting import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.whole,
    pytest.mark.cage,
    pytest.mark.root,
    pytest.mark.serial,
    pytest.mark.slow,
]

CYCLES: Final = 4
SLOWER_MAX: Final = 12.0
"""A starved neighbour takes a hundred times as long, or never answers; a busy machine's noise is a few times.

A send takes a few milliseconds, which any noise multiplies: it may always take what a whole answer takes in quiet.
"""
ORDINARY_UID: Final = 54_321
BOMBS: Final = Path(__file__).with_name("bombs.py")
SETTINGS: Final = """
[guards]
messages_per_minute = 100000
pair_messages_per_minute = 100000

[cages.limits]
memory_mib_max = 256
tasks_max = 96
cpu_percent_max = 50
files_max = 256
disk_mib_max = 64
"""
REFUSED: Final = {
    "fork": "fork refused 11",
    "memory": "memory ",
    "files": "files refused 24",
    "disk": f"disk refused 27 at {64 << 20}",
}
"""What the bomb notes of its end: EAGAIN, a kill or MemoryError, EMFILE, EFBIG."""


class Neighbourhood:
    """A hive in which iris is mad and moth works."""

    def __init__(self, running: RunningHive) -> None:
        self.running = running
        self.state = running.places.state / "agents/iris/state"
        self.quick: dict[str, tuple[float, float]] = {}
        """Phase → the median of the quicker half: of a durable send, and of moth's answer."""

    @property
    def log(self) -> str:
        try:
            return (self.state / "bomb.log").read_text()
        except FileNotFoundError:
            return ""

    async def measure(self, phase: str, brokerd: Client) -> None:
        sends, answers = [], []
        for _ in range(CYCLES):
            begun = trio.current_time()
            sent = await brokerd.call(Send(to="moth", body="who", key=new_key()))
            sends.append(trio.current_time() - begun)

            async def answered(message: int = sent.message) -> bool:
                page = await brokerd.call(ListMessages())
                return any(m.sender == "moth" and m.in_reply_to == message for m in page.messages)

            await until(answered, what=f"moth's answer during {phase}")
            answers.append(trio.current_time() - begun)
        self.quick[phase] = (_quick(sends), _quick(answers))

    @asynccontextmanager
    async def bomb(self, kind: str, brokerd: Client) -> AsyncIterator[None]:
        wanted = self.state / "wanted"
        (self.state / "bomb.log").unlink(missing_ok=True)
        wanted.write_text(kind)
        await brokerd.call(Send(to="iris", body=f"bomb:{kind}", key=new_key()))
        await until(lambda: REFUSED[kind] in self.log, what=f"the {kind} bomb's refusal")
        try:
            yield
        finally:
            wanted.write_text("nothing")
            await until(lambda: f"over {kind}" in self.log, what=f"the end of the {kind} bomb")


def _quick(times: list[float]) -> float:
    return statistics.median(sorted(times)[: (len(times) + 1) // 2])


@pytest.fixture(scope="module", params=["nspawn", "bwrap"])
def neighbourhood(request: pytest.FixtureRequest) -> Iterator[Neighbourhood]:
    """As root with nspawn, and as an ordinary user, who has no control groups, with bubblewrap."""
    if shutil.which({"nspawn": "systemd-nspawn", "bwrap": "bwrap"}[request.param]) is None:
        pytest.skip(f"{request.param} is not installed")
    with tempfile.TemporaryDirectory(prefix="hive-bombs-") as folder:
        program = Path(folder, "claude")
        shutil.copy(BOMBS, program)
        program.chmod(0o755)
        Path(folder).chmod(0o755)
        with hive(
            "--runner", "demo", "--agents", "moth",
            settings=SETTINGS, environment={"HIVE_CLAUDE": str(program)},
            uid=ORDINARY_UID if request.param == "bwrap" else None,
        ) as running:  # fmt: skip
            running.hivectl("spawn", "iris", "--runner", "claude")
            yield Neighbourhood(running)


def cage_of(cages: tuple[Cage, ...], agent: str) -> Cage:
    return next(cage for cage in cages if cage.agent == agent)


def hits(told: list[AnyCageEvent]) -> list[CageLimitHit]:
    return [event for event in told if isinstance(event, CageLimitHit)]


async def test_a_mad_agent_harms_nobody_but_itself(neighbourhood: Neighbourhood) -> None:
    told: list[AnyCageEvent] = []
    async with (
        Client(neighbourhood.running.socket("brokerd")) as brokerd,
        Client(neighbourhood.running.socket("privd")) as privd,
        trio.open_nursery() as nursery,
    ):

        async def listen() -> None:
            async with privd.watch(WatchCages()) as events:
                async for event in events:
                    told.append(event)  # noqa: PERF401 - it never ends

        nursery.start_soon(listen)
        before = await privd.call(ListCages())
        await neighbourhood.measure("before", brokerd)
        for kind in REFUSED:
            async with neighbourhood.bomb(kind, brokerd):
                await neighbourhood.measure(kind, brokerd)
        await neighbourhood.measure("after", brokerd)

        iris = cage_of(before, "iris")
        limited = {
            name: not any(f"limits {name}" in text for text in iris.degraded)
            for name in ("memory", "tasks", "cpu")
        }
        wanted = {resource for resource in (Resource.MEMORY, Resource.TASKS) if limited[resource]}
        await until(
            lambda: wanted <= {hit.resource for hit in hits(told)}, what=f"an event for each of {wanted}"
        )
        after = await privd.call(ListCages())
        nursery.cancel_scope.cancel()

    assert {hit.agent for hit in hits(told)} <= {"iris"}
    for agent in ("moth", "iris", "hm1nd"):
        now, then = cage_of(after, agent), cage_of(before, agent)
        assert (now.power, now.started_ms, now.crashes) == (Power.RUNNING, then.started_ms, 0), agent
    quiet_send, quiet_answer = (
        max(pair) for pair in zip(neighbourhood.quick["before"], neighbourhood.quick["after"], strict=True)
    )
    for kind in REFUSED:
        send, answer = neighbourhood.quick[kind]
        assert send < max(SLOWER_MAX * quiet_send, quiet_answer), (kind, neighbourhood.quick)
        if limited["cpu"]:
            assert answer < SLOWER_MAX * quiet_answer, (kind, neighbourhood.quick)


def test_what_does_not_hold_is_said(neighbourhood: Neighbourhood) -> None:
    """A bomb that was held by less than a control group: the cage said so before."""
    rows = neighbourhood.running.hivectl("cages")
    (iris,) = [row for row in rows if row["agent"] == "iris"]
    unheld = [text for text in iris["degraded"] if text.startswith("no control group limits")]
    assert bool(unheld) is (neighbourhood.running.places.state.stat().st_uid == ORDINARY_UID)
