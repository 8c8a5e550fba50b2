"""`hivectl login`: a link to the dashboard that works once."""

import argparse

from hivectl import tables
from protocol.problem import Problem, Refused
from protocol.webd import MintLogin
from runtime.client import Client


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser(
        "login", help="print a link to the dashboard that works once, for five minutes"
    )
    child.set_defaults(run=run)


def withheld(notice: str) -> str:
    """Why a link is not shown: opened now, it would hand its code to whoever listens at the port."""
    return f"{notice}; no link is shown before, because whoever listens there would get it"


async def run(values: argparse.Namespace) -> int:
    """Print the link. Refused(conflict) while webd does not have its port."""
    async with Client(values.places.socket("webd")) as client:
        link = await client.call(MintLogin(), patience_s=5)
    if link.notice:
        raise Refused(Problem.CONFLICT, withheld(link.notice))
    print(tables.document(link) if values.json else tables.printable(link.url))
    return 0
