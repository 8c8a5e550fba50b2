"""Cages by systemd-nspawn, for a privd that is root: a uid range for each, users that the kernel tells apart.

nspawn runs without systemd (`--register=no --keep-unit`) and without a notify socket. Its arguments are a fixed
table; what varies in them was checked by `privd.cages.spec`, and paths are those of the launcher's stage.
"""

from collections.abc import Container
from typing import Final

import trio

from privd.cages import running, skeleton
from privd.cages.bases import OverHost
from privd.cages.boot import GIVING_WAY, READY_FD, Launcher, Order, disk_of
from privd.cages.control_groups import Groups, joined_by_writing
from privd.cages.identity import RANGE_UIDS, Identity, mapped
from privd.cages.launch import STAGE
from privd.cages.skeleton import host_binds
from privd.cages.spec import CageSpec, Exit, Places

TMPFS_BYTES_MAX: Final = {"/tmp": 512 << 20, "/var": 64 << 20, "/dev/shm": 64 << 20}  # noqa: S108 - inside the cage
CAPABILITIES_KEPT: Final = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
"""Init becomes the two users with the first two and throws everything away with the third."""
CAPABILITIES_DROPPED: Final = tuple(
    f"CAP_{name}"
    for name in (
        "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN",
        "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE",
        "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST",
        "NET_RAW", "PERFMON", "SETFCAP", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT",
        "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "SYSLOG", "WAKE_ALARM",
    )
)  # fmt: skip
"""By name, because --drop-capability wins over --capability."""
RUNTIME: Final = "/run/systemd/nspawn"
"""nspawn's own bookkeeping, private to each so that none depends on another, nor on what /run is made of."""
LANDLOCK: Final = "landlock_create_ruleset landlock_add_rule landlock_restrict_self"
"""nspawn's own filter refuses these; an agent CLI may confine what it starts. The rest of the filter is init's."""


class Nspawn(OverHost, frozen=True):
    """The nspawn backend of one hive. `program` is absolute."""

    program: str
    launcher: Launcher

    @property
    def name(self) -> str:
        return "nspawn"

    def degraded(self) -> tuple[str, ...]:
        return ()

    def identity(self, uid_base: int) -> Identity:
        return mapped(uid_base)

    async def prepare(self, spec: CageSpec, places: Places) -> None:
        await trio.to_thread.run_sync(running.prepare, spec, places)

    async def start(self, spec: CageSpec, places: Places) -> running.BootedCage:
        def order(groups: Groups) -> Order:
            binds = (*host_binds(), *spec.binds)
            stage = (
                ("root", str(places.root)),
                *((str(number), bind.source) for number, bind in enumerate(binds)),
            )
            return Order(
                argv=arguments(self.program, spec, groups.missing),
                join=joined_by_writing(groups),
                nice=GIVING_WAY if "cpu" in groups.missing else 0,
                disk=disk_of(spec, self.identity(spec.uid_base)),
                stage=tuple((source, name) for name, source in stage),
                cover=(RUNTIME,),
            )

        return await running.start(spec, places, self.launcher, order, self.degraded())

    async def adopt(self, places: Places) -> running.BootedCage | Exit | None:
        return await running.adopt(places, self.launcher)

    async def clear(self, places: Places) -> None:
        await running.clear(places)

    async def fault(self, spec: CageSpec, places: Places) -> str | None:
        return await trio.to_thread.run_sync(skeleton.fault, spec, places)

    async def remove(self, places: Places) -> None:
        await running.remove(places)


def arguments(program: str, spec: CageSpec, unheld: Container[str] = ()) -> tuple[str, ...]:
    """The whole command line. `unheld` are the resources that no control group limits."""
    environment = spec.environment | spec.init_variables(READY_FD, unheld)
    binds = (*host_binds(), *spec.binds)
    return (
        program,
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--settings=no",
        f"--directory={STAGE}/root",
        "--read-only",
        f"--machine={spec.agent}",
        f"--hostname={spec.agent}",
        "--timezone=off",
        "--resolv-conf=off",
        "--link-journal=no",
        "--console=pipe",
        "--kill-signal=SIGTERM",
        f"--private-users={spec.uid_base}:{RANGE_UIDS}",
        "--private-users-ownership=off",
        "--private-network",
        "--no-new-privileges=yes",
        f"--drop-capability={','.join(CAPABILITIES_DROPPED)}",
        f"--system-call-filter={LANDLOCK}",
        *(f"--tmpfs={place}:{_tmpfs_options(place, size)}" for place, size in TMPFS_BYTES_MAX.items()),
        *(
            f"--bind{'' if bind.writable else '-ro'}={STAGE}/{number}:{bind.target}"
            for number, bind in enumerate(binds)
        ),
        *(f"--setenv={variable}={value}" for variable, value in sorted(environment.items())),
        "--",
        *spec.command,
    )


def _tmpfs_options(place: str, size: int) -> str:
    mode = "0755" if place == "/var" else "1777"
    return f"mode={mode},size={size},nosuid,nodev"
