"""The system calls that a box may make, as the kernel's own program (classic BPF). What is not listed is refused.

What is left can read what is already visible, take memory and end. No process, no thread, no program, no socket, no
name made or changed (but in a box that is to write), no new executable memory. A program imports everything before the
filter is put on.
"""

import errno
import os
import struct
from typing import Final

ALLOW: Final = 0x7FFF_0000
KILL: Final = 0x8000_0000
ERRNO: Final = 0x0005_0000
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _PROTECTION_AT = 0, 4, 32
"""Offsets in struct seccomp_data; the last is the low half of the third argument."""
PROT_EXEC: Final = 4


class Machine:
    """One architecture's constants; numbers from the kernel's own tables."""

    def __init__(self, architecture: int, **numbers: int) -> None:
        self.architecture = architecture
        self.ioctl, *self.mapping = (numbers.pop(name) for name in ("ioctl", "mmap", "mprotect"))
        self.writing = [numbers.pop(name) for name in WRITING if name in numbers]
        self.allowed = sorted((_SINCE_5_1 | numbers).values())


WRITING: Final = (
    "chdir", "umask", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "fsync",
)  # fmt: skip
"""What only a box that writes may make besides."""
_SINCE_5_1: Final = {"close_range": 436, "openat2": 437, "faccessat2": 439}
MACHINES: Final = {
    "x86_64": Machine(
        0xC000_003E,
        mmap=9, mprotect=10, ioctl=16, read=0, write=1, open=2, close=3, stat=4, fstat=5, lstat=6, poll=7, lseek=8,
        munmap=11, brk=12, rt_sigaction=13, rt_sigprocmask=14, rt_sigreturn=15, pread64=17, readv=19, writev=20,
        access=21, select=23, sched_yield=24, mremap=25, madvise=28, dup=32, dup2=33, nanosleep=35, getpid=39,
        exit=60, uname=63, fcntl=72, getcwd=79, readlink=89, gettimeofday=96, getrlimit=97, getrusage=98, sysinfo=99,
        getuid=102, getgid=104, geteuid=107, getegid=108, getppid=110, sigaltstack=131, statfs=137, fstatfs=138,
        gettid=186, futex=202, sched_getaffinity=204, getdents64=217, set_tid_address=218, restart_syscall=219,
        fadvise64=221, clock_gettime=228, clock_getres=229, clock_nanosleep=230, exit_group=231, tgkill=234,
        openat=257, newfstatat=262, readlinkat=267, faccessat=269, pselect6=270, ppoll=271, set_robust_list=273,
        dup3=292, preadv=295, getrandom=318, membarrier=324, statx=332, rseq=334, fsync=74, chdir=80, rename=82,
        mkdir=83, unlink=87, umask=95, mkdirat=258, unlinkat=263, renameat=264, renameat2=316,
    ),
    "aarch64": Machine(
        0xC000_00B7,
        mmap=222, mprotect=226, ioctl=29, getcwd=17, dup=23, dup3=24, fcntl=25, statfs=43, fstatfs=44, faccessat=48,
        openat=56, close=57, getdents64=61, lseek=62, read=63, write=64, readv=65, writev=66, pread64=67, preadv=69,
        pselect6=72, ppoll=73, readlinkat=78, newfstatat=79, fstat=80, exit=93, exit_group=94, set_tid_address=96,
        futex=98, set_robust_list=99, nanosleep=101, clock_gettime=113, clock_getres=114, clock_nanosleep=115,
        sched_getaffinity=123, sched_yield=124, restart_syscall=128, tgkill=131, sigaltstack=132, rt_sigaction=134,
        rt_sigprocmask=135, rt_sigreturn=139, uname=160, getrlimit=163, getrusage=165, gettimeofday=169, getpid=172,
        getppid=173, getuid=174, geteuid=175, getgid=176, getegid=177, gettid=178, sysinfo=179, brk=214, munmap=215,
        mremap=216, fadvise64=223, madvise=233, getrandom=278, membarrier=283, statx=291, rseq=293, mkdirat=34,
        unlinkat=35, renameat=38, chdir=49, fsync=82, umask=166, renameat2=276,
    ),
}  # fmt: skip


def program(machine: str | None = None, *, writing: bool = False) -> bytes | None:
    """The filter for this machine's architecture (or the named one); None where we have no table for it."""
    found = MACHINES.get(machine or os.uname().machine)
    if found is None:
        return None
    steps = [_step(_LOAD, _ARCHITECTURE_AT), *_unless(found.architecture, KILL), _step(_LOAD, _NUMBER_AT)]
    for number in (*found.allowed, *(found.writing if writing else ())):
        steps += _when(_EQUAL, number, ALLOW)
    steps += _when(_EQUAL, found.ioctl, ERRNO | errno.ENOTTY)  # nothing in a box is a terminal
    for number in found.mapping:
        steps += _unless_executable(number)
    return b"".join([*steps, _step(_RETURN, ERRNO | errno.EPERM)])


def _unless_executable(number: int) -> list[bytes]:
    """For one system call: allowed, unless it asks for memory that may be executed."""
    body = [
        _step(_LOAD, _PROTECTION_AT),
        *_when(_ANY_BIT, PROT_EXEC, ERRNO | errno.EPERM),
        _step(_RETURN, ALLOW),
    ]
    return [_step(_EQUAL, number, 0, len(body)), *body]


def _when(test: int, value: int, verdict: int) -> list[bytes]:
    return [_step(test, value, 0, 1), _step(_RETURN, verdict)]


def _unless(value: int, verdict: int) -> list[bytes]:
    return [_step(_EQUAL, value, 1, 0), _step(_RETURN, verdict)]


def _step(code: int, value: int, when: int = 0, otherwise: int = 0) -> bytes:
    """One struct sock_filter."""
    return struct.pack("=HBBI", code, when, otherwise, value)
