"""The filter of boxes as a program: read step by step, for both architectures, without installing it."""

import errno
import struct

import pytest

from boxes.system_calls import ALLOW, ERRNO, KILL, MACHINES, program

LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
PROT_READ_WRITE, PROT_READ_EXEC = 3, 5
NEVER = {
    "x86_64": {"clone": 56, "fork": 57, "execve": 59, "kill": 62, "socket": 41, "connect": 42, "ptrace": 101,
               "mount": 165, "unlink": 87, "rename": 82, "chmod": 90, "memfd_create": 319, "clone3": 435,
               "io_uring_setup": 425, "setrlimit": 160, "prlimit64": 302, "prctl": 157, "seccomp": 317, "bpf": 321,
               "execveat": 322, "userfaultfd": 323, "pidfd_open": 434, "ftruncate": 77, "x32 read": 0x4000_0000},
    "aarch64": {"clone": 220, "execve": 221, "kill": 129, "socket": 198, "connect": 203, "ptrace": 117, "mount": 40,
                "unlinkat": 35, "renameat2": 276, "fchmodat": 53, "memfd_create": 279, "clone3": 435, "prctl": 167,
                "io_uring_setup": 425, "setrlimit": 164, "prlimit64": 261, "seccomp": 277, "bpf": 280, "execveat": 281},
}  # fmt: skip


def verdict(code: bytes, architecture: int, number: int, third_argument: int = 0) -> int:
    """What the kernel would answer: the few instructions that we use, obeyed."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, 0, 0, third_argument, 0, 0, 0)
    steps = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    at, held = 0, 0
    while True:
        what, when, otherwise, value = steps[at]
        at += 1
        match what:
            case 0x20:
                (held,) = struct.unpack_from("=I", data, value)
            case 0x15:
                at += when if held == value else otherwise
            case 0x45:
                at += when if held & value else otherwise
            case _:
                assert what == RETURN
                return int(value)


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_what_is_listed_passes_and_nothing_else(machine: str) -> None:
    code, known = program(machine), MACHINES[machine]
    assert code is not None
    assert len(code) // 8 < 4096
    passing = {number for number in range(600) if verdict(code, known.architecture, number) == ALLOW}
    assert passing == {*known.allowed, *known.mapping}
    assert not passing & set(NEVER[machine].values())
    for number in NEVER[machine].values():
        assert verdict(code, known.architecture, number) == ERRNO | errno.EPERM


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_memory_is_never_both_new_and_executable(machine: str) -> None:
    code, known = program(machine), MACHINES[machine]
    assert code is not None
    for number in known.mapping:
        assert verdict(code, known.architecture, number, PROT_READ_WRITE) == ALLOW
        assert verdict(code, known.architecture, number, PROT_READ_EXEC) == ERRNO | errno.EPERM
    assert verdict(code, known.architecture, known.ioctl) == ERRNO | errno.ENOTTY


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_another_architecture_is_the_end(machine: str) -> None:
    code = program(machine)
    assert code is not None
    assert verdict(code, 0x4000_0003, 3) == KILL


def test_a_machine_that_nobody_described_has_no_filter() -> None:
    assert program("vax") is None
