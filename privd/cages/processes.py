"""Processes named so that a reused pid is never mistaken: by pid and start time, held by pidfd.

Linux only, from /proc and pidfds. Knows nothing of cages.
"""

import errno
import fcntl
import os
import signal
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Self

import trio
from msgspec import Struct

from privd.cages.spec import Exit, How

PROC: Final = Path("/proc")
STAT_PARENT_FIELD: Final = 1
STAT_START_FIELD: Final = 19
"""Parent and start time in /proc/PID/stat, counted after the command's closing bracket."""
PIDFD_GET_INFO: Final = 0xC040FF0B
PIDFD_INFO_EXIT: Final = 1 << 3
PIDFD_INFO_BYTES: Final = 64


class ProcessName(Struct, frozen=True):
    """One process of this boot."""

    pid: int
    start_ticks: int


def boot_id() -> str:
    """Changes with every boot of the machine; pids and start times mean nothing across it."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str] | None:
    """What /proc/PID/stat says after the command."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def name_of(pid: int) -> ProcessName | None:
    """The process that has this pid now; None when there is none, or when only its exit code is left."""
    fields = _stat(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return ProcessName(pid, int(fields[STAT_START_FIELD]))


def holders(file: Path) -> Iterator[int]:
    """Pids of the processes whose standard input is this file, as far as we may look."""
    for entry in PROC.iterdir():
        if entry.name.isdecimal() and holds(int(entry.name), file):
            yield int(entry.name)


def holds(pid: int, file: Path) -> bool:
    """Whether a process has this file as its standard input, as far as we may look."""
    try:
        return (PROC / str(pid) / "fd/0").samefile(file)
    except OSError:  # it ended, has no such descriptor, or is not ours to look at
        return False


def with_descendants(pids: Iterable[int]) -> set[int]:
    """These processes and all that they started, theirs too; who lost its parent is not found."""
    family = set(pids)
    parents = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))) is not None:
            parents[int(entry.name)] = int(fields[STAT_PARENT_FIELD])
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return family


class Process:
    """A process held by pidfd, so that signals and waits can only mean this one."""

    def __init__(self, pidfd: int, name: ProcessName) -> None:
        self._pidfd = pidfd
        self.name = name

    @classmethod
    def hold(cls, name: ProcessName) -> Self | None:
        """Hold the named process; None when it has ended."""
        try:
            pidfd = os.pidfd_open(name.pid)
        except ProcessLookupError:
            return None
        if name_of(name.pid) == name:
            return cls(pidfd, name)
        os.close(pidfd)
        return None

    @classmethod
    def found(cls, pid: int) -> Self | None:
        """Hold whatever process has this pid now."""
        name = name_of(pid)
        return None if name is None else cls.hold(name)

    @classmethod
    def child(cls, pid: int) -> Self:
        """Hold a child of ours that nobody has waited for: it keeps its pid, ended or not."""
        fields = _stat(pid)
        if fields is None:
            raise ChildProcessError(f"{pid} is no child of ours")
        return cls(os.pidfd_open(pid), ProcessName(pid, int(fields[STAT_START_FIELD])))

    @property
    def pid(self) -> int:
        return self.name.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended already needs none."""
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return

    async def ended(self) -> None:
        """Return when it has ended. An init of a pid namespace has ended when all in it has. One task at a time."""
        await trio.lowlevel.wait_readable(self._pidfd)

    def exit(self) -> Exit | None:
        """How it ended, when it was our child or the kernel keeps the answer (Linux 6.15); None when nobody knows."""
        try:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return self._exit_kept_by_kernel()
        if result is None:
            return None
        how = How.EXIT if result.si_code == os.CLD_EXITED else How.SIGNAL
        return Exit(how, result.si_status)

    def _exit_kept_by_kernel(self) -> Exit | None:
        request = bytearray(struct.pack("=Q", PIDFD_INFO_EXIT).ljust(PIDFD_INFO_BYTES, b"\0"))
        try:
            fcntl.ioctl(self._pidfd, PIDFD_GET_INFO, request)
        except OSError as error:
            if error.errno in {errno.ENOTTY, errno.EINVAL, errno.ESRCH}:  # an older kernel; or not reaped yet
                return None
            raise
        (mask,) = struct.unpack_from("=Q", request)
        if not mask & PIDFD_INFO_EXIT:
            return None
        (status,) = struct.unpack_from("=i", request, 60)
        code = os.waitstatus_to_exitcode(status)
        return Exit(How.EXIT, code) if code >= 0 else Exit(How.SIGNAL, -code)

    def close(self) -> None:
        os.close(self._pidfd)
