"""The first process of a cage: starts harness and spawner as their users, then holds nothing but the journal.

    python -I -m harness.init [--filter FILE] [-- COMMAND…]        COMMAND instead of `python -I -m harness`

Standard library only. It begins as uid 0 of the cage's user namespace, able to change users and nothing else. It
installs the system call filter, makes /run/harness, starts the harness (uid 1001) and the spawner (uid 1000), each
without any capability, gives up its own, and says on the descriptor HIVE_INIT_READY_FD that the cage is up. From then
on it reaps orphans and writes what the two print into the journal, which nobody else in the cage can reach.
Where a cage has one user only (bubblewrap) it starts both as that user and says so.

    SIGTERM            passed on to the harness, which lets its turn end
    harness ends       init ends with its exit code (128 + n after signal n), and the kernel ends all else
    spawner is lost    SIGTERM to the harness, at most SPAWNER_LOST_GRACE_S, then exit code 70
"""

import contextlib
import ctypes
import errno
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import time
from typing import Final, NoReturn

AGENT_UID: Final = 1_000
HARNESS_UID: Final = 1_001
RUN_FOLDER: Final = "/run/harness"
READY_VARIABLE: Final = "HIVE_INIT_READY_FD"
SAME_VARIABLE: Final = "HIVE_INIT_SAME"
"""`device:inode:path` of a folder that must be the one that was meant."""
FILTER_PATH: Final = "/etc/hyperhive/syscalls.bpf"
BOUNDS: Final = {
    "HIVE_INIT_TASKS_MAX": resource.RLIMIT_NPROC,
    "HIVE_INIT_FILES_MAX": resource.RLIMIT_NOFILE,
    "HIVE_INIT_FILE_BYTES_MAX": resource.RLIMIT_FSIZE,
    "HIVE_INIT_DATA_BYTES_MAX": resource.RLIMIT_DATA,
}
"""Limits for each user and process inside: processes, open files, the length of a file; memory where no group holds it.

Of memory it is what a process may write to, not its address space: node and bun reserve far more than they use.
"""
CHANNEL_VARIABLE: Final = "HIVE_SPAWNER_FD"
NOT_PASSED_ON: Final = ("HIVE_INIT_", "LISTEN_", "NOTIFY_", "container")
"""Variables that speak to init alone."""
SPAWNER_LOST_GRACE_S: Final = 5.0
EXIT_SPAWNER_LOST: Final = 70
EXIT_CANNOT_START: Final = 71
EXIT_BY_SIGNAL: Final = 128
LINE_BYTES_MAX: Final = 8 * 1024
FLUSH_BYTES_MAX: Final = 1024 * 1024
"""Of output still in the pipes, written when the harness has ended."""
CAPABILITIES_MAX: Final = 64
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 22, 23, 24, 38
SECCOMP_MODE_FILTER: Final = 2
CAPABILITY_VERSION_3: Final = 0x2008_0522
INSTRUCTION_BYTES: Final = 8

_libc = ctypes.CDLL(None, use_errno=True)


