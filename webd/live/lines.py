"""Lines of a cage's journal as a page shows them: what our own processes write as JSON becomes a sentence."""

from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from protocol.privd import JournalLine
from webd.policy.text import TEXT_CHARS_MAX, plain

_LEVELS: Final = {
    "debug": "info",
    "info": "info",
    "warning": "warn",
    "error": "err",
    "critical": "err",
    "exception": "err",
}
_LIFTED: Final = frozenset({"at", "level", "event", "daemon", "exception"})
_decoder = msgspec.json.Decoder(dict[str, Any])


class LineRow(Struct, frozen=True):
    """One line; `offset` is its identity and its order."""

    offset: int
    at_ms: int | None
    level: str
    text: str


def line_row(line: JournalLine) -> LineRow:
    """A structured record as time, level and sentence; anything else as it is."""
    record = _record(line.text)
    if record is None:
        return LineRow(line.offset, None, "info", plain(line.text, TEXT_CHARS_MAX))
    words = [str(record["event"])]
    words += [f"{name}={value}" for name, value in record.items() if name not in _LIFTED]
    if "exception" in record:
        words.append(f"\n{record['exception']}")
    level = _LEVELS.get(str(record.get("level")), "info")
    return LineRow(line.offset, _at_ms(record.get("at")), level, plain(" ".join(words), TEXT_CHARS_MAX))


def _record(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        record = _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return record if isinstance(record.get("event"), str) else None


def _at_ms(text: object) -> int | None:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return None if at.tzinfo is None else int(at.timestamp() * 1000)
