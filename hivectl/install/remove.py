"""`hivectl uninstall`: stop everything and take away what `install` made; what agents and operators made stays.

With --purge that goes, too, after its name was typed.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Final

from hivectl import tables
from hivectl.install import accounts, command, release, units
from hivectl.install.machine import Machine
from hivectl.places import SYSTEM_RUN, SYSTEM_SETTINGS, SYSTEM_STATE, Places
from hivectl.program import TARGET
from hivectl.up.configuration import HiveSettings, hive_name
from protocol.problem import Problem, Refused
from runtime.settings import SettingsFault, load_settings

BLOCKS: Final = Path("/var/lib/hyperhive-blocks")
"""Which uids belong to which hive of this machine."""
OWNED: Final = ("broker", "web")
"""Folders below the state folder that belong to a daemon's user."""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser(
        "uninstall", help="stop the installed hive and remove what install made; state stays"
    )
    child.add_argument("--purge", action="store_true", help="also delete every agent, message and setting")
    child.add_argument(
        "--confirm", metavar="NAME", help="with --purge: the hive's name, instead of being asked"
    )
    child.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    began = time.monotonic()

    def say(glyph: str, text: str) -> None:
        print(f"  {time.monotonic() - began:5.1f}s  {glyph} {tables.printable(text)}", flush=True)

    command.check_machine(values.places)
    with command.alone():
        return await _uninstall(values, Machine(say, dry=values.dry_run))


async def _uninstall(values: argparse.Namespace, machine: Machine) -> int:
    places = Places(SYSTEM_STATE, SYSTEM_RUN)
    if not any(
        path.exists() for path in (places.rendered / "privd.toml", units.SYSTEM / TARGET, release.OPT)
    ):
        raise Refused(Problem.NOT_FOUND, "no hive is installed on this server")
    if values.purge and not values.dry_run:
        _confirm(_name(places), values.confirm)
    await units.stop(machine)
    for user in accounts.USERS:
        if not machine.dry and accounts.has_processes(user):
            raise Refused(Problem.CONFLICT, f"processes of {user} still run; nothing was removed")
    await units.remove(machine)
    machine.remove(SYSTEM_RUN)
    await _disown(machine)
    await accounts.remove(machine)
    for daemon in units.DAEMONS:
        machine.remove(places.rendered / f"{daemon}.toml")
    if values.purge:
        await _purge(machine)
    if SYSTEM_SETTINGS.is_dir() and not any(SYSTEM_SETTINGS.iterdir()):
        machine.remove(SYSTEM_SETTINGS)
    release.remove(machine)
    _tell_what_is_left()
    return 0


def _name(places: Places) -> str:
    try:
        return hive_name(load_settings(places.settings, HiveSettings))
    except SettingsFault:
        return hive_name(HiveSettings())


def _confirm(name: str, typed: str | None) -> None:
    """Refused unless the hive's name is typed."""
    if typed is None:
        if not sys.stdin.isatty():
            raise Refused(Problem.MALFORMED, f"--purge deletes everything: add --confirm {name}")
        typed = input(
            f"This deletes every agent, message and setting of the hive {name}. Its name, to go on: "
        ).strip()
    if typed != name:
        raise Refused(Problem.CONFLICT, f"{typed!a} is not this hive's name ({name}); nothing was removed")


async def _disown(machine: Machine) -> None:
    """Give root what belongs to users that are going: their numbers may become somebody else's."""
    for name in OWNED:
        if (SYSTEM_STATE / name).is_dir():
            await machine.run(
                "chown", "--recursive", "--no-dereference", "root:root", "--", str(SYSTEM_STATE / name)
            )


async def _purge(machine: Machine) -> None:
    """rm, because agents may have made folders deeper than a Python program can follow."""
    if SYSTEM_STATE.exists():
        await machine.run("rm", "--recursive", "--force", "--one-file-system", "--", str(SYSTEM_STATE))
    machine.remove(SYSTEM_SETTINGS / "hive.toml")
    for claim in sorted(BLOCKS.iterdir()) if BLOCKS.is_dir() else ():
        if claim.is_symlink() and claim.readlink() == SYSTEM_STATE:
            machine.remove(claim)
    if BLOCKS.is_dir() and not any(BLOCKS.iterdir()):
        machine.remove(BLOCKS)


def _tell_what_is_left() -> None:
    left = [str(path) for path in (SYSTEM_STATE, SYSTEM_SETTINGS, BLOCKS) if os.path.lexists(path)]
    print("left where it is: " + (", ".join(left) or "nothing"), flush=True)
