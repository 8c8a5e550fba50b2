"""A cage's control groups: what limits its memory, tasks and processor time, where the kernel lets us.

`create` makes them, in this order: version 2 with its controllers, version 1, nothing. Every cage joins a group of
its own in each hierarchy, limited or not, so that nothing of it ever counts as something else. `of_process` reads
those that systemd made, and believes no limit that does not stand there. A limit that nothing holds is named in
`missing`; the cage starts all the same. Files: /proc/self/mountinfo, /proc/PID/cgroup, the cgroup mounts.
"""

import os
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct, structs

from protocol.settings import CageLimits

MOUNTINFO: Final = Path("/proc/self/mountinfo")
OWN_GROUPS: Final = Path("/proc/self/cgroup")
USUAL: Final = "/sys/fs/cgroup"
PROCESSES: Final = "cgroup.procs"
MIB: Final = 1024 * 1024
CPU_PERIOD_US: Final = 100_000
REMOVAL_TRIES_MAX: Final = 50
REMOVAL_PAUSE_MS: Final = 20
CONTROLLERS: Final = {"memory": "memory", "tasks": "pids", "cpu": "cpu"}
"""What is limited, and the controller that limits it."""
WEAKER: Final = {
    "memory": "each process by itself is bounded, not all of them together",
    "tasks": "each of its users is bounded, not the cage",
    "cpu": "it gives way to others, but may use what they leave",
}
"""What holds a resource that no group holds: resource limits, which init sets, and niceness."""
NO_CONTROLLER: Final = "the kernel offers no controller"
NAMED: Final = "name=systemd"
VERSION_1, VERSION_2 = "control groups version 1", "control groups"


class Mounts(Struct, frozen=True):
    """Where hierarchies are mounted: the one of version 2, and those of version 1 by controller."""

    unified: str | None = None
    legacy: dict[str, str] = {}


class Groups(Struct, frozen=True):
    """One cage's groups: their folders, what each limited resource is held by, and why another is not."""

    folders: tuple[str, ...] = ()
    held: dict[str, str] = {}
    missing: dict[str, str] = {}
    joined: bool = False
    """Whether its processes are in them from the start."""

    @property
    def degraded(self) -> tuple[str, ...]:
        """One sentence for each that is missing, with what is left of it."""
        return tuple(
            f"no control group limits {resource}: {reason}; {WEAKER[resource]}"
            for resource, reason in self.missing.items()
        )


def read_mounts(mountinfo: str) -> Mounts:
    """The hierarchies of one mountinfo; of several mounts of one, the last in the usual place, else the last.

    A service's own sandbox may show all of them once more, elsewhere.
    """
    found: dict[str, str] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        place = _unescaped(before.split()[4])
        kind, _, options = after.split(maxsplit=2)
        for name in {"cgroup2": [""], "cgroup": options.split(",")}.get(kind, ()):
            if place.startswith(USUAL) or not found.get(name, "").startswith(USUAL):
                found[name] = place
    return Mounts(found.pop("", None), found)


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def values_v2(limits: CageLimits) -> dict[str, dict[str, str]]:
    """Controller → file → what is written, for version 2."""
    values: dict[str, dict[str, str]] = {}
    if limits.memory_mib_max is not None:
        values["memory"] = {"memory.max": str(limits.memory_mib_max * MIB), "memory.swap.max": "0"}
    if limits.tasks_max is not None:
        values["pids"] = {"pids.max": str(limits.tasks_max)}
    if limits.cpu_percent_max is not None:
        values["cpu"] = {"cpu.max": f"{limits.cpu_percent_max * CPU_PERIOD_US // 100} {CPU_PERIOD_US}"}
    return values


def values_v1(limits: CageLimits) -> dict[str, dict[str, str]]:
    """Controller → file → what is written, in order, for version 1."""
    values: dict[str, dict[str, str]] = {}
    if limits.memory_mib_max is not None:
        memory = str(limits.memory_mib_max * MIB)
        values["memory"] = {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory}
    if limits.tasks_max is not None:
        values["pids"] = {"pids.max": str(limits.tasks_max)}
    if limits.cpu_percent_max is not None:
        quota = limits.cpu_percent_max * CPU_PERIOD_US // 100
        values["cpu"] = {"cpu.cfs_period_us": str(CPU_PERIOD_US), "cpu.cfs_quota_us": str(quota)}
    return values


OPTIONAL_FILES: Final = frozenset({"memory.swap.max", "memory.memsw.limit_in_bytes"})
"""Absent where the kernel does not count swap."""


async def create(hive: str, agent: str, limits: CageLimits, mounts: Mounts | None = None) -> Groups:
    """Make the groups of one cage of one hive and set its limits. The cage must not run.

    What a former cage left is removed first: in version 2 a group that handed controllers on takes no process.
    """
    found = mounts or read_mounts(MOUNTINFO.read_text())
    name = f"hyperhive-{hive}/{agent}"
    await remove(tuple(str(parent / name) for parent, _ in _parents(found) if (parent / name).exists()))
    return _create(name, limits, found)


def _create(name: str, limits: CageLimits, found: Mounts) -> Groups:
    folders: list[str] = []
    reasons: dict[str, str] = {}
    held: dict[str, str] = {}
    wanted_v1, wanted_v2 = values_v1(limits), values_v2(limits)
    for parent, legacy in _parents(found):
        controllers = {legacy} if legacy else set(wanted_v2)
        wanted = wanted_v1 if legacy else wanted_v2
        if legacy and (legacy in held or (legacy != NAMED and legacy not in wanted)):
            continue
        try:
            folder = _make(parent, name, None if legacy else controllers)
        except OSError as error:
            reasons |= dict.fromkeys(controllers, f"{parent}: {error.strerror}")
            continue
        folders.append(str(folder))
        for controller in sorted(controllers & set(wanted)):
            reason = _limit(folder, wanted[controller])
            if reason is None:
                held[controller] = VERSION_1 if legacy else VERSION_2
            else:
                reasons.setdefault(controller, reason)
    return _groups(folders, wanted_v2, held, reasons)


