"""What every runner is: one delivery in, one report out. And the run that they share: a CLI, its lines, a verdict."""

from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import Struct

from harness.claude.reader import Reader
from harness.cli import Command, run_cli
from harness.policy.outcomes import Stop, Verdict, classify
from harness.spawn import Spawner
from harness.stop import TurnStop
from protocol.agent import Delivery
from protocol.limits import INTEGER_MAX
from protocol.turns import TurnEvent, Usage
from runtime.clock import now_ms

Emit = Callable[[TurnEvent], None]


class Report(Struct, frozen=True):
    """How a turn went."""

    verdict: Verdict
    usage: Usage | None = None
    conversation: str | None = None


class Runner(Protocol):
    """Drives one kind of agent CLI. Never raises for what the CLI does; asks no brokerd."""

    async def run(self, delivery: Delivery, emit: Emit, stop: TurnStop, model: str | None = None) -> Report:
        """Run one turn. *model* is what the operator chose for now; None: what the settings say."""
        ...


class Run(Struct, frozen=True):
    """How one run of the CLI went; a turn may need more than one."""

    verdict: Verdict
    usage: Usage | None


async def run_once(spawner: Spawner, command: Command, prompt: str, emit: Emit, stop: TurnStop) -> Run:
    """Run the CLI once, its events going to *emit* as they come."""
    lines = _Reading(Reader(now_ms), emit, stop)
    ended = await run_cli(spawner, command, prompt, lines, stop)
    for event in lines.reader.closing():
        emit(event)
    facts = lines.reader.facts(exit_code=ended.exit_code, stopped=stop.reason, stderr_tail=ended.stderr_tail)
    return Run(classify(facts), lines.reader.usage())


class _Reading:
    """Passes lines to the reader, and ends a CLI that came up without the hive's tools before it costs anything."""

    def __init__(self, reader: Reader, emit: Emit, stop: TurnStop) -> None:
        self.reader = reader
        self._emit = emit
        self._stop = stop

    def line(self, untrusted_line: bytes) -> None:
        for event in self.reader.feed(untrusted_line):
            self._emit(event)
        if self.reader.tools_missing():
            self._stop.ask(Stop.NO_TOOLS)

    def too_long(self) -> None:
        self.reader.skip("too long")


def added(one: Usage | None, other: Usage | None) -> Usage | None:
    """What two runs cost together."""
    if one is None or other is None:
        return one or other
    mine, others = msgspec.structs.astuple(one), msgspec.structs.astuple(other)
    return Usage(*(min(INTEGER_MAX, sum(pair)) for pair in zip(mine, others, strict=True)))
