"""Backups by name: what they are called, when the next is due, and which are kept."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

NIGHT_HOUR: Final = 3
"""The local hour after which the night's backup is due."""
NAME: Final = re.compile(r"\A\d{8}T\d{6}Z(-\d{1,9})?\Z")


def name_for(at_ms: int, taken: Iterable[str]) -> str:
    """A name that sorts after all that are taken, as 20261121T031500Z; also when the clock was set back since."""
    moment = f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y%m%dT%H%M%SZ}"
    newest, number = max((_place(name) for name in named(taken)), default=("", 0))
    return moment if moment > newest else f"{newest}-{number + 1}"


def named(names: Iterable[str]) -> list[str]:
    """Those that are backups' names, oldest first."""
    return sorted((name for name in names if NAME.match(name)), key=_place)


def _place(name: str) -> tuple[str, int]:
    moment, _, number = name.partition("-")
    return moment, int(number or 1)


def outdated(names: Iterable[str], kept: int) -> list[str]:
    """Those that go when the `kept` newest stay; none when nothing is to be removed (0)."""
    ours = named(names)
    return ours[: max(0, len(ours) - kept)] if kept else []


def is_due(now: datetime, newest: datetime | None) -> bool:
    """Whether no backup was made since the last night began. `now` is in the zone whose nights are meant.

    One of the future was made before the clock was set back, and says nothing.
    """
    night = now.replace(hour=NIGHT_HOUR, minute=0, second=0, microsecond=0)
    if night > now:
        night -= timedelta(days=1)
    return newest is None or newest < night or newest > now