class Output:
    """What one process prints, carried into the journal by whole lines."""

    def __init__(self, reading: int) -> None:
        self.reading = reading
        self._line = b""

    def carry(self) -> bool:
        """Take what is there; whether more may come."""
        try:
            taken = os.read(self.reading, LINE_BYTES_MAX)
        except BlockingIOError:
            return False
        *lines, self._line = (self._line + taken).split(b"\n")
        for line in lines:
            write_journal(line)
        if len(self._line) >= LINE_BYTES_MAX or (self._line and not taken):
            write_journal(self._line)
            self._line = b""
        return bool(taken)

    def drain(self) -> None:
        """Take what a process that has ended left in the pipe."""
        os.set_blocking(self.reading, False)
        for _ in range(FLUSH_BYTES_MAX // LINE_BYTES_MAX):
            if not self.carry():
                break
        if self._line:
            write_journal(self._line)


_lost_bytes = 0


def write_journal(line: bytes) -> None:
    """One line to the journal. One that the disk refuses is lost, and the next that it takes says how much was."""
    global _lost_bytes  # noqa: PLW0603 - one journal, one count
    note = (
        b"init: %d bytes of output were lost, the disk refused them\n" % _lost_bytes if _lost_bytes else b""
    )
    try:
        os.write(1, note + line + b"\n")
    except OSError:
        _lost_bytes += len(line) + 1
    else:
        _lost_bytes = 0


def say(text: str) -> None:
    write_journal(f"init: {text}".encode())


# ------------------------------------------------------------------------------------------------ giving up privilege


def check(result: int, what: str) -> int:
    """The result of a C call; -1 raises what errno says."""
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def prctl(option: int, *arguments: object) -> int:
    words = [ctypes.c_ulong(word) if isinstance(word, int) else word for word in (*arguments, 0, 0, 0, 0)]
    return check(_libc.prctl(option, *words[:4]), f"prctl {option}")


def install_filter(file: str) -> None:
    """The system call filter, for this process and everything after it, for good."""
    with open(file, "rb") as opened:  # noqa: PTH123 - pathlib costs start-up time
        program = opened.read()
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // INSTRUCTION_BYTES, ctypes.addressof(instructions))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(header, len(header)))


def empty_bounding_set() -> None:
    """No program started from here on can regain a capability, whatever its file says."""
    for capability in range(CAPABILITIES_MAX):
        try:
            held = prctl(PR_CAPBSET_READ, capability)
        except OSError as fault:
            if fault.errno == errno.EINVAL:  # past the last one this kernel knows
                return
            raise
        if held:
            prctl(PR_CAPBSET_DROP, capability)


def drop_capabilities() -> None:
    """Effective, permitted and inheritable."""
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    check(_libc.capset(header, b"\0" * 24), "capset")


def become(uid: int) -> None:
    """This user and its group, and nothing else."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def keep_able_to_signal(uid: int) -> None:
    """Take a user as real uid only: the kernel then lets us signal its processes without CAP_KILL.

    The other way round it lets them do no more than signal us; our memory stays closed to them.
    """
    os.setresuid(uid, 0, 0)
    prctl(PR_SET_DUMPABLE, 0)


def bound(limit: int, value: int) -> None:
    """Lower a resource limit; one that is lower already stays."""
    _, hard = resource.getrlimit(limit)
    lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (lowest, lowest))


def make_run_folder() -> None:
    """The harness's own folder below /run, made as the harness: init may not give anything away (no CAP_CHOWN)."""
    if os.geteuid() != 0:
        os.mkdir(RUN_FOLDER, 0o755)  # noqa: PTH102 - pathlib is not loaded here
        return
    os.chmod("/run", 0o777)  # noqa: PTH101, S103 - others pass through - nobody else is here yet
    os.setegid(HARNESS_UID)
    os.seteuid(HARNESS_UID)
    os.mkdir(RUN_FOLDER, 0o755)  # noqa: PTH102 - pathlib is not loaded here
    os.seteuid(0)
    os.setegid(0)
    os.chmod("/run", 0o755)  # noqa: PTH101, S103 - others pass through


def check_same(said: str) -> None:
    """Start nothing where a cage shows another folder than it was to show: its name was made to lead elsewhere."""
    device, inode, path = said.split(":", 2)
    found = os.lstat(path)
    if (str(found.st_dev), str(found.st_ino)) != (device, inode):
        say(f"{path} is another folder than the cage was to show: nothing is started")
        sys.exit(EXIT_CANNOT_START)


# --------------------------------------------------------------------------------------------------------- the family


def start(command: list[str], uid: int | None, environment: dict[str, str], output: int, channel: int) -> int:
    """Fork, become the user (None: stay who we are), run the command with its end of the pair."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.set_inheritable(channel, True)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.setsid()
        if uid is not None:
            become(uid)
        drop_capabilities()
        home = environment["HOME"]
        os.chdir(home if os.access(home, os.X_OK) else "/")
        os.execve(command[0], command, environment)
    except Exception as fault:  # this process ends here, whatever it was
        say(f"cannot run {command[0]}: {fault}")
    finally:
        os._exit(EXIT_CANNOT_START)


class Family:
    """Harness and spawner, and what they print."""

    def __init__(self, harness: list[str]) -> None:
        split = os.getuid() == 0
        if not split:
            say("one user only: harness and agent are not separated")
        agent = os.environ.get("HIVE_AGENT", "")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            self.harness, self.harness_output = self._start(
                harness,
                HARNESS_UID if split else None,
                "harness",
                f"/agents/{agent}/harness",
                ours,
                inherit=True,
            )
            self.spawner, self.spawner_output = self._start(
                [sys.executable, "-I", "-m", "harness.spawner"],
                AGENT_UID if split else None,
                "agent",
                f"/agents/{agent}/state",
                theirs,
                inherit=False,
            )

    @staticmethod
    def _start(
        command: list[str], uid: int | None, user: str, home: str, channel: socket.socket, *, inherit: bool
    ) -> tuple[int, Output]:
        reading, writing = os.pipe()
        given = (
            os.environ
            if inherit
            else {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        )
        own = {"HOME": home, "USER": user, "LOGNAME": user, CHANNEL_VARIABLE: str(channel.fileno())}
        environment = {
            name: value for name, value in {**given, **own}.items() if not name.startswith(NOT_PASSED_ON)
        }
        pid = start(command, uid, environment, writing, channel.fileno())
        os.close(writing)
        return pid, Output(reading)


class Watch:
    """Init's life once both are started."""

    def __init__(self, family: Family, signals: int) -> None:
        self._family = family
        self._signals = signals
        self._deadline: float | None = None
        self._code: int | None = None
        self._events = selectors.DefaultSelector()
        self._events.register(signals, selectors.EVENT_READ)
        for output in (family.harness_output, family.spawner_output):
            self._events.register(output.reading, selectors.EVENT_READ, output)

    def until_over(self) -> int:
        """The exit code of the cage."""
        while self._code is None:
            wait_s = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            for key, _ in self._events.select(wait_s):
                if key.data is None:
                    self._on_signals()
                elif not key.data.carry():
                    self._events.unregister(key.fd)
            if self._code is None and self._deadline is not None and time.monotonic() >= self._deadline:
                self._family.harness_output.drain()
                self._code = EXIT_SPAWNER_LOST
        self._family.spawner_output.drain()
        return self._code

    def _on_signals(self) -> None:
        numbers = os.read(self._signals, 64)
        if signal.SIGTERM in numbers:
            say("stopping: the harness may end its turn")
            self._ask_harness_to_end()
        self._reap()

    def _ask_harness_to_end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._family.harness, signal.SIGTERM)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            if pid == self._family.harness:
                self._harness_ended(code)
            elif pid == self._family.spawner and code != 0:
                say(f"the spawner was lost (code {code}); the harness has {SPAWNER_LOST_GRACE_S:.0f} s")
                self._deadline = time.monotonic() + SPAWNER_LOST_GRACE_S
                self._ask_harness_to_end()

    def _harness_ended(self, code: int) -> None:
        self._family.harness_output.drain()
        say(f"the harness ended with code {code}" if code >= 0 else f"the harness ended by signal {-code}")
        if self._deadline is not None:
            self._code = EXIT_SPAWNER_LOST
        else:
            self._code = code if code >= 0 else EXIT_BY_SIGNAL - code


