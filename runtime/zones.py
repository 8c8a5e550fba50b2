"""Time zones by their names: the machine's own when it has them, else those of the package `tzdata`."""

import zoneinfo
from datetime import UTC, tzinfo
from typing import Final

from protocol.problem import Problem, Refused

UTC_NAME: Final = "UTC"


def zone_of(name: str) -> tzinfo:
    """One zone; `malformed` when there is none of that name. The library keeps those that were used."""
    if name == UTC_NAME:
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    # A folder of zones (`Europe`) and a name that no file can have are told apart by the file system only.
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise Refused(
            Problem.MALFORMED, f"zone: there is no time zone {name!a}; one is Europe/Berlin, another UTC"
        ) from None
