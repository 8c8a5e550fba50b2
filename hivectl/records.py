"""What our programs log, one JSON record a line, as lines for people. Any other line stays as it is."""

from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from hivectl.tables import printable

GLYPHS: Final = {"warning": "⚠ ", "error": "✗ ", "critical": "✗ "}
TAIL_BYTES_MAX: Final = 64 * 1024
UNSAID: Final = frozenset({"daemon", "event", "level", "at", "exception"})
"""Keys of a record that are shown in their own way or, where everybody knows them, not at all."""

_decoder = msgspec.json.Decoder(dict[str, Any])


def in_words(line: str) -> str:
    """`17:52:06  turn ended (turn 2, outcome done)`."""
    record = _record(line)
    if record is None:
        return printable(line)
    return f"{_clock(record.get('at'))}{GLYPHS.get(str(record.get('level')), '')}{_said(record)}"


def last_words(log: Path, since: int) -> str:
    """The last thing a daemon wrote after byte `since` of its log: why it ended. Empty when it wrote nothing."""
    with log.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(since if since <= end else 0, end - TAIL_BYTES_MAX))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    if not lines:
        return ""
    record = _record(lines[-1])
    return printable(lines[-1]) if record is None else _said(record)


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = _decoder.decode(line)
    except msgspec.DecodeError:
        return None
    return record if isinstance(record.get("event"), str) else None


def _said(record: dict[str, Any]) -> str:
    rest = ", ".join(
        f"{key} {value}" for key, value in record.items() if key not in UNSAID and value not in (None, "")
    )
    trace = str(record.get("exception") or "").strip()
    reason = f": {_reason(trace)}" if trace else ""
    return printable(f"{record['event']}{f' ({rest})' if rest else ''}{reason}")


def _reason(trace: str) -> str:
    """The last line of a traceback that says something; a group's lines are drawn in a margin."""
    lines = [line.strip(" |+-") for line in trace.splitlines()]
    return next(line for line in reversed(lines) if line)


def _clock(at: object) -> str:
    """The local time of day of a record; nothing when it bears none."""
    try:
        return datetime.fromisoformat(str(at)).astimezone().strftime("%H:%M:%S  ")
    except ValueError:
        return ""
