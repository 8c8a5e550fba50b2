"""The record of configurations, for people: tags, commits and files of an applied repository, or of the meta one."""

from collections.abc import Sequence
from typing import Final

from hivectl.tables import clock, printable, table
from protocol.approvals import LogEntry, Ref
from protocol.configuration import FilePage

COMMIT_SHOWN: Final = 12


def refs(rows: Sequence[Ref]) -> str:
    if not rows:
        return "nothing is recorded"
    return table(
        ("NAME", "COMMIT", "DOCUMENT"), ((each.name, each.commit, printable(each.document)) for each in rows)
    )


def commits(rows: Sequence[LogEntry]) -> str:
    lines = (
        f"{each.commit[:COMMIT_SHOWN]}  {clock(each.at_ms)}  {printable(each.subject)}"
        + (f"  [{', '.join(each.tags)}]" if each.tags else "")
        for each in rows
    )
    return "\n".join(lines) or "nothing was deployed yet"


def content(page: FilePage) -> str:
    """A file, line by line; what cannot be printed is escaped."""
    return "\n".join(printable(line) for line in page.data.decode("utf-8", "backslashreplace").splitlines())
