"""`hivectl journal AGENT`: what a cage's init and harness wrote, and with --follow what they write."""

import argparse

import msgspec
import trio

from hivectl import records, tables
from hivectl.arguments import whole_number
from hivectl.progress import Absence
from protocol.names import AGENT_NAME_RULE
from protocol.privd import JournalLine, ReadJournal, WatchJournal
from protocol.problem import Problem, Refused
from runtime.backoff import delays
from runtime.client import Client, Disconnected

RETRY_FIRST_S = 0.1
RETRY_MAX_S = 2.0
LINES_SHOWN = 200


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser("journal", help="what a cage wrote")
    child.add_argument("agent", help=AGENT_NAME_RULE)
    child.add_argument("--follow", "-f", action="store_true", help="go on with what comes")
    child.add_argument(
        "--lines",
        "-n",
        type=whole_number,
        metavar="N",
        default=LINES_SHOWN,
        help=f"at most so many (default {LINES_SHOWN})",
    )
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    """Print the newest lines; following resumes at the offset where a lost connection broke off."""
    async with Client(values.places.socket("privd")) as client:
        page = await client.call(_checked(values.agent), patience_s=5)
        for line in page.lines[max(0, len(page.lines) - max(0, values.lines)) :]:
            _show(line, values)
        if not values.follow:
            return 0
        at = page.lines[-1].offset if page.lines else 0
        shown = at if page.lines else -1
        waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
        absence = Absence("privd")
        while True:
            try:
                async with client.watch(WatchJournal(agent=values.agent, since=at)) as lines:
                    absence.ends()
                    async for line in lines:
                        waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
                        at = line.offset
                        if line.offset > shown:
                            shown = line.offset
                            _show(line, values)
            except Disconnected as fault:
                absence.begins(fault)
            except Refused as refused:
                if refused.problem not in (Problem.STOPPING, Problem.BUSY, Problem.LIMIT):
                    raise
            await trio.sleep(next(waits))


def _checked(agent: str) -> ReadJournal:
    try:
        return msgspec.convert({"op": ReadJournal.operation(), "agent": agent}, ReadJournal)
    except msgspec.ValidationError:
        raise Refused(Problem.MALFORMED, f"{agent!a} is no agent's name: {AGENT_NAME_RULE}") from None


def _show(line: JournalLine, values: argparse.Namespace) -> None:
    print(tables.document(line) if values.json else records.in_words(line.text), flush=True)
