"""An agent's own files at the command line: `files` lists a folder, `cat` writes a file as it is, `kept` counts.

They are read as that agent's user (see `privd/boxes.py`), running or not, and from what a destroyed agent left.
"""

import argparse
import codecs
import os
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

from hivectl.arguments import build_request
from hivectl.tables import age, document, printable, size, table
from protocol.privd import (
    Cage,
    ListCages,
    MeasureState,
    Power,
    ReadState,
    StateChunk,
    StateEntry,
    StateKind,
    StatePage,
    StateSize,
)
from protocol.problem import Problem, Refused
from runtime.client import Client

PATIENCE_S: Final = 5.0
MARKS: Final = {
    StateKind.FOLDER: "/",
    StateKind.LINK: " (a link, not followed)",
    StateKind.OTHER: " (no file)",
}
STANDARD_OUTPUT: Final = 1


def files(page: StatePage) -> str:
    """A folder as a table. Names are as privd shows them: a path is written the same way."""
    if not page.entries:
        return "nothing there"
    rows = [("SIZE", "CHANGED", "NAME"), *(_row(entry) for entry in page.entries)]
    lines = [table(rows[0], rows[1:])]
    if page.after is not None:
        lines.append(f"(more: --after '{printable(page.after)}')")
    return "\n".join(lines)


def _row(entry: StateEntry) -> tuple[str, str, str]:
    taken = exact(entry.bytes) if entry.kind is StateKind.FILE else ""
    changed = datetime.fromtimestamp(entry.modified_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M")
    return taken, changed, printable(entry.name) + MARKS.get(entry.kind, "")


def exact(count: int) -> str:
    """A small file's bytes, else a size in one unit."""
    return f"{count} B" if count < 1024 else size(count)


def kept_states(rows: Iterable[tuple[Cage, StateSize]]) -> str:
    """What destroyed agents left, and what to do with it."""
    lines = [(cage.agent, age(cage.since_ms), cage.settings.runner, much(taken)) for cage, taken in rows]
    if not lines:
        return "nothing is kept: `destroy` keeps what an agent leaves"
    return "\n".join(
        [
            table(("AGENT", "DESTROYED", "RUNNER", "STATE"), lines),
            "`spawn` brings one back, `files` looks into it, `purge` deletes it for good",
        ]
    )


def much(taken: StateSize) -> str:
    more = "" if taken.complete else "more than "
    return f"{more}{exact(taken.bytes)} in {taken.files} {'file' if taken.files == 1 else 'files'}"


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """`cat` and `kept`; `files` is in the catalogue."""
    said = "write one of an agent's files to standard output: as it is, or for a terminal without what that would obey"
    child = commands.add_parser("cat", help=said, description=said)
    child.add_argument("agent", help="an agent, or one whose state is kept")
    child.add_argument("path", help="below its state folder, as `files` shows it")
    child.set_defaults(run=run_cat)
    said = "what destroyed agents left, and how much it is"
    commands.add_parser("kept", help=said, description=said).set_defaults(run=run_kept)


async def run_cat(values: argparse.Namespace) -> int:
    """Every part of the file, until its end as it is then; a reader that leaves ends it."""
    offset = 0
    write = shown_safely() if os.isatty(STANDARD_OUTPUT) else write_out
    async with Client(values.places.socket("privd")) as client:
        while True:
            asked: Any = build_request(ReadState, values, {"offset": offset})
            part: StateChunk = await client.call(asked, patience_s=PATIENCE_S)
            write(part.data)
            offset += len(part.data)
            if offset >= part.total_bytes or not part.data:
                write(b"")  # what was cut off in the middle
                return 0


def shown_safely() -> Callable[[bytes], None]:
    """For a terminal, which would obey what an agent put into a file: all but lines and tabs is made printable."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(data: bytes) -> None:
        text = decoder.decode(data, final=not data)
        safe = "".join(char if char in "\n\t" else printable(char) for char in text)
        write_out(safe.encode("utf-8"))

    return write


def write_out(data: bytes) -> None:
    """To standard output, unbuffered: what was read is out before more is asked for."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(STANDARD_OUTPUT, rest) :]


async def run_kept(values: argparse.Namespace) -> int:
    """Every kept state, counted one after the other."""
    async with Client(values.places.socket("privd")) as client:
        cages = await client.call(ListCages(), patience_s=PATIENCE_S)
        found = [(cage, await _measured(client, cage)) for cage in cages if cage.power is Power.KEPT]
    if values.json:
        print(
            document(
                [{"agent": cage.agent, "since_ms": cage.since_ms, "state": taken} for cage, taken in found]
            )
        )
    else:
        print(kept_states(found))
    return 0


async def _measured(client: Client, cage: Cage) -> StateSize:
    """One that cannot be counted is told, and keeps nobody from the others."""
    try:
        return await client.call(MeasureState(cage.agent), patience_s=PATIENCE_S)
    except Refused as refused:
        if refused.problem is Problem.STOPPING:
            raise
        print(f"{cage.agent}: {printable(refused.detail)}", file=sys.stderr)
        return StateSize(0, 0, complete=False)
