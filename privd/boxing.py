"""The step between privd and a boxed program: makes the box as root, becomes the box's user, runs the program.

    python -I -S boxing.py ORDER        as privd's child, with its descriptors in place
    python -I -m privd.boxing --call    as a unit whose standard input is a call of privd, which hands both over

ORDER is JSON (see `privd.boxes.Order`). Standard library only. Its descriptors: 0 the request, 1 the reply, 2 what it
says to the log, 3 the input folder where there is one. A unit tells over the call how its box ended.

Two processes: one waits, ends the other at the deadline and repeats how it ended (128 + n after signal n); the other is
the first of a pid namespace. Whoever ends the first one ends both (SIGTERM: and leaves no zombie), and so does
privd's own death: it is the parent, or the other end of the call.
"""

import ctypes
import fcntl
import json
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:  # half of what a box takes is imports: what only some need comes late, pathlib not at all
    import socket

if __name__ == "__main__":  # started bare: our own packages are found nowhere else
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - see above
    sys.dont_write_bytecode = True

from privd.cages import launch, syscalls

NEW_PID, NEW_NET, NEW_IPC, NEW_UTS, NEW_CGROUP = (
    0x2000_0000,
    0x4000_0000,
    0x0800_0000,
    0x0400_0000,
    0x0200_0000,
)
MS_PRIVATE, MS_NOSYMFOLLOW, MNT_DETACH = 0x4_0000, 0x100, 2
SEALED: Final = launch.MS_RDONLY | launch.MS_NOSUID | launch.MS_NODEV
OPEN_TREE_CLONE, AT_EMPTY_PATH, AT_FDCWD, MOVE_MOUNT_F_EMPTY_PATH = 1, 0x1000, -100, 4
INPUT, CODE = "/in", "/code"
"""Places of a box: what it reads, and our own package."""
PR_SET_PDEATHSIG, PR_CAPBSET_READ, PR_CAPBSET_DROP = 1, 23, 24
CAPABILITIES_MAX: Final = 64
INPUT_FD: Final = 3
DESCRIPTORS_MAX: Final = 64
"""Those that were handed over have lower numbers, until they are in their places."""
ORDER_BYTES_MAX: Final = 64 * 1024
CALL_S: Final = 20.0
"""How long privd may take to give its order."""
EXIT_BY_SIGNAL: Final = 128
EXIT_UNMADE: Final = 1
EXIT_DEADLINE: Final = 124
ROOT_OPTIONS: Final = "mode=0755,size=64k,nr_inodes=128"

_libc = ctypes.CDLL(None, use_errno=True)


def main(order: dict[str, object], call: "socket.socket | None") -> NoReturn:
    """Make the box and wait for what runs in it."""
    os.umask(0o022)
    if call is None:
        end_with_parent()
        if os.getppid() != order["parent"]:
            os._exit(EXIT_UNMADE)
    launch.raise_oom_score(int(str(order["oom_score_adj"])))
    given = take_input(str(order["input"]), handed_over=call is not None) if order["input"] else None
    launch.check(
        _libc.unshare(launch.CLONE_NEWNS | NEW_PID | NEW_NET | NEW_IPC | NEW_UTS | NEW_CGROUP), "unshare"
    )
    launch.check(_libc.sethostname(b"box", 3), "sethostname")
    furnish(
        launch.pairs(order["show"]), launch.pairs(order["links"]), given, writing=order["written_bytes"] != 0
    )
    here, gone = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(gone)
        become(int(str(order["uid"])), int(str(order["gid"])), here)
        sys.path[0] = CODE
        from boxes import confine  # noqa: PLC0415 - of the code that the box itself shows

        confine.run(
            str(order["program"]),
            memory_bytes=int(str(order["memory_bytes"])),
            cpu_s=int(str(order["cpu_s"])),
            files=int(str(order["files"])),
            written_bytes=int(str(order["written_bytes"])),
        )
    os.close(0)
    os.close(1)
    code = wait(child, float(str(order["wall_s"])), call)
    if call is not None:
        tell(call, code)
    os._exit(code)


def called() -> tuple[str, "socket.socket"]:
    """The order of the privd that calls; the descriptors it hands over are put in their places."""
    import socket  # noqa: PLC0415 - see above

    with socket.socket(fileno=0) as given:
        call = socket.socket(fileno=fcntl.fcntl(given, fcntl.F_DUPFD_CLOEXEC, DESCRIPTORS_MAX))
        call.settimeout(CALL_S)
        text, handed, _, _ = socket.recv_fds(call, ORDER_BYTES_MAX, INPUT_FD + 1)
        aside = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, DESCRIPTORS_MAX) for descriptor in handed]
        given.detach()
    if not text:
        sys.exit("no box was ordered: whoever called has gone")
    for descriptor in handed:
        os.close(descriptor)
    for target, source in enumerate(aside):
        os.dup2(source, target)
        os.close(source)
    return text.decode(), call


