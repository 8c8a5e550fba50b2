"""The step between privd and the program that makes a cage: what must be done in the new process, then exec.

    python -I -S launch.py ORDER                        as privd's child, with its descriptors in place
    python -I -m privd.cages.launch --socket PLACE      as a unit: privd hands both over at its socket in PLACE

ORDER is JSON (see `privd.cages.boot.Order`). Standard library only, no import of ours: it is started for every cage
and must be quick. Its descriptors: 0 the cage's lock, 1 and 2 its journal, 3 the socket on which it says what limits
the cage's disk and the cage's init says that it is up. They pass on to the program unchanged.
"""

import ctypes
import errno
import fcntl
import json
import os
import stat
import struct
import sys

STAGE = "/tmp"  # noqa: S108 - covered by a private tmpfs below, before anything is put there
CLONE_NEWNS = 0x0002_0000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_NOATIME, MS_BIND, MS_REC, MS_SLAVE, MS_RELATIME = (
    0x20,
    0x400,
    0x1000,
    0x4000,
    0x80000,
    0x200000,
)
KEPT_FLAGS = (
    (os.ST_NOEXEC, MS_NOEXEC),
    (os.ST_NOATIME, MS_NOATIME),
    (os.ST_RELATIME, MS_RELATIME),
    (os.ST_RDONLY, MS_RDONLY),
)

DESCRIPTORS = (0, 1, 2, 3)
SAY_FD = 3
DESCRIPTORS_MAX = 64
"""Those that were handed over have lower numbers, until they are in their places."""
ORDER_BYTES_MAX = 512 * 1024
CALL_S = 20.0
"""How long privd may take to answer."""

SYS_QUOTACTL_FD = 443  # the same on every architecture
USER_QUOTAS = 0
Q_XGETQSTAT, Q_SETQUOTA = 0x5805, 0x80_0008
ENFORCED = 2
LIMITS_VALID = 1 | 4
STATE_BYTES = 128
QUOTA = struct.Struct("=8QI4x")
NO_QUOTAS = "its file system has no user quotas"
KIB_PER_MIB = 1024
FILES_PER_MIB = 64
"""Of a disk limit: 64 for each MiB, so that empty files are bounded too."""

_libc = ctypes.CDLL(None, use_errno=True)


def main(order: dict[str, object]) -> None:
    """Do what is ordered and become the program."""
    os.umask(0o022)
    for file in words(order["join"]):
        write(file, str(os.getpid()))
    raise_oom_score(int(str(order["oom_score_adj"])))
    os.nice(int(str(order["nice"])))
    if isinstance(order["disk"], dict):
        os.write(SAY_FD, limit_disk(**order["disk"]).encode())
    staged = pairs(order["stage"])
    if staged:
        stage(staged)
        for folder in words(order["cover"]):
            os.makedirs(folder, mode=0o755, exist_ok=True)  # noqa: PTH103 - by names of the new root
            mount("tmpfs", folder, MS_NOSUID | MS_NODEV, kind="tmpfs", options="mode=0700,size=1M")
    become = order["become"]
    if isinstance(become, list):
        uid, gid = become
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    os.chdir("/")
    for descriptor in DESCRIPTORS:
        os.set_inheritable(descriptor, True)
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"}
    environment |= {
        "LISTEN_FDS": "1",
        "LISTEN_PID": str(os.getpid()),
    }  # nspawn closes every descriptor not named so
    argv = words(order["argv"])
    os.execve(argv[0], argv, environment)


def called(place: str) -> str:
    """The order of the privd that listens at this socket; the descriptors it hands over are put in their places."""
    import socket  # noqa: PLC0415 - a quarter of the start, and only a unit needs it

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as privd:
        privd.settimeout(CALL_S)
        try:
            privd.connect(place)
        except (FileNotFoundError, ConnectionRefusedError) as fault:
            raise OSError(fault.errno, "privd did not ask for this cage: start it with hivectl") from fault
        text, handed, _, _ = socket.recv_fds(privd, ORDER_BYTES_MAX, len(DESCRIPTORS))
    if len(handed) != len(DESCRIPTORS):
        sys.exit("launch: privd has thought better of it")
    aside = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, DESCRIPTORS_MAX) for descriptor in handed]
    for source, target in zip(aside, DESCRIPTORS, strict=True):
        os.dup2(source, target)
    os.closerange(len(DESCRIPTORS), DESCRIPTORS_MAX + len(DESCRIPTORS))
    return text.decode()


