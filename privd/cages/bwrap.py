"""Cages by bubblewrap: for an ordinary user, and for root where nspawn is missing. One uid for all of a cage.

As an ordinary user every cage runs as that user; as root each runs as the agent's uid of its own range. Either way
harness and agent are one user to the kernel, and `degraded` says so. `--die-with-parent` is not used: a cage
outlives privd, and privd ends it by its init.
"""

import os
from collections.abc import Container
from pathlib import Path
from typing import Final

import trio

from privd.cages import folders, running, skeleton
from privd.cages.bases import OverHost
from privd.cages.boot import GIVING_WAY, READY_FD, Launcher, Order, disk_of
from privd.cages.control_groups import Groups, joined_by_writing
from privd.cages.identity import AGENT_UID, Identity, single
from privd.cages.launch import STAGE
from privd.cages.skeleton import host_binds
from privd.cages.spec import INIT_VARIABLE, Bind, CageSpec, Exit, Places
from protocol.problem import Problem, Refused

TMPFS_BYTES_MAX: Final = {"/tmp": 512 << 20, "/var": 64 << 20, "/run": 16 << 20, "/dev/shm": 64 << 20}  # noqa: S108 - as in nspawn.py
SAME_VARIABLE: Final = f"{INIT_VARIABLE}SAME"
"""`device:inode:path`: init starts nothing where another folder is there."""
ONE_USER: Final = (
    "harness and agent are one user: the agent can do whatever its harness may, and read its files"
)
NO_RANGE: Final = "cages run as uid {uid}, the hive's own: whatever breaks out of one reaches the whole hive"


class Bwrap(OverHost, frozen=True):
    """The bubblewrap backend of one hive. `program` is absolute; `uid` and `gid` are privd's own."""

    program: str
    launcher: Launcher
    uid: int
    gid: int

    @property
    def name(self) -> str:
        return "bwrap"

    def degraded(self) -> tuple[str, ...]:
        return (ONE_USER,) if self.uid == 0 else (ONE_USER, NO_RANGE.format(uid=self.uid))

    def identity(self, uid_base: int) -> Identity:
        if self.uid != 0:
            return single(self.uid, self.gid)
        return single(uid_base + AGENT_UID, uid_base + AGENT_UID)

    async def prepare(self, spec: CageSpec, places: Places) -> None:
        await trio.to_thread.run_sync(running.prepare, spec, places)

    async def start(self, spec: CageSpec, places: Places) -> running.BootedCage:
        def order(groups: Groups) -> Order:
            return self._order(spec, places, groups)

        return await running.start(spec, places, self.launcher, order, self.degraded())

    def _order(self, spec: CageSpec, places: Places, groups: Groups) -> Order:
        """Root stages the folders, which the cage's uid could not reach from outside, and becomes that uid."""
        binds = (Bind(str(places.root), "/"), *host_binds(), *spec.binds)
        join = joined_by_writing(groups)
        nice = GIVING_WAY if "cpu" in groups.missing else 0
        if self.uid != 0:
            argv = arguments(self.program, spec, binds, groups.missing, same_folder(spec))
            return Order(argv=argv, join=join, nice=nice)
        stage = tuple((bind.source, str(number)) for number, bind in enumerate(binds))
        staged = tuple(
            Bind(f"{STAGE}/{number}", bind.target, bind.writable) for number, bind in enumerate(binds)
        )
        identity = self.identity(spec.uid_base)
        return Order(
            argv=arguments(self.program, spec, staged, groups.missing),
            join=join,
            nice=nice,
            disk=disk_of(spec, identity),
            stage=stage,
            become=(identity.agent_uid, identity.agent_gid),
        )

    async def adopt(self, places: Places) -> running.BootedCage | Exit | None:
        return await running.adopt(places, self.launcher)

    async def clear(self, places: Places) -> None:
        await running.clear(places)

    async def fault(self, spec: CageSpec, places: Places) -> str | None:
        return await trio.to_thread.run_sync(skeleton.fault, spec, places)

    async def remove(self, places: Places) -> None:
        await running.remove(places)


def of_this_process(program: str, launcher: Launcher) -> Bwrap:
    """The backend for whoever runs privd."""
    return Bwrap(program, launcher, os.geteuid(), os.getegid())


def arguments(
    program: str,
    spec: CageSpec,
    binds: tuple[Bind, ...],
    unheld: Container[str] = (),
    told: dict[str, str] | None = None,
) -> tuple[str, ...]:
    """The whole command line; the first bind is the root. `unheld` are the resources that no control group limits.

    `told` is what init is to know beside that.
    """
    root, *others = binds
    environment = (
        {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        | spec.environment
        | spec.init_variables(READY_FD, unheld)
        | (told or {})
    )
    return (
        program,
        "--unshare-all",
        "--unshare-user",
        "--disable-userns",
        "--new-session",
        "--as-pid-1",
        *("--hostname", spec.agent),
        *("--uid", str(AGENT_UID), "--gid", str(AGENT_UID)),
        "--clearenv",
        *(word for variable, value in sorted(environment.items()) for word in ("--setenv", variable, value)),
        *("--ro-bind", root.source, "/"),
        *("--proc", "/proc", "--dev", "/dev"),
        *(word for place, size in TMPFS_BYTES_MAX.items() for word in _tmpfs(place, size)),
        *("--dir", "/run/hive"),
        *(word for bind in others for word in _bind(bind)),
        *("--remount-ro", "/dev"),
        *("--chdir", "/"),
        "--",
        *spec.command,
    )


def same_folder(spec: CageSpec) -> dict[str, str]:
    """Which folder init must find where a name of the host may lead elsewhere: bubblewrap follows links.

    One user's cages only: elsewhere such names are root's. Refused(failed) when something else is there already.
    """
    for bind in spec.binds:
        if bind.beneath:
            try:
                held = folders.hold(Path(bind.beneath), Path(bind.source))
            except OSError as error:
                raise Refused(
                    Problem.FAILED, f"{bind.source} is not a real folder: {error.strerror}; move it away"
                ) from error
            found = os.fstat(held)
            os.close(held)
            return {SAME_VARIABLE: f"{found.st_dev}:{found.st_ino}:{bind.target}"}
    return {}


def _tmpfs(place: str, size: int) -> tuple[str, ...]:
    mode = "0755" if place in {"/var", "/run"} else "1777"
    return ("--perms", mode, "--size", str(size), "--tmpfs", place)


def _bind(bind: Bind) -> tuple[str, ...]:
    return ("--bind" if bind.writable else "--ro-bind", bind.source, bind.target)
