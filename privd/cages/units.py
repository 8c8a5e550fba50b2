"""Cages as units of systemd: `hive-cage@<name>.service` starts the program, systemd limits it and keeps it.

    privd      takes the lock, listens at <state>/cages/<name>/launch.sock, starts the unit
    the unit   runs launch.py, which calls there; privd has systemd set the limits, looks which of them stand in the
               caller's control groups, and hands over the order and four descriptors, the lock among them

privd needs no power over mounts, namespaces or control groups for this, and its own end changes nothing for a cage.
What systemctl says with its exit code is not believed: the unit's state is looked at.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import trio
from msgspec import Struct

from privd.cages.boot import Handed, Launched, Ordering, end_holders
from privd.cages.control_groups import CONTROLLERS, Groups, of_process
from privd.cages.processes import Process
from privd.cages.spec import CageSpec, Exit, How, Places
from protocol.problem import Problem, Refused
from protocol.settings import CageLimits

SYSTEMCTL: Final = "/usr/bin/systemctl"
ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
BY: Final = "systemd"
CALL_LOOK_S: Final = 1.0
CALL_LOOKS_MAX: Final = 30
"""How often a unit is looked at until its program calls."""
COMMAND_S: Final = 60.0
SETTLE_S: Final = 10.0
SETTLE_PAUSE_MS: Final = 20
OUTPUT_CHARS_MAX: Final = 300
CREDENTIALS: Final = struct.Struct("=iii")
OVER: Final = frozenset({"inactive", "failed"})


class Units(Struct, frozen=True):
    """The launcher of a privd that is itself a unit. `systemctl` is absolute."""

    systemctl: str = SYSTEMCTL

    async def launch(self, spec: CageSpec, places: Places, order: Ordering, handed: Handed) -> Launched:
        """See `boot.Launcher`."""
        unit = unit_of(spec.agent)
        try:
            with _listening(places.call) as listener:
                await self._tell("start", unit)
                with await self._call(unit, listener) as caller:
                    supervisor = _caller(unit, caller)
                    groups = await self._limited(supervisor, unit, spec.limits)
                    socket.send_fds(caller, [msgspec.json.encode(order(groups))], handed)
            return Launched(supervisor, groups)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._end(unit)
            raise

    async def settle(self, agent: str, groups: tuple[str, ...]) -> Exit | None:
        """See `boot.Launcher`. systemd takes the groups away; what it remembers of the end is taken from it."""
        unit = unit_of(agent)
        shown = await self._shown(unit)
        with trio.move_on_after(SETTLE_S):
            while shown.get("ActiveState") not in OVER:
                await trio.sleep(SETTLE_PAUSE_MS / 1000)
                shown = await self._shown(unit)
        if shown.get("ActiveState") == "failed":
            await self._run("reset-failed", unit)
        return exit_of(shown)

    async def end(self, places: Places) -> None:
        """See `boot.Launcher`."""
        await self._end(unit_of(places.folder.name))
        await end_holders(places)

    async def _call(self, unit: str, listener: socket.socket) -> socket.socket:
        """The call of a unit that was started. Refused(failed) when it ends first, or takes too long."""
        waiting = trio.socket.from_stdlib_socket(listener)
        for _ in range(CALL_LOOKS_MAX):
            with trio.move_on_after(CALL_LOOK_S):
                calling, _ = await waiting.accept()
                return socket.socket(fileno=calling.detach())
            if (await self._shown(unit)).get("ActiveState") in OVER:
                break
        raise Refused(Problem.FAILED, f"{unit} was started, but did not call: see `systemctl status {unit}`")

    async def _limited(self, supervisor: Process, unit: str, limits: CageLimits) -> Groups:
        """The unit's groups with its limits, which it may still have from an earlier start."""
        groups = of_process(supervisor.pid, unit, limits, BY)
        if not groups.folders:
            raise Refused(Problem.FAILED, f"process {supervisor.pid} called in the place of {unit}")
        if groups.missing or len(groups.held) < len(CONTROLLERS):
            await self._tell("set-property", "--runtime", unit, *properties(limits))
            groups = of_process(supervisor.pid, unit, limits, BY)
        return groups

    async def _end(self, unit: str) -> None:
        """By force, and all of it."""
        await self._run("kill", "--signal=SIGKILL", unit)
        await self._run("stop", unit)
        await self._run("reset-failed", unit)

    async def _shown(self, unit: str) -> dict[str, str]:
        names = "ActiveState,ExecMainCode,ExecMainStatus"
        _, output = await self._run("show", f"--property={names}", unit)
        return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)

    async def _tell(self, *words: str) -> None:
        """Run systemctl; Refused(failed) with what it says when it will not."""
        code, output = await self._run(*words)
        if code != 0:
            said = " / ".join(output.split("\n"))[:OUTPUT_CHARS_MAX]
            raise Refused(Problem.FAILED, f"systemctl {words[0]}: {said or f'exit code {code}'}")

    async def _run(self, *words: str) -> tuple[int, str]:
        """Exit code and what it printed; it is never interrupted, what it does is quick."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + COMMAND_S):
            done = await trio.run_process(
                [self.systemctl, "--no-ask-password", *words],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=ENVIRONMENT,
                cwd="/",
            )
            return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace").strip()
        return -1, f"did not end within {COMMAND_S:g} s"


def unit_of(agent: str) -> str:
    """An agent's name needs no escaping: letters and digits."""
    return f"hive-cage@{agent}.service"


def properties(limits: CageLimits) -> tuple[str, ...]:
    """What systemd is told to hold; `of_process` finds the same values in the kernel's files."""
    memory = "infinity" if limits.memory_mib_max is None else f"{limits.memory_mib_max}M"
    return (
        f"MemoryMax={memory}",
        f"MemorySwapMax={'infinity' if limits.memory_mib_max is None else 0}",
        f"TasksMax={limits.tasks_max or 'infinity'}",
        f"CPUQuota={'' if limits.cpu_percent_max is None else f'{limits.cpu_percent_max}%'}",
    )


def exit_of(shown: dict[str, str]) -> Exit | None:
    """How systemd saw a unit's main process end, by the kernel's numbers; None when it does not remember."""
    status = shown.get("ExecMainStatus", "")
    if not status.isdecimal():
        return None
    match shown.get("ExecMainCode"):
        case "1":  # CLD_EXITED
            return Exit(How.EXIT, int(status))
        case "2" | "3":  # CLD_KILLED, CLD_DUMPED
            return Exit(How.SIGNAL, int(status))
        case "0":  # nothing is kept of a unit that ended well
            return Exit(How.EXIT, 0) if shown.get("ActiveState") == "inactive" else None
        case _:
            return None


def _caller(unit: str, caller: socket.socket) -> Process:
    """Whoever called; nobody but root gets there."""
    pid, _, _ = CREDENTIALS.unpack(caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    supervisor = Process.found(pid)
    if supervisor is None:
        raise Refused(Problem.FAILED, f"{unit} called and ended; see `systemctl status {unit}`")
    return supervisor


@contextmanager
def _listening(place: Path) -> Iterator[socket.socket]:
    """A socket that only root reaches, for one call."""
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(place))
        try:
            place.chmod(0o600)
            listener.listen(1)
            listener.setblocking(False)
            yield listener
        finally:
            place.unlink(missing_ok=True)
