"""A cage without walls: the real harness and the real spawner as processes, joined as init joins them."""

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from harness.places import Places, settings_path
from protocol.settings import AgentSettings

END_S = 20


class Cage:
    """One running harness."""

    def __init__(self, places: Places, harness: trio.Process, spawner: trio.Process, log: Path) -> None:
        self.places = places
        self.harness = harness
        self.spawner = spawner
        self._log = log

    def log(self) -> str:
        return self._log.read_text()

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.harness.send_signal(signal.SIGTERM)
        with trio.fail_after(END_S):
            return await self.harness.wait()

    def pids(self) -> list[int]:
        """Processes that the spawner started and that live."""
        children = Path(f"/proc/{self.spawner.pid}/task/{self.spawner.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.harness.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def furnish(root: Path, settings: AgentSettings) -> Places:
    """The folders and the settings that privd makes."""
    places = Places(settings.name, root)
    for folder in (places.own, places.state, places.harness, places.credentials, settings_path(root).parent):
        folder.mkdir(parents=True, exist_ok=True)
    settings_path(root).write_bytes(msgspec.json.encode(settings))
    return places


@asynccontextmanager
async def empty_network() -> AsyncIterator[tuple[str, ...]]:
    """A network namespace with nothing but loopback; yields the words that start a program in it."""
    holder = await trio.lowlevel.open_process(
        ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"], stdout=-1
    )
    assert holder.stdout is not None
    try:
        assert await holder.stdout.receive_some() == b"up\n"
        yield ("nsenter", f"--target={holder.pid}", "--net", "--")
    finally:
        holder.kill()
        with trio.CancelScope(shield=True):
            await holder.wait()
            await holder.stdout.aclose()


@asynccontextmanager
async def cage(
    folder: Path,
    settings: AgentSettings,
    *,
    environment: Mapping[str, str] | None = None,
    network: tuple[str, ...] = (),
) -> AsyncIterator[Cage]:
    """Run the harness of one agent under `folder/<name>`, where the hub puts its socket too.

    With a *network* of its own it takes the proxy's real port there, else any free one.
    """
    places = furnish(folder / settings.name, settings)
    log = folder / f"{settings.name}.log"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, log.open("ab") as sink:
        spawner = await start(network, "harness.spawner", [], theirs, {}, sink.fileno())
        arguments = ["--root", str(places.root), *([] if network else ["--proxy-port", "0"])]
        harness = await start(network, "harness", arguments, ours, environment or {}, sink.fileno())
    running = Cage(places, harness, spawner, log)
    try:
        yield running
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + END_S):
            for process in (harness, spawner):
                if process.returncode is None:
                    process.kill()
                await process.wait()


async def start(
    network: tuple[str, ...],
    module: str,
    arguments: list[str],
    pair: socket.socket,
    environment: Mapping[str, str],
    log: int,
) -> trio.Process:
    given = {"HIVE_SPAWNER_FD": str(pair.fileno()), "PATH": os.environ["PATH"], **environment}
    command = [*network, sys.executable, "-I", "-m", module, *arguments]
    return await trio.lowlevel.open_process(
        command, env=given, pass_fds=[pair.fileno()], stdout=log, stderr=log, stdin=-3
    )
