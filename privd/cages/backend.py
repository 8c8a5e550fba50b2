"""What every kind of cage offers to privd's handlers.

    nixos      root on NixOS: a system for each cage      privd.cages.nixos
    nspawn     root: a uid range for each cage            privd.cages.nspawn
    bwrap      an ordinary user, or root without nspawn   privd.cages.bwrap

`choose` in privd.cages.probe picks one for this machine.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from privd.cages.identity import Identity
from privd.cages.limit_counts import LimitCounts
from privd.cages.spec import CageSpec, Exit, Places
from privd.policy.nar import Content


class RunningCage(Protocol):
    """A cage that was started or adopted. It lives on when this object, or the process that holds it, goes."""

    @property
    def leader_pid(self) -> int:
        """Host pid of the cage's init."""
        ...

    @property
    def started_ms(self) -> int: ...

    @property
    def degraded(self) -> tuple[str, ...]:
        """What this cage lacks on this machine, one sentence each."""
        ...

    @property
    def held(self) -> dict[str, str]:
        """What limits this cage: `memory`, `tasks`, `cpu`, `disk`, as far as something does, and by what."""
        ...

    @property
    def base(self) -> dict[str, str]:
        """What it was made from (`privd.policy.base`); empty when nobody wrote that down."""
        ...

    def limit_counts(self) -> LimitCounts:
        """How often it met a limit since it started; after its end, what was counted last."""
        ...

    async def wait(self) -> Exit:
        """How it ended, once nothing of it is left. Any number of tasks may wait, again and again."""
        ...

    async def stop(self, grace_s: float) -> Exit:
        """Ask its init to end (SIGTERM), end it by force after `grace_s`, and wait."""
        ...

    async def kill(self) -> Exit:
        """End it by force and wait."""
        ...

    def let_go(self) -> None:
        """Stop watching it; it runs on and may be adopted. Whoever waits here waits for ever."""
        ...


class Backend(Protocol):
    """A way to make cages. Refusals: `conflict` when the cage runs already, `failed` with the reason when it cannot."""

    @property
    def name(self) -> str: ...

    def degraded(self) -> tuple[str, ...]:
        """What every cage of this backend lacks here, one sentence each."""
        ...

    def identity(self, uid_base: int) -> Identity:
        """The host's ids of a cage's users: who connects to its sockets, who owns its folders."""
        ...

    def base(self, programs: Mapping[str, str]) -> dict[str, str]:
        """What a cage that is made now is made from; *programs* are folders of ours that it would see, by part."""
        ...

    def sources(self) -> dict[str, str]:
        """What systems are built from, by name and hash; nothing where none are."""
        ...

    def record(self, agents: Iterable[str]) -> dict[str, bytes]:
        """What the meta repository holds of these agents beside privd's own files, by path."""
        ...

    async def build(
        self, agent: str, files: Mapping[str, Content], places: Places, say: Callable[[str], None]
    ) -> None:
        """Build what a configuration needs before anything is switched; the cage may run meanwhile.

        Each line that the build prints is told as it comes. Nothing to do where cages show the machine's own programs.
        """
        ...

    async def aim(self, agent: str, files: Mapping[str, Content]) -> None:
        """From the next start on this configuration counts."""
        ...

    async def prepare(self, spec: CageSpec, places: Places) -> None:
        """Make folders and skeleton root. `start` does it again, so it need not be called before."""
        ...

    async def start(self, spec: CageSpec, places: Places) -> RunningCage:
        """Boot the cage; returns when its init is up and holds no capability any more."""
        ...

    async def adopt(self, places: Places) -> RunningCage | Exit | None:
        """The cage that an earlier privd left running; how it ended, when it did so since then without being asked.

        A half of one (no record, a lost half) is ended instead. None when none ran, or the machine started anew.
        """
        ...

    async def clear(self, places: Places) -> None:
        """Delete the skeleton of a cage that does not run, so that the next start makes every file of it anew."""
        ...

    async def fault(self, spec: CageSpec, places: Places) -> str | None:
        """Where the skeleton is not what *spec* says; None when it is."""
        ...

    async def remove(self, places: Places) -> None:
        """Delete the skeleton, the record and the journal of a cage that does not run."""
        ...
