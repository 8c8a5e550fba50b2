"""The `fake` backend: cages that are only remembered, for what is decided about them. Real ones are tested for real."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import trio

from privd.cages import folders
from privd.cages.identity import Identity, mapped
from privd.cages.limit_counts import LimitCounts
from privd.cages.spec import CageSpec, Exit, How, Places
from privd.policy.nar import Content
from protocol.problem import Problem, Refused


@dataclass
class FakeCage:
    """Runs until it is stopped or told to crash."""

    leader_pid: int
    started_ms: int = 7
    degraded: tuple[str, ...] = ()
    held: dict[str, str] = field(default_factory=dict)
    base: dict[str, str] = field(default_factory=dict)
    counts: LimitCounts = field(default_factory=LimitCounts)
    stops: list[float] = field(default_factory=list)
    _ended: trio.Event = field(default_factory=trio.Event)
    _exit: Exit = field(default_factory=lambda: Exit(How.EXIT, 0))

    def end(self, how: Exit) -> None:
        self._exit = how
        self._ended.set()

    def limit_counts(self) -> LimitCounts:
        return self.counts

    async def wait(self) -> Exit:
        await self._ended.wait()
        return self._exit

    async def stop(self, grace_s: float) -> Exit:
        self.stops.append(grace_s)
        self.end(Exit(How.EXIT, 0))
        return self._exit

    async def kill(self) -> Exit:
        self.end(Exit(How.SIGNAL, 9))
        return self._exit

    def let_go(self) -> None:
        """Nothing is held."""


@dataclass
class FakeBackend:
    """Counts what it was asked for; `fails` makes the next starts fail; `left_running` is what adoption finds."""

    name: str = "fake"
    cages: list[FakeCage] = field(default_factory=list)
    fails: int = 0
    left_running: FakeCage | Exit | None = None
    removed: int = 0
    cleared: int = 0
    found_wrong: str | None = None
    """What a look at the skeleton finds wrong."""
    build_fails: str = ""
    aimed: dict[str, dict[str, Content]] = field(default_factory=dict)
    """What the next start of each would be built from."""
    system: str = "made up"
    """What the machine's own system is just now."""

    def degraded(self) -> tuple[str, ...]:
        return ()

    def identity(self, uid_base: int) -> Identity:
        return mapped(uid_base)

    def base(self, programs: Mapping[str, str]) -> dict[str, str]:
        return {**programs, "host": self.system}

    def sources(self) -> dict[str, str]:
        return {"nixpkgs": self.system} if self.name == "nixos" else {}

    def record(self, agents: Iterable[str]) -> dict[str, bytes]:
        return {}

    async def build(
        self, agent: str, files: Mapping[str, Content], places: Places, say: Callable[[str], None]
    ) -> None:
        """Says how many files there are; `build_fails` makes it fail."""
        await trio.lowlevel.checkpoint()
        say(f"building {len(files)} files")
        if self.build_fails:
            raise Refused(Problem.FAILED, self.build_fails)

    async def aim(self, agent: str, files: Mapping[str, Content]) -> None:
        await trio.lowlevel.checkpoint()
        self.aimed[agent] = dict(files)

    async def prepare(self, spec: CageSpec, places: Places) -> None:
        """Make the folders of an agent as a real one does."""
        await trio.lowlevel.checkpoint()
        for folder in spec.folders:
            folders.make(folder)

    async def start(self, spec: CageSpec, places: Places) -> FakeCage:
        await trio.lowlevel.checkpoint()
        if self.fails:
            self.fails -= 1
            raise Refused(Problem.FAILED, "no such luck")
        self.cages.append(FakeCage(leader_pid=len(self.cages) + 1, base=spec.base))
        return self.cages[-1]

    async def adopt(self, places: Places) -> FakeCage | Exit | None:
        await trio.lowlevel.checkpoint()
        return self.left_running

    async def clear(self, places: Places) -> None:
        await trio.lowlevel.checkpoint()
        self.cleared += 1

    async def fault(self, spec: CageSpec, places: Places) -> str | None:
        await trio.lowlevel.checkpoint()
        return self.found_wrong

    async def remove(self, places: Places) -> None:
        await trio.lowlevel.checkpoint()
        self.removed += 1
