"""Keeps the daemons of an embedded hive running: starts them, restarts one that ends, and stops them in order.

A daemon that dies takes nobody with it and never goes silently: its end is shown, and it starts again after a back-off.
Each holds the read end of a pipe as its standard input, so that all of them stop when this process is gone.
"""

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import trio

from hivectl import records
from hivectl.up.become import WITHOUT_NETWORK
from runtime.backoff import delays
from runtime.service import LIFELINE
from runtime.settings import EXIT_SETTINGS

BECOME: Final = Path(__file__).with_name("become.py")
RESTART_FIRST_S: Final = 0.1
RESTART_MAX_S: Final = 5.0
STEADY_S: Final = 30.0
"""A daemon that ran this long starts its back-off anew."""
ENDS_TOLD_MAX: Final = 3
"""Ends in a row that are told; more of the same would only hide what else is said."""
STOP_S: Final = 15.0
LOG_BYTES_MAX: Final = 16 * 1024 * 1024
"""A daemon's log file past this is moved aside; one older is kept."""
LOG_LOOK_S: Final = 5.0
"""How often logs are looked at: any user of the host, and any agent, can make a daemon write lines."""

FILES_MAX: Final = 65_536

Say = Callable[[str], None]


@dataclass
class Daemon:
    """One child: its name, its command, and whom it runs as (None: as we do).

    `network`: whether one that has a user of its own may have sockets that are no files.
    """

    name: str
    settings: Path
    uid: int | None
    log: Path
    network: bool = True
    process: trio.Process | None = field(default=None, repr=False)
    ends: int = 0
    """In a row, none of them after it had been steady."""
    why: str = ""
    """How it ended last."""
    was_up: bool = False
    fails: trio.Event = field(default_factory=trio.Event, repr=False)
    """Set when starting it again does not seem to help."""

    def command(self) -> list[str]:
        daemon = [sys.executable, "-I", "-m", self.name, "--config", str(self.settings)]
        if self.uid is None:
            return daemon
        how = () if self.network else (WITHOUT_NETWORK,)
        return [sys.executable, "-I", "-S", str(BECOME), str(self.uid), *how, *daemon]


class Supervisor:
    """The daemons of one hive. `run` serves until cancelled; `stop_all` ends them in reverse order of their start."""

    def __init__(self, daemons: tuple[Daemon, ...], say: Say) -> None:
        self._daemons = daemons
        self._say = say
        self._stopping = trio.Event()
        self._lifeline_read, self._lifeline_write = os.pipe()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cut_logs)
            for daemon in self._daemons:
                nursery.start_soon(self._keep, daemon)

    async def _keep(self, daemon: Daemon) -> None:
        waits = delays(RESTART_FIRST_S, RESTART_MAX_S)
        while not self._stopping.is_set():
            began, written = trio.current_time(), _size(daemon.log)
            code = await self._run_once(daemon)
            if self._stopping.is_set():
                return
            if trio.current_time() - began > STEADY_S:
                waits, daemon.ends = delays(RESTART_FIRST_S, RESTART_MAX_S), 0
            daemon.ends += 1
            daemon.why = _why(code, daemon.log, written)
            wait_s = next(waits)
            self._tell(daemon, code, wait_s)
            await trio.sleep(wait_s)

    def _tell(self, daemon: Daemon, code: int, wait_s: float) -> None:
        """Say that a daemon ended; who waits for it to come up says itself that it does not."""
        if code == EXIT_SETTINGS or daemon.ends >= ENDS_TOLD_MAX:
            daemon.fails.set()
        if daemon.ends > ENDS_TOLD_MAX or (daemon.fails.is_set() and not daemon.was_up):
            return
        again = f"it starts again in {wait_s:.1f} s"
        if daemon.ends == ENDS_TOLD_MAX:
            again = f"that was the {daemon.ends}rd time, it is tried on without a word; log: {daemon.log}"
        self._say(f"{daemon.name} ended: {daemon.why}; {again}")

    async def _run_once(self, daemon: Daemon) -> int:
        with _open_log(daemon.log) as log:
            process = await trio.lowlevel.open_process(
                daemon.command(),
                stdin=self._lifeline_read,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        daemon.process = process
        try:
            code: int = await process.wait()
        finally:
            daemon.process = None
        return code

    async def _cut_logs(self) -> None:
        while True:
            await trio.sleep(LOG_LOOK_S)
            for daemon in self._daemons:
                try:
                    await trio.to_thread.run_sync(cut_log, daemon.log)
                except OSError as error:
                    self._say(f"the log of {daemon.name} cannot be kept: {error}")

    async def stop_all(self) -> None:
        """SIGTERM to each in reverse order, SIGKILL after STOP_S."""
        self._stopping.set()
        for daemon in reversed(self._daemons):
            process = daemon.process
            if process is None:
                continue
            process.send_signal(signal.SIGTERM)
            with trio.move_on_after(STOP_S) as scope:
                await process.wait()
            if scope.cancelled_caught:
                self._say(f"{daemon.name} did not stop within {STOP_S:g} s and is killed")
                process.kill()
                await process.wait()

    def close(self) -> None:
        os.close(self._lifeline_read)
        os.close(self._lifeline_write)


def raise_file_limit() -> None:
    """Let us and the daemons hold as many files as the machine allows, within reason.

    The usual 1 024 are fewer than a few agents may hold open at their sockets: those would lock the others out.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if most == resource.RLIM_INFINITY else min(most, FILES_MAX)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ") if name in os.environ}
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LIFELINE: "1", **kept}


def _open_log(path: Path) -> BinaryIO:
    return path.open("ab")


def cut_log(path: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Empty a log that has grown past the bound, in place, because its daemon holds it open and only appends.

    What it held is kept beside it, unless the disk is full: then it goes, which is what a bound is for.
    """
    if not path.exists() or path.stat().st_size <= bytes_max:
        return
    try:
        shutil.copyfile(path, path.with_suffix(".log.1"))
    finally:
        os.truncate(path, 0)


def _why(code: int, log: Path, written: int) -> str:
    """How a process ended and, unless somebody killed it, the last it wrote."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    said = records.last_words(log, written)
    return f"exit code {code}" + (f", {said}" if said else "")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
