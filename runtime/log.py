"""Structured logging: one JSON object a line on standard error, non-ASCII escaped, so no record can forge another."""

import json
import logging
import os
from typing import Any, Final

import structlog
from structlog.typing import FilteringBoundLogger

Log = FilteringBoundLogger

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
VALUE_CHARS_MAX: Final = 4_000
STANDARD_ERROR: Final = 2


def _cut(_: Any, __: str, record: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for key, value in record.items():
        if isinstance(value, str) and len(value) > VALUE_CHARS_MAX and key != "exception":
            record[key] = value[:VALUE_CHARS_MAX] + "…"
    return record


class Lines:
    """Standard error, a line at a time. What cannot be written (a full disk) ends nobody: the next line counts it."""

    def __init__(self) -> None:
        self._lost = 0

    def msg(self, line: str) -> None:
        if self._lost:
            line = (
                json.dumps({"event": "log lines were lost", "level": "warning", "lost": self._lost})
                + "\n"
                + line
            )
        rest = memoryview(line.encode("ascii") + b"\n")
        try:
            while rest:
                rest = rest[os.write(STANDARD_ERROR, rest) :]
        except OSError:
            self._lost += 1
        else:
            self._lost = 0

    debug = info = warning = error = critical = msg


def _as_line(record: Any, **options: Any) -> str:
    """ASCII JSON; it leaves DEL as it is, which a terminal obeys."""
    return json.dumps(record, **options).replace("\x7f", "\\u007f")


def configure(level: str = "info") -> None:
    """Send every record of this process to standard error, from `level` up."""
    lines = Lines()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            _cut,
            structlog.processors.JSONRenderer(serializer=_as_line, ensure_ascii=True, default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )


def logger(daemon: str) -> Log:
    """The logger of one daemon."""
    log: Log = structlog.get_logger(daemon=daemon)
    return log
