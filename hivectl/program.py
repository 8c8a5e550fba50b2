"""What this program is called here, how its commands are typed, and a parser that says in one line what is wrong."""

import argparse
import difflib
import os
import shlex
from pathlib import Path
from typing import Any, Final, NoReturn

from hivectl.places import Places, default_state

PROGRAM_VARIABLE: Final = "HIVE_PROGRAM"
"""How `./hive` was typed, when that started us."""
EXIT_USAGE: Final = 2
TARGET: Final = "hyperhive.target"
"""The unit that stands for a whole installed hive."""
ADMIN_GROUP: Final = "hive-admin"
"""Its members act as the operator of an installed hive."""
COMMAND: Final = "command"
"""Where the parser puts which command it is."""


def program() -> str:
    """`./hive` in a checkout, `hivectl` where it is installed."""
    return os.environ.get(PROGRAM_VARIABLE) or "hivectl"


def speaker() -> str:
    """The word before every message."""
    return Path(program()).name


def typed(command: str, places: Places) -> str:
    """A command as this person would type it for this hive."""
    elsewhere = "" if places.state == default_state() else f" --dir {shlex.quote(str(places.state))}"
    return f"{program()} {command}{elsewhere}"


def unreachable(fault: str, where: Places) -> str:
    """What to do about daemons that do not answer."""
    owner, own = where.owner(), os.geteuid()
    if owner is None:
        return f"{where.state}: no hive is in this folder; to start one: {typed('up', where)}"
    if where.is_installed:
        return f"{fault}; is the hive up (systemctl status {TARGET}), and are you root or in the group {ADMIN_GROUP}?"
    if own not in (0, owner):
        return f"{fault}; this hive belongs to uid {owner}, and you are uid {own}"
    return f"{fault}; is the hive up? To start it: {typed('up', where)}"


class Parser(argparse.ArgumentParser):
    """One line for a mistake, instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{speaker()}: {message}; see {self.prog} --help\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.dest == COMMAND and action.choices is not None and value not in action.choices:
            longer = [name for name in action.choices if name.startswith(str(value))]
            near = longer or difflib.get_close_matches(str(value), action.choices, 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            raise argparse.ArgumentError(None, f"there is no command {value!a}{meant}")
        super()._check_value(action, value)