def catch_signals() -> int:
    """A descriptor that receives the number of every SIGTERM and SIGCHLD."""
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(writing)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return reading


def ready_channel() -> socket.socket | None:
    """The socket on which to say that the cage is up; every other descriptor that was left to us is closed."""
    number = os.environ.get(READY_VARIABLE)
    os.closerange(3 if number is None else int(number) + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    if number is None:
        return None
    os.set_inheritable(int(number), False)
    return socket.socket(fileno=int(number))


def arguments(words: list[str]) -> tuple[str, list[str]]:
    """The filter's file, and what to run as the harness. By hand: argparse would be a third of init's start."""
    file = FILTER_PATH
    if words[:1] == ["--filter"] and len(words) > 1:
        file, words = words[1], words[2:]
    if words and words[0] != "--":
        sys.exit(f"harness.init: {words[0]!a} is not understood: [--filter FILE] [-- COMMAND…]")
    return file, words[1:]


def main() -> NoReturn:
    """Run the cage; exit as the harness exits."""
    filter_file, harness = arguments(sys.argv[1:])
    ready = ready_channel()
    signals = catch_signals()
    os.umask(0o022)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)
    install_filter(filter_file)
    if SAME_VARIABLE in os.environ:
        check_same(os.environ[SAME_VARIABLE])
    make_run_folder()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for variable, limit in BOUNDS.items():
        if variable in os.environ:
            bound(limit, int(os.environ[variable]))
    empty_bounding_set()
    family = Family(harness or [sys.executable, "-I", "-m", "harness"])
    if os.getuid() == 0:
        keep_able_to_signal(HARNESS_UID)
    drop_capabilities()
    if ready is not None:
        ready.send(b"up")
        ready.close()
    sys.exit(Watch(family, signals).until_over())


if __name__ == "__main__":
    main()
