"""`hivectl stop-all`: every cage stops, and starts again when privd next does. What systemd runs before a hive goes."""

import argparse

from hivectl import tables
from hivectl.up.agents import Agents


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser("stop-all", help="stop every cage until the hive next starts")
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    """Turns in progress may end; what cannot be stopped is said."""
    await Agents(values.places, lambda glyph, text: print(glyph, tables.printable(text))).stop()
    return 0
