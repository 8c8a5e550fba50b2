"""A NixOS machine as the `nixos` backend uses it: its programs, its folders, and what systemd says of a unit.

Every program is absolute, its words are fixed but for a container's name, a unit's name and the agent's flake, and its
environment is the same every time. `nixos-container` leaves its result as `.tmp` in the folder it is run in, so each
call has one of its own: where calls shared one, two thirds of them got another agent's system.
"""

import fcntl
import os
import shutil
import signal
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct

from privd.cages import folders, syscalls
from privd.cages.journal import Journal
from privd.cages.nixos_conf import container_of, own_files, unit_of
from privd.cages.spec import CageSpec, Exit, How, Places
from protocol.problem import Problem, Refused

ASK_S: Final = 30.0
CALL_S: Final = 180.0
BUILD_S: Final = 2 * 3600.0
SILENT_S: Final = 20 * 60
RESULT: Final = ".tmp"
WORK_PREFIX: Final = "call-"
DROP_IN: Final = "50-hyperhive.conf"
SHOWN: Final = (
    "ActiveState", "Result", "MainPID", "ExecMainCode", "ExecMainStatus", "InvocationID",
    "Restart", "NeedDaemonReload",
)  # fmt: skip
NIX_OPTIONS: Final = {
    "accept-flake-config": "false",
    "allow-import-from-derivation": "false",
    "max-silent-time": str(SILENT_S),
    "timeout": str(int(BUILD_S)),
}
"""No settings from a flake, nothing built while it is read, and no build that is silent or lasts for ever."""
BUILD_WORDS: Final = (
    "--no-update-lock-file",
    "--log-format",
    "raw",
    *(word for name, value in NIX_OPTIONS.items() for word in ("--option", name, value)),
)
FLAKE_WORDS: Final = ("--extra-experimental-features", "nix-command flakes")
LINE_BYTES_MAX: Final = 16 * 1024
EXITED: Final = "1"
"""CLD_EXITED, as systemd shows how a main process ended; 2 and 3 are signals."""
ENDED: Final = ("inactive", "failed")
CONF_MODE: Final = 0o644
FS_IOC_GETFLAGS: Final = 0x8008_6601
FS_IOC_SETFLAGS: Final = 0x4008_6602
FS_IMMUTABLE_FL: Final = 0x10


class UnitState(Struct, frozen=True):
    """What systemd says of one container's unit."""

    active: str
    shown: dict[str, str]

    @property
    def runs(self) -> bool:
        """Also while it starts or stops."""
        return self.active not in ENDED

    @property
    def exit(self) -> Exit:
        """How its main process ended."""
        status = self.shown.get("ExecMainStatus", "")
        if not status.isdecimal() or self.shown.get("ExecMainCode", "0") == "0":
            return Exit(How.UNKNOWN)
        how = How.EXIT if self.shown["ExecMainCode"] == EXITED else How.SIGNAL
        return Exit(how, int(status))


class NixosHost(Struct, frozen=True):
    """Where things are. The defaults are those of NixOS since 22.05."""

    programs: Path = Path("/run/current-system/sw/bin")
    confs: Path = Path("/etc/nixos-containers")
    roots: Path = Path("/var/lib/nixos-containers")
    profiles: Path = Path("/nix/var/nix/profiles/per-container")
    gcroots: Path = Path("/nix/var/nix/gcroots/per-container")
    store: Path = Path("/nix/store")
    units: Path = Path("/run/systemd/system")

    def conf(self, agent: str) -> Path:
        return self.confs / f"{container_of(agent)}.conf"

    def profile(self, agent: str) -> Path:
        return self.profiles / container_of(agent) / "system"

    def drop_in(self, agent: str) -> Path:
        return self.units / f"{unit_of(agent)}.d" / DROP_IN

    def remains(self, agent: str) -> tuple[Path, ...]:
        """Whatever a container has on disk, its conf last: without it nobody knows whose the rest is."""
        name = container_of(agent)
        return (self.profiles / name, self.gcroots / name, self.roots / name, self.conf(agent))

    def environment(self, work: Path) -> dict[str, str]:
        """Of every call: programs of the system, the store through its daemon, no home that outlives the call."""
        return {"PATH": str(self.programs), "LANG": "C.UTF-8", "HOME": str(work), "NIX_REMOTE": "daemon"}

    async def call(
        self, work: Path, places: Places, lock: int | None, words: tuple[str, ...], within_s: float = CALL_S
    ) -> bool:
        """Run `nixos-container` in *work*; whether it said that it worked, which proves nothing.

        What it and Nix print stands in the cage's journal line by line as it comes. It holds the cage's lock, if one is
        given, as its standard input, so that one which outlives privd is found; it is ended with all that it started.
        """
        command = (str(self.programs / "nixos-container"), *words)
        output = Journal(places.journal).open_for_cage()
        async with self._running(command, work, holds=lock, output=output) as process:
            with trio.move_on_after(within_s):
                await process.wait()
        return process.returncode == 0

    async def build(self, work: Path, installable: str, say: Callable[[str], None]) -> bool:
        """Let Nix build something that *work* holds; each line it prints is told as it comes. Whether it worked.

        Nothing of a container is touched. It is ended with all that it started when nobody waits for it any more.
        """
        words = ("build", "-o", RESULT, *FLAKE_WORDS, *BUILD_WORDS, "--print-build-logs", "--", installable)
        command = (str(self.programs / "nix"), *words)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        async with trio.lowlevel.FdStream(reading) as printed:
            async with self._running(command, work, holds=None, output=writing) as process:
                with trio.move_on_after(BUILD_S):
                    await tell_lines(printed, say)
                    await process.wait()
        return process.returncode == 0

    @asynccontextmanager
    async def _running(
        self, command: tuple[str, ...], work: Path, *, holds: int | None, output: int
    ) -> AsyncIterator[trio.Process]:
        """A process in *work* that writes to *output*, which it takes over; in the end ended with all it started.

        Its standard input is what it holds, of which nothing is to be read, or nothing.
        """
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            process = await trio.lowlevel.open_process(
                command,
                stdin=nothing if holds is None else holds,
                stdout=output,
                stderr=output,
                cwd=work,
                env=self.environment(work),
                start_new_session=True,
            )
        finally:
            os.close(nothing)
            os.close(output)
        try:
            yield process
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                with trio.CancelScope(shield=True):
                    await process.wait()

    async def ask(self, program: str, *words: str) -> str:
        """What a quick program answers; empty when it refuses, or says nothing in time."""
        with trio.move_on_after(ASK_S):
            done = await trio.run_process(
                (str(self.programs / program), *words),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                cwd="/",
                env=self.environment(Path("/")),
            )
            return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
        return ""

    async def state(self, agent: str) -> UnitState:
        """The unit's state. `failed` when systemd does not answer: a guess could make a cage twice."""
        unit = unit_of(agent)
        answer = await self.ask("systemctl", "show", f"--property={','.join(SHOWN)}", "--", unit)
        shown = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
        if not shown.get("ActiveState"):
            raise Refused(
                Problem.FAILED, f"systemd does not say how {unit} is; see `systemctl status {unit}`"
            )
        return UnitState(shown["ActiveState"], shown)

    async def leader(self, agent: str) -> int | None:
        """Host pid of the container's init, as machined knows it."""
        answer = await self.ask(
            "machinectl", "show", "--property=Leader", "--value", "--", container_of(agent)
        )
        return int(answer) if answer.strip().isdecimal() else None


