"""`hivectl log AGENT N`: what a deployment said, and with --follow what it says until it has ended."""

import argparse
from typing import Final

import trio

from hivectl import tables
from hivectl.arguments import whole_number
from hivectl.progress import Absence
from protocol.approvals import BuildLine, Deployment, DeploymentState
from protocol.configuration import ListDeployments, ReadBuildLog, WatchDeployments
from protocol.names import AGENT_NAME_RULE
from protocol.problem import Problem, Refused
from runtime.backoff import delays
from runtime.client import Client, Disconnected

PATIENCE_S: Final = 5.0
RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 2.0
EXIT_NOT_DEPLOYED: Final = 1
PASSING: Final = frozenset({Problem.STOPPING, Problem.BUSY, Problem.LIMIT})


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser("log", help="what a deployment said; the last one's unless told otherwise")
    child.add_argument("agent", help=AGENT_NAME_RULE)
    child.add_argument("number", type=whole_number, nargs="?", help="as `deployments` shows it")
    child.add_argument("--follow", "-f", action="store_true", help="go on until it has ended")
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    """Following, the exit code says whether it was deployed."""
    log = _Log(values)
    async with Client(values.places.socket("privd")) as privd:
        row = await _row(privd, values)
        if not values.follow:
            await log.read(privd, row.number)
            return 0
        waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
        absence = Absence("privd")
        while True:
            try:
                async with privd.watch(WatchDeployments()) as events:
                    absence.ends()
                    async for _ in events:
                        waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
                        row = await _row(privd, values, row.number)
                        await log.read(privd, row.number)
                        if row.ended_ms is not None:
                            return 0 if row.state is DeploymentState.DEPLOYED else EXIT_NOT_DEPLOYED
            except Disconnected as fault:
                absence.begins(fault)
            except Refused as refused:
                if refused.problem not in PASSING:
                    raise
            await trio.sleep(next(waits))


async def _row(privd: Client, values: argparse.Namespace, number: int | None = None) -> Deployment:
    """The deployment of that number; the last one where none is given."""
    wanted = number or values.number
    for row in await privd.call(ListDeployments(agent=values.agent), patience_s=PATIENCE_S):
        if wanted in (None, row.number):
            return row
    raise Refused(Problem.NOT_FOUND, f"{values.agent} has no deployment {wanted or 'yet'}")


class _Log:
    """Prints each line once."""

    def __init__(self, values: argparse.Namespace) -> None:
        self._values = values
        self._shown = -1

    async def read(self, privd: Client, number: int) -> None:
        """Whatever is there and was not printed yet."""
        pages: list[tuple[BuildLine, ...]] = []
        before: int | None = None
        while True:
            request = ReadBuildLog(agent=self._values.agent, number=number, before=before)
            page = await privd.call(request, patience_s=PATIENCE_S)
            pages.append(page.lines)
            before = page.before
            if before is None or not page.lines or page.lines[0].offset <= self._shown:
                break
        for line in (line for lines in reversed(pages) for line in lines):
            if line.offset > self._shown:
                self._shown = line.offset
                shown = tables.document(line) if self._values.json else tables.printable(line.text)
                print(shown, flush=True)