def _groups(
    folders: list[str], wanted: Container[str], held: dict[str, str], reasons: dict[str, str]
) -> Groups:
    asked = {resource: controller for resource, controller in CONTROLLERS.items() if controller in wanted}
    return Groups(
        tuple(folders),
        {resource: held[each] for resource, each in asked.items() if each in held},
        {resource: reasons.get(each, NO_CONTROLLER) for resource, each in asked.items() if each not in held},
    )


def of_process(pid: int, unit: str, limits: CageLimits, by: str) -> Groups:
    """The groups of a unit of systemd that a process is in, and which limits stand there."""
    found = read_mounts(MOUNTINFO.read_text())
    return of_groups(unit_folders(Path(f"/proc/{pid}/cgroup").read_text(), unit, found), limits, by)


def unit_folders(groups: str, unit: str, mounts: Mounts) -> tuple[str, ...]:
    """The unit's own folders by what /proc/PID/cgroup says of one of its processes; where it shares another's, none.

    nspawn moves itself one level down where the group is its own.
    """
    folders: dict[str, None] = {}
    for line in groups.splitlines():
        _, names, path = line.split(":", 2)
        above, own, _ = f"{path}/".partition(f"/{unit}/")
        for name in names.split(",") if own else ():
            mount = mounts.legacy.get(name) if name else mounts.unified
            if mount is not None:
                folders[f"{mount}{above}/{unit}"] = None
    return tuple(folders)


def of_groups(folders: tuple[str, ...], limits: CageLimits, by: str) -> Groups:
    """The same of groups that are known: a limit holds where a group's files say so, of either version."""
    wanted_v1, wanted_v2 = values_v1(limits), values_v2(limits)
    held: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for controller, values in wanted_v2.items():
        for folder in folders:
            for wanted in (values, wanted_v1[controller]):
                reason = _unlike(Path(folder), wanted)
                if reason is None:
                    held[controller] = by
                elif reason != NO_CONTROLLER:
                    reasons[controller] = reason
    return structs.replace(_groups(list(folders), wanted_v2, held, reasons), joined=True)


def _unlike(folder: Path, values: dict[str, str]) -> str | None:
    """None when a group's files say these values, else what one of them says instead."""
    for file, value in values.items():
        place = folder / file
        if file in OPTIONAL_FILES:
            continue
        if not place.exists():
            return NO_CONTROLLER
        found = place.read_text().strip()
        if found != value:
            return f"{place} says {found}"
    return None


def _parents(mounts: Mounts) -> Iterator[tuple[Path, str | None]]:
    """The folders below which groups are made, version 2 first, and the controller where it is version 1."""
    if mounts.unified is not None:
        yield _own_part(Path(mounts.unified), "0::"), None
    for controller in (*CONTROLLERS.values(), NAMED):
        if controller in mounts.legacy:
            yield Path(mounts.legacy[controller]), controller


def _own_part(mount: Path, prefix: str) -> Path:
    """Root takes the top; an ordinary user takes the highest folder above its own processes that it may write."""
    if os.geteuid() == 0:
        return mount
    for line in OWN_GROUPS.read_text().splitlines():
        if line.startswith(prefix):
            place = mount
            for part in Path(line.removeprefix(prefix)).parts[1:]:
                place = place / part
                if os.access(place, os.W_OK) and os.access(place / PROCESSES, os.W_OK):
                    return place
    return mount


def _make(parent: Path, name: str, controllers: set[str] | None) -> Path:
    """Make `parent/name`, enabling controllers of version 2 on the way down."""
    place = parent
    for part in Path(name).parts:
        if controllers is not None:
            _enable(place, controllers)
        place = place / part
        place.mkdir(exist_ok=True)
    return place


def _enable(folder: Path, controllers: set[str]) -> None:
    """Best effort: what could not be enabled is missing below, and `_limit` says so."""
    for controller in controllers:
        try:
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            continue


def _limit(folder: Path, values: dict[str, str]) -> str | None:
    """Write one controller's values; None, or the reason why it does not hold."""
    for file, value in values.items():
        place = folder / file
        if not place.exists():
            if file in OPTIONAL_FILES:
                continue
            return NO_CONTROLLER
        try:
            place.write_text(value)
        except OSError as error:
            return f"{place}: {error.strerror}"
    return None


def joined_by_writing(groups: Groups) -> tuple[str, ...]:
    """The files into which a process writes its pid to join."""
    return () if groups.joined else tuple(f"{folder}/{PROCESSES}" for folder in groups.folders)


async def remove(folders: tuple[str, ...]) -> tuple[str, ...]:
    """Remove the groups of a cage that has ended, waiting for dying processes; those that would not go are returned."""
    left = list(folders)
    for _ in range(REMOVAL_TRIES_MAX):
        left = [folder for folder in left if not _removed(Path(folder))]
        if not left:
            break
        await trio.sleep(REMOVAL_PAUSE_MS / 1000)
    return tuple(left)


def _removed(folder: Path) -> bool:
    """Remove a group and those below it, which nspawn makes; and the hive's own when it is the last."""
    try:
        for below in [Path(place) for place, _, _ in os.walk(folder, topdown=False)]:
            below.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        folder.parent.rmdir()
    except OSError:
        return True  # another cage of the hive is still there
    return True
