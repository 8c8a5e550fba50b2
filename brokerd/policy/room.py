"""Whether there is room for anything new: how much the disk has left, and how much the databases may have."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.limits import INTEGER_MAX
from protocol.problem import Problem, Refused

MIB: Final = 1024 * 1024
RESERVE_BYTES: Final = 256 * MIB
"""Free space below which nothing new is stored, unless the settings say otherwise."""
RESERVE_SHARE: Final = 8
"""On a small file system the reserve is this part of it."""
BALLAST_BYTES: Final = 8 * MIB
"""A file that is given back when even what settles finds no space."""
BALLAST_SHARE: Final = 16
EASE_SHARE: Final = 8
"""Once full, this part of the reserve must be free beyond it, so that it does not flap."""
UNLOOKED_SHARE: Final = 8
"""A stored byte takes several: in the row, the feed, an index, and all of these again in the write-ahead log."""
UNLOOKED_BYTES_MAX: Final = 16 * MIB
"""So much may be stored between two looks at the disk, or less when less is left."""


class Storage(Struct, frozen=True, forbid_unknown_fields=True):
    """What the broker may take of the disk, and what it leaves."""

    reserve_bytes: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] | None = None
    """When the disk has less than this left, nothing new is stored (`storage_full`), while what runs is still settled.

    Unless set: 256 MiB, or an eighth of a file system that is smaller than 2 GiB.
    """
    databases_bytes_max: Annotated[int, Meta(ge=MIB, le=INTEGER_MAX)] = 16 * 1024 * MIB
    """What the databases may hold together; past it, nothing new is stored."""
    backups_kept: Annotated[int, Meta(ge=0, le=100)] = 7
    """The newest backups that are kept. One is made each night; 0 makes and removes none."""


class Space(Struct, frozen=True):
    """A file system, and what the databases have of it."""

    free_bytes: int
    total_bytes: int
    used_bytes: int = 0
    """Pages of the databases that hold something."""


class Bounds(Struct, frozen=True):
    """What was set, made to fit the file system."""

    reserve_bytes: int
    databases_bytes_max: int
    ballast_bytes: int


def bounds_for(total_bytes: int, storage: Storage) -> Bounds:
    """The reserve as it was set; unless it was, the usual one, less on a small file system."""
    usual = min(RESERVE_BYTES, total_bytes // RESERVE_SHARE)
    return Bounds(
        usual if storage.reserve_bytes is None else storage.reserve_bytes,
        storage.databases_bytes_max,
        min(BALLAST_BYTES, total_bytes // BALLAST_SHARE),
    )


def fault(space: Space, bounds: Bounds, *, was_full: bool) -> str | None:
    """Why nothing new may be stored; None when it may."""
    wanted = bounds.reserve_bytes
    if was_full:
        wanted += bounds.reserve_bytes // EASE_SHARE
    if space.free_bytes < wanted:
        return (
            f"the disk has {amount(space.free_bytes)} left, less than the reserve of "
            f"{amount(bounds.reserve_bytes)}; nothing was stored: free some space"
        )
    if space.used_bytes >= bounds.databases_bytes_max:
        return (
            f"the broker's databases hold {amount(space.used_bytes)}, as much as they may "
            f"(databases_bytes_max); nothing was stored"
        )
    return None


def check_copy(copy_bytes: int, space: Space, bounds: Bounds) -> None:
    """Refused(storage_full) when a copy of that size would use up the reserve."""
    if space.free_bytes - copy_bytes < bounds.reserve_bytes:
        raise Refused(
            Problem.STORAGE_FULL,
            f"a backup takes {amount(copy_bytes)}, and the disk has {amount(space.free_bytes)} left, of which "
            f"{amount(bounds.reserve_bytes)} are kept free: remove old backups, or free some space",
        )


def may_lay_ballast(space: Space, bounds: Bounds, *, is_full: bool) -> bool:
    """Whether the ballast fits: without using up the reserve or, when that is used up, before others take the rest."""
    kept = bounds.ballast_bytes if is_full else bounds.reserve_bytes
    return space.free_bytes - bounds.ballast_bytes >= kept


def unlooked_bytes(space: Space, bounds: Bounds) -> int:
    """How much may be stored before the disk is looked at again."""
    left = max(0, space.free_bytes - bounds.reserve_bytes)
    return min(left // UNLOOKED_SHARE, UNLOOKED_BYTES_MAX)


def amount(size: int) -> str:
    """Bytes for people: `640 KiB`, `12 MiB`, `3.4 GiB`."""
    if size < MIB:
        return f"{max(0, size) // 1024} KiB"
    return f"{size / MIB:.0f} MiB" if size < 1024 * MIB else f"{size / (1024 * MIB):.1f} GiB"
