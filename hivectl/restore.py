"""`hivectl restore`: go back to a backup of the broker, while the hive is down."""

import argparse
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from hivectl import requests, tables
from hivectl.offline import run_module
from protocol.problem import Problem, Refused

PROGRAM: Final = "brokerd.restore"


class Listed(Struct, frozen=True):
    """One backup that may be restored."""

    name: str
    at_ms: int
    bytes: int
    version: str


class Restored(Struct, frozen=True):
    """What was done; `set_aside` is the folder that has what was there before, empty when nothing was."""

    name: str
    at_ms: int
    set_aside: str


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser(
        "restore",
        help="go back to a backup of the broker, while the hive is down",
        description="What is there now is moved aside, never removed.",
    )
    child.add_argument("backup", nargs="?", help="a backup's name, or its folder (default: the newest)")
    child.add_argument(
        "--without-log",
        action="store_true",
        help="restore nothing: only put a damaged events.sqlite aside, which costs no message",
    )
    child.add_argument("--list", action="store_true", help="only say which backups there are")
    child.add_argument("--yes", action="store_true", help="do not ask")
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    if values.without_log:
        return await _go_on_without_log(values)
    there = msgspec.json.decode(await run_module(PROGRAM, _folder(values), "--list"), type=list[Listed])
    if values.list:
        print(tables.document(there) if values.json else _list(there))
        return 0
    wanted = values.backup or (there[-1].name if there else None)
    if wanted is None:
        raise Refused(Problem.NOT_FOUND, f"{values.places.state}: there is no backup")
    if "/" in wanted or Path(wanted).is_dir():
        wanted = str(Path(wanted).absolute())
    if not values.yes:
        known = [f", made {tables.age(each.at_ms)} ago," for each in there if each.name == wanted]
        requests.ask(
            f"this puts the backup {wanted}{known[0] if known else ''} in the place of all messages, turns, "
            f"questions and reminders of {values.places.state}; those are moved aside"
        )
    done = msgspec.json.decode(await run_module(PROGRAM, _folder(values), wanted), type=Restored)
    print(tables.document(done) if values.json else _show(done))
    return 0


def _folder(values: argparse.Namespace) -> Path:
    return Path(values.places.state / "broker")


async def _go_on_without_log(values: argparse.Namespace) -> int:
    if not values.yes:
        requests.ask(
            "this puts the log of all turns and the dashboard's numbers aside; no message is touched"
        )
    done = msgspec.json.decode(await run_module(PROGRAM, _folder(values), "--without-log"), type=Restored)
    said = f"events.sqlite is in {done.set_aside}" if done.set_aside else "there was no events.sqlite"
    print(tables.document(done) if values.json else said)
    return 0


def _list(there: list[Listed]) -> str:
    if not there:
        return "no backups yet; `backup` makes one"
    rows = (
        (each.name, f"{tables.age(each.at_ms)} ago", tables.size(each.bytes), each.version) for each in there
    )
    return tables.table(("BACKUP", "MADE", "SIZE", "VERSION"), rows)


def _show(done: Restored) -> str:
    aside = f"; what was there is in {done.set_aside}" if done.set_aside else ""
    return f"restored {done.name}{aside}"
