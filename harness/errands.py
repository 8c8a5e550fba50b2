"""Small things done as the agent's user between turns: a reminder's `only_if`, and the size of the notes.

A check runs in the agent's working folder and in the environment that its own programs get. It says yes by ending
with 0. At its time limit, or when the harness is stopped, its whole group is ended; whatever it left behind is, too.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Final, Protocol

import trio
from msgspec import Struct

from harness.cli import DRAIN_S, Command, Pipes, Tail, pipes
from harness.places import Places
from harness.spawn import Child, NoSize, NotStarted, Spawner
from protocol.limits import ONLY_IF_S_MAX

SHELL: Final = "/bin/sh"
LAST_WORDS_CHARS_MAX: Final = 500
WRITES: Final = "test -w ."
SAYS_ITSELF: Final = "--version"
"""What a program of a runner answers at once, without a credential and without a trace."""
END_S: Final = 5.0
"""How long a group may take to end after SIGKILL."""


class Checked(Struct, frozen=True):
    """What an `only_if` said; `detail` has its last words when that was no."""

    passed: bool
    detail: str = ""


class Errands(Protocol):
    """What the turn loop has done beside the turns."""

    async def self_test(self) -> str:
        """Whether a turn could work: what is wrong, empty when nothing is."""
        ...

    async def only_if(self, command: str) -> Checked:
        """Run a reminder's command; at most ONLY_IF_S_MAX. Cancelled, it is ended at once."""
        ...

    async def notes_bytes(self) -> int | None:
        """How large the agent's notes are; None when there are none."""
        ...


class AgentErrands:
    """The errands of one agent, by the spawner."""

    def __init__(
        self, spawner: Spawner, places: Places, environment: Mapping[str, str], program: Path | None = None
    ) -> None:
        self._spawner = spawner
        self._places = places
        self._environment = dict(environment)
        self._program = program
        """What drives the turns, when it is a program beside our own."""

    async def self_test(self) -> str:
        """See Errands. All of it runs as the agent's user, in its working folder."""
        state, program = self._places.state, self._program
        if not (await self._run(WRITES)).passed:
            return f"its user cannot write to {state}"
        if program is None:
            return ""
        if not (await self._run(f"test -x {quote(str(program))}")).passed:
            return f"the runner's program is not there: {program}"
        started = await self._run(f"exec {quote(str(program))} {SAYS_ITSELF}")
        return "" if started.passed else f"the runner's program does not start: {started.detail}"

    async def only_if(self, command: str) -> Checked:
        """See Errands."""
        return await self._run(command, "only_if")

    async def _run(self, command: str, name: str = "it") -> Checked:
        """Run a command; what is said of it calls it by this name."""
        shell = Command((SHELL, "-c", command), self._environment, str(self._places.state))
        async with pipes("") as streams:
            try:
                child = await self._spawner.start(
                    shell.argv,
                    shell.env,
                    shell.cwd,
                    stdin=streams.stdin,
                    stdout=streams.out_in,
                    stderr=streams.out_in,
                )
            except NotStarted as fault:
                return Checked(passed=False, detail=f"{name} did not start: {fault}")
            finally:
                streams.close_far_ends()
            return await _checked(child, streams, name)

    async def notes_bytes(self) -> int | None:
        """See Errands."""
        try:
            return await self._spawner.size(str(self._places.notes))
        except NoSize:
            return None


async def _checked(child: Child, streams: Pipes, name: str) -> Checked:
    tail, code = Tail(), None
    async with trio.open_nursery() as reading:
        reading.start_soon(tail.read, streams.out)
        try:
            with trio.move_on_after(ONLY_IF_S_MAX):
                code = await child.wait()
        finally:
            with trio.move_on_after(END_S) as ending:
                ending.shield = True
                await child.end_group()
                await child.wait()
        reading.cancel_scope.deadline = trio.current_time() + DRAIN_S
    if code == 0:
        return Checked(passed=True)
    how = f"took longer than {ONLY_IF_S_MAX} s" if code is None else f"ended with {code}"
    said = tail.text().replace("\0", "�").strip()[-LAST_WORDS_CHARS_MAX:]
    return Checked(passed=False, detail=f"{name} {how}: {said}" if said else f"{name} {how}")


def check_environment(given: Mapping[str, str], places: Places, proxy: Mapping[str, str]) -> dict[str, str]:
    """What a check finds in its environment: what the agent's settings say, a home, a path and the way out."""
    return {
        **given,
        **proxy,
        "HOME": str(places.state),
        "LANG": "C.UTF-8",
        "PATH": os.environ.get("PATH", os.defpath),
    }
