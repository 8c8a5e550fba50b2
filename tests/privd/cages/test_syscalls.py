"""The filter as the kernel takes it; what it refuses in a cage is asked in test_conformance."""

import ctypes
import errno
import os
import struct

import pytest

from privd.cages.syscalls import ALLOW, ERRNO, FAMILIES, KILL, MACHINES, NEW_NAMESPACES, program

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def verdict(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """Run the program as the kernel would."""
    code = program(machine)
    assert code is not None
    words = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    known = MACHINES[machine].architecture if architecture is None else architecture
    data = struct.pack("=IIQ6Q", number, known, 0, *words)
    steps = list(struct.iter_unpack("=HBBI", code))
    at = accumulator = 0
    while True:
        kind, when, otherwise, value = steps[at]
        at += 1
        match kind:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x06:
                return int(value)
            case 0x15:
                at += when if accumulator == value else otherwise
            case 0x35:
                at += when if accumulator >= value else otherwise
            case 0x45:
                at += when if accumulator & value else otherwise
            case _:
                raise AssertionError(f"unknown step {kind:#x}")


machines = pytest.mark.parametrize("machine", sorted(MACHINES))


@machines
def test_the_kernel_s_bounds(machine: str) -> None:
    code = program(machine)
    assert code is not None
    assert len(code) % 8 == 0
    assert len(code) // 8 <= 4096


@machines
def test_every_listed_call_is_refused(machine: str) -> None:
    numbers = MACHINES[machine].numbers
    for name, number in numbers.items():
        if name in {"clone", "socket", "ioctl"}:
            continue
        unknown = name.startswith("io_uring") or name == "clone3"
        assert verdict(machine, number) == ERRNO | (errno.ENOSYS if unknown else errno.EPERM), name


@machines
def test_everything_else_is_allowed(machine: str) -> None:
    listed = set(MACHINES[machine].numbers.values())
    for number in set(range(600)) - listed:
        assert verdict(machine, number) == ALLOW, number


@machines
def test_clone_is_judged_by_its_flags(machine: str) -> None:
    clone = MACHINES[machine].numbers["clone"]
    assert verdict(machine, clone, 17) == ALLOW
    assert verdict(machine, clone, 0x3D0F00) == ALLOW  # a thread as glibc starts it
    for bit in range(32):
        expected = ERRNO | errno.EPERM if NEW_NAMESPACES & 1 << bit else ALLOW
        assert verdict(machine, clone, 1 << bit) == expected, hex(1 << bit)
    assert verdict(machine, clone, 0x1000_0000 | 1 << 40) == ERRNO | errno.EPERM


@machines
def test_sockets_by_family(machine: str) -> None:
    for family in range(64):
        allowed = verdict(machine, MACHINES[machine].numbers["socket"], family) == ALLOW
        assert allowed is (family in FAMILIES), family


@machines
def test_typing_for_others(machine: str) -> None:
    ioctl = MACHINES[machine].numbers["ioctl"]
    assert verdict(machine, ioctl, 0, 0x5412) == ERRNO | errno.EPERM
    assert verdict(machine, ioctl, 0x5412, 0x5401) == ALLOW
    assert verdict(machine, ioctl, 0, 0xFFFF_FFFF_0000_5412) == ERRNO | errno.EPERM


@machines
def test_another_architecture_is_the_end(machine: str) -> None:
    assert verdict(machine, 0, architecture=0x4000_0003) == KILL


def test_x32_numbers_are_refused() -> None:
    assert verdict("x86_64", 0x4000_0000 | 101) == ERRNO | errno.EPERM


def test_a_machine_without_a_table() -> None:
    assert program("vax") is None


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls by number")
def test_the_kernel_takes_it() -> None:
    """In a child: install it, make a forbidden call and a common one."""
    code = program()
    assert code is not None
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        buffer = ctypes.create_string_buffer(code, len(code))
        header = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
        libc.prctl(38, 1, 0, 0, 0)
        taken = libc.prctl(22, 2, ctypes.create_string_buffer(header, len(header)), 0, 0)
        libc.syscall(272, 0)
        os.write(writing, struct.pack("=iii", taken, ctypes.get_errno(), os.getpid()))
        os._exit(0)
    os.waitpid(pid, 0)
    assert struct.unpack("=iii", os.read(reading, 12)) == (0, errno.EPERM, pid)
    os.close(reading)
    os.close(writing)
