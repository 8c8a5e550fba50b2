"""The operator's command line.

Exit codes: 0 done, 1 refused, 2 wrong usage, 3 a daemon cannot be reached, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import trio

from hivectl import (
    approvers,
    audit,
    build_log,
    doctor,
    files,
    journal,
    login,
    rebuild_all,
    receipt,
    requests,
    restore,
    spawning,
    status,
    stop_all,
    tables,
    tail,
    verdicts,
)
from hivectl.catalogue import CATALOGUE
from hivectl.install import command as install
from hivectl.install import remove as uninstall
from hivectl.places import places
from hivectl.program import COMMAND, EXIT_USAGE, Parser, program, speaker, unreachable
from hivectl.up import command as up
from protocol.problem import Problem, Refused
from runtime.client import Disconnected
from runtime.settings import SettingsFault

EXIT_REFUSED: Final = 1
EXIT_UNREACHABLE: Final = 3
EXIT_INTERRUPTED: Final = 130

Run = Callable[[argparse.Namespace], Awaitable[int]]

COMPOSED = (
    up,
    install,
    uninstall,
    status,
    tail,
    rebuild_all,
    stop_all,
    receipt,
    journal,
    files,
    spawning,
    verdicts,
    approvers,
    audit,
    build_log,
    login,
    doctor,
    restore,
)


def parser() -> argparse.ArgumentParser:
    """Every command: those of the catalogue, and those made of several requests."""
    top: argparse.ArgumentParser = Parser(prog=program(), description="run and steer a hive of coding agents")
    top.add_argument(
        "--dir",
        type=_folder,
        default=None,
        metavar="FOLDER",
        help="the hive's folder (default HIVE_DIR, then the system's or the user's)",
    )
    top.add_argument("--json", action="store_true", help="print answers as JSON, one document a line")
    commands = top.add_subparsers(dest=COMMAND, required=True, metavar="COMMAND")
    for module in COMPOSED:
        module.add_command(commands)
    for command in CATALOGUE:
        requests.add_command(commands, command)
    for child in commands.choices.values():
        child.add_argument(
            "--dir", type=_folder, default=argparse.SUPPRESS, metavar="FOLDER", help=argparse.SUPPRESS
        )
        child.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return top


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the folder's name is empty")
    return Path(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, and turn what went wrong into one line and an exit code."""
    values = parser().parse_args(arguments)
    values.places = places(values.dir)
    run: Run = values.run
    try:
        return trio.run(_unwrapped, run, values)
    except Refused as refused:
        _explain(f"{refused.detail} ({refused.problem})")
        return EXIT_USAGE if refused.problem is Problem.MALFORMED else EXIT_REFUSED
    except Disconnected as fault:
        _explain(unreachable(str(fault), values.places))
        return EXIT_UNREACHABLE
    except SettingsFault as fault:
        _explain(str(fault))
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_REFUSED
    except OSError as fault:
        _explain(f"{fault.filename}: {fault.strerror}" if fault.filename else str(fault))
        return EXIT_REFUSED


def _explain(text: str) -> None:
    """A refusal may quote what an agent wrote, and a daemon may be anybody's by now."""
    print(f"{speaker()}: {tables.printable(text)}", file=sys.stderr)


async def _unwrapped(run: Run, values: argparse.Namespace) -> int:
    """Run a command; what it raises comes out by itself, not in the group of the tasks it passed through."""
    try:
        return await run(values)
    except BaseExceptionGroup as group:
        fault: BaseException = group
        while isinstance(fault, BaseExceptionGroup) and len(fault.exceptions) == 1:
            fault = fault.exceptions[0]
        raise fault from None


if __name__ == "__main__":
    sys.exit(main())
