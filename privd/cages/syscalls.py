"""The system call filter of every cage, as the kernel's own program (classic BPF). Pure: bytes out, nothing touched.

It stands beside what nspawn filters and is the only filter under bubblewrap. Init installs it on itself before it
starts anything, so everything in the cage inherits it and nothing can take it off.

    refused as forbidden (EPERM)     other processes' memory, mounts, namespaces, keys, kernel tracing, clocks
    refused as unknown (ENOSYS)      io_uring and clone3: programs then use what can be checked
    sockets                          unix, inet, inet6 and netlink only: vsock reaches past network namespaces
"""

import errno
import os
import struct
from typing import Final

ALLOW: Final = 0x7FFF_0000
KILL: Final = 0x8000_0000
ERRNO: Final = 0x0005_0000

_LOAD_WORD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENT_AT = 0, 4, (16, 24)
"""Offsets in struct seccomp_data; of an argument, its low half."""

NEW_NAMESPACES: Final = 0x7E02_0000
"""CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}."""
FAMILIES: Final = (1, 2, 10, 16)
"""AF_UNIX AF_INET AF_INET6 AF_NETLINK."""
TERMINAL_INPUT: Final = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: typing into a terminal for its owner."""
X32_BIT: Final = 0x4000_0000


class Machine:
    """One architecture's constants; numbers from the kernel's own tables."""

    def __init__(self, architecture: int, *, x32: bool, **numbers: int) -> None:
        self.architecture = architecture
        self.x32 = x32
        self.numbers = _SINCE_5_1 | numbers


_SINCE_5_1: Final = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "clone3": 435,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "open_tree_attr": 467,
}
UNKNOWN: Final = frozenset({"io_uring_setup", "io_uring_enter", "io_uring_register", "clone3"})
JUDGED_BY_ARGUMENT: Final = {"clone", "socket", "ioctl"}

MACHINES: Final = {
    "x86_64": Machine(
        0xC000_003E,
        x32=True,
        ioctl=16, socket=41, clone=56, ptrace=101, syslog=103, uselib=134, ustat=136, sysfs=139, vhangup=153,
        modify_ldt=154, pivot_root=155, _sysctl=156, adjtimex=159, chroot=161, acct=163, settimeofday=164, mount=165,
        umount2=166, swapon=167, swapoff=168, reboot=169, iopl=172, ioperm=173, init_module=175, delete_module=176,
        quotactl=179, nfsservctl=180, lookup_dcookie=212, clock_settime=227, kexec_load=246, add_key=248,
        request_key=249, keyctl=250, unshare=272, perf_event_open=298, fanotify_init=300, name_to_handle_at=303,
        open_by_handle_at=304, clock_adjtime=305, setns=308, process_vm_readv=310, process_vm_writev=311, kcmp=312,
        finit_module=313, kexec_file_load=320, bpf=321, userfaultfd=323,
    ),
    "aarch64": Machine(
        0xC000_00B7,
        x32=False,
        lookup_dcookie=18, ioctl=29, umount2=39, mount=40, pivot_root=41, nfsservctl=42, chroot=51, vhangup=58,
        quotactl=60, acct=89, unshare=97, kexec_load=104, init_module=105, delete_module=106, clock_settime=112,
        syslog=116, ptrace=117, reboot=142, settimeofday=170, adjtimex=171, socket=198, add_key=217, request_key=218,
        keyctl=219, clone=220, swapon=224, swapoff=225, perf_event_open=241, fanotify_init=262, name_to_handle_at=264,
        open_by_handle_at=265, clock_adjtime=266, setns=268, process_vm_readv=270, process_vm_writev=271, kcmp=272,
        finit_module=273, bpf=280, userfaultfd=282, kexec_file_load=294,
    ),
}  # fmt: skip


def program(machine: str | None = None) -> bytes | None:
    """The filter for this machine's architecture (or the named one); None where we have no table for it."""
    found = MACHINES.get(machine or os.uname().machine)
    return None if found is None else b"".join(_instructions(found))


def _instructions(machine: Machine) -> list[bytes]:
    judged = machine.numbers
    program = [
        _step(_LOAD_WORD, _ARCHITECTURE_AT),
        *_unless(_JUMP_EQUAL, machine.architecture, KILL),
        _step(_LOAD_WORD, _NUMBER_AT),
    ]
    if machine.x32:
        program += _when(_JUMP_AT_LEAST, X32_BIT, _refusal(errno.EPERM))
    for name, number in sorted(judged.items()):
        if name not in JUDGED_BY_ARGUMENT:
            program += _when(_JUMP_EQUAL, number, _refusal(errno.ENOSYS if name in UNKNOWN else errno.EPERM))
    program += _block(judged["clone"], 0, _when(_JUMP_ANY_BIT, NEW_NAMESPACES, _refusal(errno.EPERM)), ALLOW)
    allowed = [step for family in FAMILIES for step in _when(_JUMP_EQUAL, family, ALLOW)]
    program += _block(judged["socket"], 0, allowed, _refusal(errno.EAFNOSUPPORT))
    typing = [step for code in TERMINAL_INPUT for step in _when(_JUMP_EQUAL, code, _refusal(errno.EPERM))]
    program += _block(judged["ioctl"], 1, typing, ALLOW)
    return [*program, _step(_RETURN, ALLOW)]


def _refusal(code: int) -> int:
    return ERRNO | code


def _step(code: int, value: int, when: int = 0, otherwise: int = 0) -> bytes:
    """One struct sock_filter."""
    return struct.pack("=HBBI", code, when, otherwise, value)


def _when(test: int, value: int, verdict: int) -> list[bytes]:
    return [_step(test, value, 0, 1), _step(_RETURN, verdict)]


def _unless(test: int, value: int, verdict: int) -> list[bytes]:
    return [_step(test, value, 1, 0), _step(_RETURN, verdict)]


def _block(number: int, argument: int, steps: list[bytes], verdict: int) -> list[bytes]:
    """For one system call: load an argument, judge it by steps, else the verdict. Others pass over the whole block."""
    body = [_step(_LOAD_WORD, _ARGUMENT_AT[argument]), *steps, _step(_RETURN, verdict)]
    return [_step(_JUMP_EQUAL, number, 0, len(body)), *body]
