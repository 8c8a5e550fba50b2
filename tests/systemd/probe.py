"""What a process can do where it runs, as one JSON object on standard output. Standard library only: units run it.

Every attempt gives "ok" or the name of the error. It changes nothing that outlives it but what it is told to write.
"""

import ctypes
import errno
import json
import mmap
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
NAMESPACES = {
    "user": 0x1000_0000,
    "mnt": 0x0002_0000,
    "pid": 0x2000_0000,
    "net": 0x4000_0000,
    "ipc": 0x0800_0000,
    "uts": 0x0400_0000,
    "cgroup": 0x0200_0000,
}
USERFAULTFD = {"x86_64": 323, "aarch64": 282}
PTRACE_TRACEME = 0
READ_IMPLIES_EXEC = 0x0040_0000
PROCESSES_MAX = 2_000


def attempt(act: Callable[[], object]) -> str:
    try:
        act()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "ok"


def called(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def in_child(act: Callable[[], object]) -> str:
    """The same in a process of its own, because it cannot be undone."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, attempt(act).encode())
        os._exit(0)
    os.close(write)
    _, status = os.waitpid(pid, 0)
    with open(read, "rb") as answer:  # noqa: PTH123 - a descriptor
        return answer.read().decode() or f"ended by signal {os.WTERMSIG(status)}"


def written(folder: str) -> str:
    path = Path(folder, f".probe-{os.getpid()}")

    def act() -> None:
        path.write_text("x")
        path.unlink()

    return attempt(act)


def read(path: str) -> str:
    place = Path(path)
    return attempt(lambda: os.listdir(place) if place.is_dir() else place.read_bytes())


def connected(path: str, kind: int = socket.SOCK_STREAM) -> str:
    with socket.socket(socket.AF_UNIX, kind) as client:
        client.settimeout(5)
        answer = attempt(lambda: client.connect(path))
    return connected(path, socket.SOCK_SEQPACKET) if answer == "EPROTOTYPE" else answer


def family(name: str) -> str:
    number = getattr(socket, name)
    kind = socket.SOCK_RAW if name in ("AF_NETLINK", "AF_PACKET") else socket.SOCK_STREAM
    return attempt(lambda: socket.socket(number, kind).close())


def unshared(flag: int) -> str:
    return in_child(lambda: called(LIBC.unshare(flag)))


def memory_both_ways() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def set_user_id_bit(folder: str) -> str:
    path = Path(folder, f".probe-{os.getpid()}")

    def act() -> None:
        path.touch()
        try:
            path.chmod(0o4755)
        finally:
            path.unlink()

    return attempt(act)


def processes() -> int:
    """How many children it can have at once."""
    read, write = os.pipe()
    children: list[int] = []
    try:
        while len(children) < PROCESSES_MAX:
            pid = os.fork()
            if pid == 0:
                os.close(write)
                os.read(read, 1)
                os._exit(0)
            children.append(pid)
    except BlockingIOError:
        pass
    os.close(write)
    for pid in children:
        os.waitpid(pid, 0)
    return len(children)


def system_calls() -> dict[str, str]:
    number = USERFAULTFD[os.uname().machine]
    found = {"userfaultfd": in_child(lambda: called(LIBC.syscall(number, 0, 0, 0)))}
    found["ptrace"] = in_child(lambda: called(LIBC.ptrace(PTRACE_TRACEME, 0, 0, 0)))
    found["mount"] = in_child(lambda: called(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None)))
    found["chroot"] = in_child(lambda: os.chroot("/"))
    found["setuid"] = in_child(lambda: os.setresuid(1, 1, 1))
    found["sched_setaffinity"] = in_child(lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)))
    found["sethostname"] = in_child(lambda: socket.sethostname(socket.gethostname()))
    found["personality"] = in_child(lambda: called(LIBC.personality(READ_IMPLIES_EXEC)))
    return found


def status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def main(order: dict[str, Any]) -> dict[str, Any]:
    seen = status()
    return {
        "uid": os.getresuid(),
        "groups": os.getgroups(),
        "capabilities": {name: seen[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
        "no_new_privileges": seen["NoNewPrivs"],
        "seccomp": seen["Seccomp"],
        "umask": seen["Umask"],
        "written": {folder: written(folder) for folder in order["write"]},
        "read": {path: read(path) for path in order["read"]},
        "connected": {path: connected(path) for path in order["connect"]},
        "families": {
            name: family(name)
            for name in ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK")
        },
        "interfaces": os.listdir("/sys/class/net"),
        "namespaces": {name: unshared(flag) for name, flag in NAMESPACES.items()},
        "devices": sorted(os.listdir("/dev")),
        "made_device": attempt(lambda: os.mknod("/tmp/.probe-device", 0o020600, os.makedev(1, 3))),
        "processes_seen": [int(name) for name in os.listdir("/proc") if name.isdecimal()],
        "proc_entries": [name for name in os.listdir("/proc") if not name.isdecimal()],
        "kernel_tunable": attempt(lambda: os.close(os.open("/proc/sys/kernel/domainname", os.O_WRONLY))),
        "control_groups": written("/sys/fs/cgroup/memory"),
        "memory_both_ways": attempt(memory_both_ways),
        "set_user_id_bit": set_user_id_bit(order["own"]),
        "system_calls": system_calls(),
        "core_bytes": resource.getrlimit(resource.RLIMIT_CORE)[1],
        "processes": processes() if order["fork"] else None,
    }


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
