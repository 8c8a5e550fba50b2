"""`hivectl login`: a link to the dashboard that works once."""

import argparse

from hivectl import tables
from protocol.webd import MintLogin
from runtime.client import Client


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser(
        "login", help="print a link to the dashboard that works once, for five minutes"
    )
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    """Print the link."""
    async with Client(values.places.socket("webd")) as client:
        link = await client.call(MintLogin(), patience_s=5)
    print(tables.document(link) if values.json else tables.printable(link.url))
    return 0
