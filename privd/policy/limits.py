"""What is made of a cage's meetings with its limits: which are told and when, and when its disk ends it. Pure."""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from protocol.privd import Resource
from protocol.settings import CageLimits

PAUSE_MS: Final = 60_000
"""Between two events of one cage and resource; what happens meanwhile is told together."""
DISK_FULL_PERMILLE: Final = 950
"""Of its limit: what is held so is as good as full."""
DISK_STOP_FACTOR: Final = 1.5
"""Past its limit so many times, with nothing to hold it, a cage is stopped: it would take the others' disk."""
MIB: Final = 1024 * 1024


class Tally(Struct, frozen=True):
    """One cage and resource: what was not told yet, and when something last was."""

    pending: int = 0
    told_ms: int | None = None


def add(tally: Tally, times: int, now_ms: int) -> tuple[Tally, int]:
    """With so many more: the tally from now on, and how many to tell now (0: none, or later)."""
    pending = tally.pending + times
    if not pending or (tally.told_ms is not None and now_ms - tally.told_ms < PAUSE_MS):
        return Tally(pending, tally.told_ms), 0
    return Tally(0, now_ms), pending


class DiskVerdict(StrEnum):
    """Where a cage's use of the disk stands."""

    FINE = "fine"
    FULL = "full"
    STOP = "stop"


def judge_disk(used_bytes: int, limits: CageLimits, *, held: bool) -> DiskVerdict:
    """`held`: the kernel refuses more than the limit, so that it can only be reached."""
    if limits.disk_mib_max is None:
        return DiskVerdict.FINE
    most = limits.disk_mib_max * MIB
    if held:
        return DiskVerdict.FULL if used_bytes * 1000 >= most * DISK_FULL_PERMILLE else DiskVerdict.FINE
    if used_bytes > most * DISK_STOP_FACTOR:
        return DiskVerdict.STOP
    return DiskVerdict.FULL if used_bytes > most else DiskVerdict.FINE


def hit_detail(resource: Resource, limits: CageLimits) -> str:
    """What happened, and the limit, for whoever must do something about it."""
    match resource:
        case Resource.MEMORY:
            return f"the kernel ended a process: all together may have {limits.memory_mib_max} MiB (memory_mib_max)"
        case Resource.TASKS:
            return f"a new process or thread was refused: there may be {limits.tasks_max} (tasks_max)"
        case Resource.DISK:
            return f"its files take all of {limits.disk_mib_max} MiB (disk_mib_max)"


def stop_detail(used_bytes: int, limits: CageLimits) -> str:
    """Why a cage was stopped for its disk, and what to do."""
    return (
        f"stopped: its files take {used_bytes // MIB} MiB, more than {DISK_STOP_FACTOR:g} times disk_mib_max"
        f" {limits.disk_mib_max}; delete some or raise the limit, then start it"
    )