def limit_disk(folder: str, uids: list[int], mib_max: int) -> str:
    """Give each of these users its quota where this folder lies; empty, or the reason why that cannot be."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        state = ctypes.create_string_buffer(STATE_BYTES)
        quota(place, Q_XGETQSTAT, 0, state)
        (flags,) = struct.unpack_from("=H", state.raw, 2)
        if not flags & ENFORCED:
            return "the file system counts what users have, but limits nobody: mount it with usrquota"
        kib, files = mib_max * KIB_PER_MIB, mib_max * FILES_PER_MIB
        wanted = QUOTA.pack(kib, 0, 0, files, 0, 0, 0, 0, LIMITS_VALID)
        for uid in uids:
            quota(place, Q_SETQUOTA, uid, ctypes.create_string_buffer(wanted, len(wanted)))
    except OSError as fault:
        return NO_QUOTAS if fault.errno in {errno.ENOSYS, errno.ESRCH} else str(fault.strerror)
    finally:
        os.close(place)
    return ""


def quota(place: int, command: int, uid: int, value: object) -> None:
    number = ctypes.c_long(SYS_QUOTACTL_FD)
    check(_libc.syscall(number, place, command << 8 | USER_QUOTAS, uid, value), "quotas")


def words(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("an order holds lists of text here")
    return [str(word) for word in value]


def pairs(value: object) -> list[tuple[str, str]]:
    if not isinstance(value, list):
        raise TypeError("an order holds pairs here")
    return [(str(source), str(name)) for source, name in value]


def write(file: str, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    except OSError as fault:  # the kernel's own does not say which file
        raise OSError(fault.errno, f"{file}: {fault.strerror}") from fault
    finally:
        os.close(descriptor)


def raise_oom_score(wanted: int) -> None:
    """Let the kernel end a cage before a daemon. Raising needs no privilege, and nobody may lower it again."""
    with open("/proc/self/oom_score_adj") as opened:  # noqa: PTH123 - pathlib would double the start-up time
        present = int(opened.read())
    if wanted > present:
        write("/proc/self/oom_score_adj", str(wanted))


def stage(staged: list[tuple[str, str]]) -> None:
    """In a mount namespace of its own, put every source under STAGE without devices and setuid.

    Sources are opened without following links, and before STAGE is covered, so that a state folder below it is
    still found. nspawn has no flags for this; it copies what it finds here.
    """
    check(_libc.unshare(CLONE_NEWNS), "unshare")
    mount(None, "/", MS_REC | MS_SLAVE)
    sources = [(os.open(source, os.O_PATH | os.O_NOFOLLOW), name) for source, name in staged]
    mount("tmpfs", STAGE, MS_NOSUID | MS_NODEV, kind="tmpfs", options="mode=0755,size=1M")
    for descriptor, name in sources:
        target = f"{STAGE}/{name}"
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.mkdir(target)  # noqa: PTH102 - as above
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        mount(f"/proc/self/fd/{descriptor}", target, MS_BIND | MS_REC)
        found = os.statvfs(target).f_flag
        kept = sum(flag for shown, flag in KEPT_FLAGS if found & shown)
        mount(None, target, MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV | kept)
        os.close(descriptor)


def mount(
    source: str | None, target: str, flags: int, *, kind: str | None = None, options: str | None = None
) -> None:
    arguments = [None if text is None else text.encode() for text in (source, target, kind)]
    data = None if options is None else options.encode()
    check(_libc.mount(*arguments, ctypes.c_ulong(flags), data), f"mount {target}")


def check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


if __name__ == "__main__":
    try:
        main(json.loads(called(sys.argv[2]) if sys.argv[1] == "--socket" else sys.argv[1]))
    except OSError as fault:
        sys.exit(f"launch: {fault}")