async def tell_lines(source: trio.abc.ReceiveStream, say: Callable[[str], None]) -> None:
    """Each line as soon as it is whole; one that does not end is told in pieces."""
    rest = b""
    async for block in source:
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            say(line.decode("utf-8", "replace"))
        if len(rest) > LINE_BYTES_MAX:
            say(rest.decode("utf-8", "replace"))
            rest = b""
    if rest:
        say(rest.decode("utf-8", "replace"))


def attribute(agent: str) -> str:
    """The system of an agent in its flake, as `nixos-container` asks for it."""
    return f'nixosConfigurations."{agent}".config.system.build.toplevel'


@contextmanager
def own_folder(places: Places) -> Iterator[Path]:
    """A fresh folder for one call, gone after it."""
    work = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=places.folder))
    try:
        yield work
    finally:
        shutil.rmtree(work)


def remove_folders(places: Places) -> None:
    """Delete the folders of calls that a privd did not live to end."""
    for left in places.folder.glob(f"{WORK_PREFIX}*"):
        shutil.rmtree(left)


def link_of(profile: Path) -> tuple[int, int] | None:
    """Which link stands there: Nix makes a new one each time, even to the same system."""
    try:
        found = profile.lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def write_whole(path: Path, text: str) -> None:
    """Whole or not at all; under its fresh name `nixos-container` does not take it for a conf."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(CONF_MODE)
    fresh.rename(path)


def remove_even_immutable(folder: Path) -> None:
    """Delete a folder; `var/empty` of a NixOS root may not be changed before a flag is taken off it."""
    empty = folder / "var" / "empty"
    try:
        opened = os.open(empty, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # not there, or no folder: nothing to take off
        opened = -1
    if opened >= 0:
        try:
            _make_mutable(opened)
        finally:
            os.close(opened)
    folders.remove(folder)


def _make_mutable(opened: int) -> None:
    flags = bytearray(struct.calcsize("l"))
    fcntl.ioctl(opened, FS_IOC_GETFLAGS, flags)
    (value,) = struct.unpack_from("i", flags)
    if value & FS_IMMUTABLE_FL:
        fcntl.ioctl(opened, FS_IOC_SETFLAGS, struct.pack("l", value & ~FS_IMMUTABLE_FL))


def furnish(spec: CageSpec, places: Places) -> None:
    """The agent's folders, and the two files of privd's that the cage reads."""
    for folder in spec.folders:
        folders.make(folder)
    places.root.mkdir(mode=0o755, parents=True, exist_ok=True)
    for file, content in own_content(spec, places).items():
        fresh = file.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.chmod(CONF_MODE)
        fresh.rename(file)


def own_content(spec: CageSpec, places: Places) -> dict[Path, bytes]:
    filter_program = syscalls.program()
    if filter_program is None:
        raise Refused(
            Problem.FAILED, f"no system call filter for {os.uname().machine}: x86_64 and aarch64 have one"
        )
    return dict(zip(own_files(places).values(), (spec.settings_json, filter_program), strict=True))