def end_with_parent() -> None:
    launch.check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def take_input(path: str, *, handed_over: bool) -> int:
    """The input folder, opened by privd, as a mount of its own; a namespace of ours could no longer make one of it.

    What was opened in another namespace can be none in a unit's: there the same folder is found again by its path.
    """
    opened = INPUT_FD
    if handed_over:
        opened = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not os.path.sameopenfile(opened, INPUT_FD):
            raise OSError(f"{path} is not the folder that was handed over")
    open_tree = syscalls.MACHINES[os.uname().machine].numbers["open_tree"]
    taken: int = _libc.syscall(open_tree, opened, b"", OPEN_TREE_CLONE | AT_EMPTY_PATH)
    launch.check(min(taken, 0), "open_tree")
    return taken


def furnish(
    show: list[tuple[str, str]], links: list[tuple[str, str]], given: int | None, *, writing: bool
) -> None:
    """A root of our own: what is shown, read-only, and the input without links, devices and programs. Nothing else."""
    launch.mount(None, "/", launch.MS_REC | MS_PRIVATE)
    shown = [(os.open(source, os.O_PATH), target) for source, target in show]
    empty = launch.MS_NOSUID | launch.MS_NODEV | launch.MS_NOEXEC
    launch.mount("tmpfs", launch.STAGE, empty, kind="tmpfs", options=ROOT_OPTIONS)
    for descriptor, target in shown:
        launch.mount(f"/proc/self/fd/{descriptor}", place_for(target), launch.MS_BIND)
        seal(target, SEALED)
    if given is not None:
        move_mount = syscalls.MACHINES[os.uname().machine].numbers["move_mount"]
        words = (given, b"", AT_FDCWD, place_for(INPUT).encode(), MOVE_MOUNT_F_EMPTY_PATH)
        launch.check(_libc.syscall(move_mount, *words), "move_mount")
        sealed = SEALED & ~launch.MS_RDONLY if writing else SEALED
        seal(INPUT, sealed | launch.MS_NOEXEC | MS_NOSYMFOLLOW)
    for target, place in links:
        os.symlink(target, launch.STAGE + place)  # noqa: PTH211 - as above
    os.chdir(launch.STAGE)
    pivot_root = syscalls.MACHINES[os.uname().machine].numbers["pivot_root"]
    launch.check(_libc.syscall(pivot_root, b".", b"."), "pivot_root")
    launch.check(_libc.umount2(b".", MNT_DETACH), "umount")
    os.chdir("/")
    launch.mount(None, "/", launch.MS_BIND | launch.MS_REMOUNT | SEALED | launch.MS_NOEXEC)


def place_for(target: str) -> str:
    """Where a place of the box is while it is made."""
    place = launch.STAGE + target
    os.makedirs(place, mode=0o755, exist_ok=True)  # noqa: PTH103 - as in launch.py
    return place


def seal(target: str, flags: int) -> None:
    """Take power off what was just mounted, and give none back that it had lost before."""
    place = launch.STAGE + target
    kept = sum(flag for seen, flag in launch.KEPT_FLAGS if os.statvfs(place).f_flag & seen)
    launch.mount(None, place, launch.MS_BIND | launch.MS_REMOUNT | flags | kept)


def become(uid: int, gid: int, here: int) -> None:
    """Be the box's user, without any power, for as long as the process that waits for us is there."""
    if uid == 0 or gid == 0:
        raise OSError("a box never runs as root")
    for capability in range(CAPABILITIES_MAX):
        if _libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) < 0:
            break
        launch.check(_libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    end_with_parent()  # a change of user takes this back
    if select.select([here], [], [], 0)[0]:  # it ended in between: its end of the pipe is closed
        os._exit(EXIT_BY_SIGNAL + signal.SIGKILL)
    os.closerange(INPUT_FD, os.sysconf("SC_OPEN_MAX"))


def wait(child: int, wall_s: float, call: "socket.socket | None") -> int:
    """How the box ended; it is ended when its time is up, or when privd ends the call."""
    ended = os.pidfd_open(child)

    def end_it(*_: object) -> None:
        try:
            signal.pidfd_send_signal(ended, signal.SIGKILL)
        except ProcessLookupError:  # it ended by itself, and we are about to say how
            return

    signal.signal(signal.SIGTERM, end_it)
    ready = select.select([ended, *([] if call is None else [call.fileno()])], [], [], wall_s)[0]
    if ended not in ready:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not ready:
        return EXIT_DEADLINE
    return code if code >= 0 else EXIT_BY_SIGNAL - code


def tell(call: "socket.socket", code: int) -> None:
    try:
        call.send(str(code).encode())
    except OSError:  # nobody waits for it any more
        return


if __name__ == "__main__":
    try:
        if sys.argv[1] == "--call":
            ordered, caller = called()
            main(json.loads(ordered), caller)
        main(json.loads(sys.argv[1]), None)
    except OSError as fault:
        os.write(2, f"the box cannot be made: {fault}".encode("utf-8", "backslashreplace"))
        os._exit(EXIT_UNMADE)
