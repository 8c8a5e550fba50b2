"""Running one command of the catalogue: arguments, confirmation, the call, the answer as a table or as JSON."""

import argparse
import sys
from typing import Any

from hivectl import tables
from hivectl.arguments import add_arguments, build_request
from hivectl.catalogue import ABOUT, Command
from hivectl.progress import shown
from protocol.problem import Problem, Refused
from runtime.client import Client

PATIENCE_S = 5.0


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", command: Command) -> None:
    child = commands.add_parser(
        command.name, help=command.summary, description=command.said or command.request.__doc__
    )
    add_arguments(child, command.request, command.supplied, ABOUT, command.plain)
    if command.confirm:
        child.add_argument("--yes", action="store_true", help="do not ask")

    async def run(values: argparse.Namespace) -> int:
        return await run_command(command, values)

    child.set_defaults(run=run)


async def run_command(command: Command, values: argparse.Namespace) -> int:
    """Ask the daemon and print its answer."""
    repeated = {command.retyped: values.agent} if command.retyped else {}
    request: Any = build_request(command.request, values, repeated)
    if command.confirm and not values.yes:
        ask(f"this {command.confirm.format_map(vars(values))}", values.agent if command.retyped else None)
    async with Client(values.places.socket(command.daemon)) as client:
        if command.slow:
            async with shown(f"{command.name} {getattr(request, 'agent', '')}".strip()):
                reply = await client.call(request, patience_s=PATIENCE_S)
        else:
            reply = await client.call(request, patience_s=PATIENCE_S)
    picked = command.pick(reply)
    print(tables.document(picked) if values.json else command.show(picked))
    return 0


def ask(what: str, name: str | None = None) -> None:
    """Wait for a typed yes, or for the *name* typed again. Refused without a terminal: a script says --yes."""
    if not sys.stdin.isatty():
        raise Refused(Problem.CONFLICT, f"{what}: to do it, say --yes")
    print(what, file=sys.stderr)
    typed = input("type its name to go on: " if name else "go on? [y/N] ").strip()
    if typed != name if name else typed.lower() not in ("y", "yes"):
        raise Refused(Problem.CONFLICT, "nothing was done")
