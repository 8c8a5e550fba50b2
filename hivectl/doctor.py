"""`hivectl doctor`: what this machine can isolate, what is degraded and how to mend it."""

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import msgspec
import trio
from msgspec import Struct

from hivectl import tables
from hivectl.status import DAEMONS, greet
from protocol.problem import Problem, Refused

EXIT_IMPOSSIBLE = 1


class Finding(Struct, frozen=True):
    """One thing that was looked at. `mend` says what to do, empty when nothing is needed or possible."""

    subject: str
    good: bool
    what: str
    mend: str = ""


class Findings(Struct, frozen=True):
    """What privd's probe says of this machine; `backend` is empty when no cage can be made at all."""

    backend: str
    findings: tuple[Finding, ...]
    uid_first: int | None = None
    """First uid of the block that the hive in this folder would get."""
    uid_conflict: str = ""
    """Who else on this machine has uids that its daemons would get."""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser(
        "doctor", help="what this machine can isolate, what is degraded, and how to mend it"
    )
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    found = await probe(values.places.state)
    daemons = {name: await greet(values, name) for name in DAEMONS}
    if values.json:
        print(tables.document({"probe": found, "daemons": daemons}))
    else:
        who = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
        print(f"cages as {who}: {found.backend or 'none can be made'}")
        print("\n".join(_lines(found.findings)))
        up = [name for name, greeting in daemons.items() if greeting]
        print(f"hive in {values.places.state}: " + (f"{', '.join(up)} up" if up else "not up"))
    return 0 if found.backend else EXIT_IMPOSSIBLE


def _lines(findings: tuple[Finding, ...]) -> Iterator[str]:
    """Each finding, and what to do: once below a row of findings that want the same."""
    for finding, following in zip_longest(findings, findings[1:]):
        yield f"  {'●' if finding.good else '⚠'} {finding.subject}: {finding.what}"
        if finding.mend and (following is None or following.mend != finding.mend):
            yield f"      → {finding.mend}"


async def probe(state: Path, *, claim: bool = False) -> Findings:
    """Ask the cage layer, as its own process: this command imports nothing of a daemon.

    `claim` makes the uids that it names this hive's own.
    """
    done = await trio.run_process(
        [
            sys.executable,
            "-I",
            "-m",
            "privd",
            "--probe",
            "--state",
            str(state),
            *(("--claim",) if claim else ()),
        ],
        capture_stdout=True,
        check=False,
    )
    if done.returncode != 0:
        raise Refused(Problem.FAILED, f"privd --probe ended with exit code {done.returncode}; see above")
    return msgspec.json.decode(done.stdout, type=Findings)
