"""`hivectl audit`: what root has done and for whom, and whether the record of it is whole. privd is not asked."""

import argparse
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from hivectl import tables
from hivectl.offline import run_module
from protocol.names import AGENT_NAME_RULE

PROGRAM: Final = "privd.verify"
EXIT_FAULTS: Final = 1
LISTED: Final = 50
DETAIL_CHARS_MAX: Final = 60


class Action(Struct, frozen=True):
    """One thing that was done; `verdict` is empty where privd ended before it said what came of it."""

    seq: int
    at_ms: int
    by: str
    uid: int
    op: str
    agent: str
    number: int | None
    frame: str
    verdict: str
    took_ms: int | None
    detail: str


class Report(Struct, frozen=True):
    """What the check has found; `head` is the newest line's number and hash."""

    faults: tuple[str, ...]
    notices: tuple[str, ...]
    lines: tuple[int, int]
    head: str
    agents: int
    generations: int
    proofs: dict[str, int]


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser(
        "audit",
        help="what root has done and for whom; `audit verify` checks the record of it",
        description="Reads root's own files, so it is root's to run. privd need not be up.",
    )
    child.add_argument("what", nargs="?", choices=("list", "verify"), default="list")
    child.add_argument("--limit", type=int, default=LISTED, metavar="N", help="list: the newest N")
    child.add_argument("--agent", help=f"list: of one agent ({AGENT_NAME_RULE})")
    child.add_argument(
        "--head",
        metavar="NUMBER:HASH",
        help="verify: a line that was noted before, which must still be there",
    )
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    return await (_verify(values) if values.what == "verify" else _list(values))


async def _list(values: argparse.Namespace) -> int:
    words = ["--list", str(values.limit), *(("--agent", values.agent) if values.agent else ())]
    rows = msgspec.json.decode(await run_module(PROGRAM, values.places.state, *words), type=list[Action])
    print(tables.document(rows) if values.json else actions(rows))
    return 0


async def _verify(values: argparse.Namespace) -> int:
    words = ("--head", values.head) if values.head else ()
    answered = await run_module(PROGRAM, values.places.state, *words, answers=(0, EXIT_FAULTS))
    report = msgspec.json.decode(answered, type=Report)
    print(tables.document(report) if values.json else "\n".join(said(report)))
    return EXIT_FAULTS if report.faults else 0


def actions(rows: list[Action]) -> str:
    if not rows:
        return "nothing was done yet"
    return tables.table(
        ("LINE", "AGO", "BY", "UID", "WHAT", "AGENT", "N", "CAME TO", "TOOK", "DETAIL"),
        (
            (
                str(row.seq),
                tables.age(row.at_ms),
                row.by,
                str(row.uid),
                row.op,
                row.agent or "–",
                "–" if row.number is None else str(row.number),
                row.verdict or "no end",
                "–" if row.took_ms is None else f"{row.took_ms / 1000:.1f}s",
                tables.printable(row.detail, chars_max=DETAIL_CHARS_MAX),
            )
            for row in rows
        ),
    )


def said(report: Report) -> Iterator[str]:
    first, last = report.lines
    proofs = ", ".join(f"{count} by {tables.printable(how)}" for how, count in sorted(report.proofs.items()))
    yield f"log: lines {first} to {last}"
    yield f"record: {report.agents} agents, {report.generations} generations; approved: {proofs or 'nothing'}"
    yield from (f"  · {tables.printable(each)}" for each in report.notices)
    yield from (f"  ✗ {tables.printable(each)}" for each in report.faults)
    if report.faults:
        yield "the record is not as root left it"
    else:
        yield "the record is whole"
        yield f"head {report.head}: noted elsewhere, --head finds out a log that was cut or written anew"
