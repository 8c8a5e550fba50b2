"""P11, P13: from StartCage to the harness's first word, to the end of a stop, and what an idle harness holds.

Ours is privd as shipped with real cages; brokerd's place is taken by a socket that only hears the first word. The
references do the least that gives the same: one systemd-nspawn or bwrap with the same /usr, network, users and
folders, in it one interpreter that imports what the harness imports and says a word. Needs root.
"""

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import trio

from bench.measure import CHECKOUT, Variant, compare, report
from bench.processes import OURS, environment, wait_until_answered
from privd.cages.blocks import claim
from privd.cages.identity import AGENT_UID, RANGE_UIDS
from privd.cages.skeleton import FOLDERS, HOST_FILES, LINKED
from protocol.agent import Attached
from protocol.approvals import AtTerminal, DeploymentState, ProposalKind
from protocol.configuration import Approve, ConfirmHealth, ListDeployments, Propose, ShowProposal
from protocol.frames import encode_ok
from protocol.privd import ListCages, StartCage, StopCage
from protocol.settings import AgentRole, Runner
from runtime.client import Client

ENVIRONMENT: Final = Path(os.environ.get("HIVE_CAGE_ENV", CHECKOUT / ".hive" / "cage")).resolve()
AGENT: Final = "bench"
PATIENCE_S: Final = 60.0
SETTLED_S: Final = 2.0
LOOK_S: Final = 0.05
"""After the first word a harness does what it does at its start; then it is idle."""
SAY: Final = (
    "import signal, socket, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "import harness.__main__\n"
    "said = socket.socket(socket.AF_UNIX)\n"
    "said.connect('/run/hive/broker/broker.sock')\n"
    "said.sendall(b'hello')\n"
    "while True: signal.pause()\n"
)
WELCOME: Final = encode_ok(Attached(AGENT, AgentRole.AGENT, 0))
"""With it a harness goes on to wait for its first delivery; the references do not read it."""
IDLE: Final = "import msgspec, trio\nprint('up', flush=True)\ntrio.run(trio.sleep_forever)\n"


class Ears:
    """A broker socket that hears first words."""

    def __init__(self, place: Path) -> None:
        place.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(place))
        place.chmod(0o666)
        self._listener.listen()
        self._listener.settimeout(PATIENCE_S)
        self._heard: list[socket.socket] = []

    def first_word(self) -> None:
        """Return when the next one has said something, and answer as brokerd does to a harness; it stays connected."""
        connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE_S)
        if not connection.recv(4096):
            raise SystemExit("somebody came and said nothing")
        connection.sendall(WELCOME)
        self._heard.append(connection)

    def forget(self) -> None:
        """Let go of everybody, those too who came after the first and were never heard, once they have ended."""
        for connection in self._heard:
            connection.close()
        self._heard.clear()
        while select.select([self._listener], [], [], 0)[0]:
            self._listener.accept()[0].close()

    def close(self) -> None:
        self.forget()
        self._listener.close()


# --------------------------------------------------------------------------------------------------------------- ours


@contextmanager
def privd(backend: str) -> Iterator[Path]:
    """A privd of a hive of its own; its folder."""
    folder = Path(tempfile.mkdtemp(prefix="hb-", dir="/tmp"))  # paths of sockets are short
    folder.chmod(0o711)
    config = folder / "privd.toml"
    config.write_text(
        f'state = "{folder}"\nrun = "{folder}/run"\nuid_first = {claim(folder)}\nenvironment = "{ENVIRONMENT}"\n'
        f'backend = "{backend}"\n[peers]\nbroker_uid = 0\nweb_uid = 0\negress_uid = 0\n'
    )
    process = subprocess.Popen(
        [OURS, "-m", "privd", "--config", str(config)],
        cwd=CHECKOUT,
        env=environment(),
        stdout=(folder / "log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        wait_until_answered(folder / "run/privd/operator.sock", process)
        yield folder
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


class Ours:
    """One agent in a real cage."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._socket = folder / "run/privd/operator.sock"
        trio.run(self._make)
        self.ears = Ears(folder / "run/agents" / AGENT / "broker" / "broker.sock")

    async def _make(self) -> None:
        """Propose it, approve it, and say in the broker's stead that its cage is well; then stop it."""
        broker = self.folder / "run/privd/swarm.sock"
        async with Client(self._socket) as privd, Client(broker) as swarm:
            proposal = await privd.call(Propose(AGENT, ProposalKind.SPAWN, runner=Runner.DEMO))
            page = await privd.call(ShowProposal(AGENT, proposal.number))
            await privd.call(Approve(AGENT, proposal.number, page.digest, AtTerminal()))
            while True:
                rows = await privd.call(ListDeployments(agent=AGENT))
                if rows and rows[0].ended_ms is not None:
                    break
                for cage in await privd.call(ListCages()):
                    if cage.started_ms is not None:
                        await swarm.call(ConfirmHealth(AGENT, cage.started_ms))
                await trio.sleep(LOOK_S)
            if rows[0].state is not DeploymentState.DEPLOYED:
                raise SystemExit(f"the agent was not made: {rows[0].detail}")
            await privd.call(StopCage(AGENT, graceful=False), patience_s=PATIENCE_S)

    def _ask(self, request: StartCage | StopCage) -> None:
        async def call() -> None:
            async with Client(self._socket) as client:
                await client.call(request, patience_s=PATIENCE_S)

        trio.run(call)

    def measure(self) -> dict[str, float]:
        """Start, hear, look at the memory, stop."""
        started = []

        async def start() -> None:
            async with Client(self._socket) as client:
                await client.call(ListCages(), patience_s=PATIENCE_S)
                began = time.monotonic()
                async with trio.open_nursery() as both:
                    both.start_soon(lambda: client.call(StartCage(AGENT), patience_s=PATIENCE_S))
                    await trio.to_thread.run_sync(self.ears.first_word)
                    started.append(time.monotonic() - began)

        trio.run(start)
        time.sleep(SETTLED_S)
        memory = memory_kb(self.harness())
        began = time.monotonic()
        self._ask(StopCage(AGENT, graceful=True))
        stopped = time.monotonic() - began
        self.ears.forget()
        return {"start_ms": started[0] * 1000, "stop_ms": stopped * 1000, "kb": memory}

    def harness(self) -> int:
        """The harness's pid: the one of this cage that was started as that module."""
        home = f"{self.folder}/agents/{AGENT}/"
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
                if b"harness" in words and home in (entry / "mountinfo").read_text():
                    return int(entry.name)
            except OSError:
                continue
        raise SystemExit("there is no harness")


# --------------------------------------------------------------------------------------------------------- references


class Bare:
    """The least that starts an interpreter in a box of the same kind."""

    def __init__(self, folder: Path, command: Callable[[Path], list[str]]) -> None:
        self._folder = folder
        self._command = command(folder)
        self.ears = Ears(folder / "broker" / "broker.sock")

    def measure(self) -> dict[str, float]:
        """Start, hear, stop."""
        began = time.monotonic()
        with (self._folder / "log").open("wb") as log:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": "/usr/bin:/bin:/usr/sbin"},
            )
        self.ears.first_word()
        started = time.monotonic() - began
        time.sleep(SETTLED_S)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
        stopped = time.monotonic() - began
        self.ears.forget()
        return {"start_ms": started * 1000, "stop_ms": stopped * 1000}


@contextmanager
def bare(command: Callable[[Path], list[str]]) -> Iterator[Bare]:
    """A folder with a root and the folders that the box sees."""
    with tempfile.TemporaryDirectory(prefix="hb-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        root = folder / "root"
        for below in (*FOLDERS, "run/hive/broker", "opt/hive/env", "agents/bench/state"):
            (root / below).mkdir(parents=True, exist_ok=True)
        for link in LINKED:
            if Path("/", link).is_symlink():
                (root / link).symlink_to(Path("/", link).readlink())
        for file in HOST_FILES:
            shutil.copy(file, root / file.lstrip("/"))
        for place in ("broker", "state"):
            (folder / place).mkdir()
        made = Bare(folder, command)
        try:
            yield made
        finally:
            made.ears.close()


def nspawn_command(folder: Path) -> list[str]:
    """One nspawn with a range of uids and no network."""
    return [
        "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--directory={folder}/root", "--read-only",
        f"--private-users={claim(folder)}:{RANGE_UIDS}", "--private-users-ownership=off", "--private-network",
        "--no-new-privileges=yes", "--timezone=off", "--resolv-conf=off", "--link-journal=no", "--console=pipe",
        "--kill-signal=SIGTERM", "--bind-ro=/usr", "--tmpfs=/tmp", "--tmpfs=/var",
        f"--bind-ro={folder}/broker:/run/hive/broker", f"--bind={folder}/state:/agents/bench/state",
        f"--bind-ro={ENVIRONMENT}:/opt/hive/env", "--", "/opt/hive/env/bin/python", "-I", "-c", SAY,
    ]  # fmt: skip


def bwrap_command(folder: Path) -> list[str]:
    """One bubblewrap as an ordinary user without a network; asked to end it kills what runs inside."""
    root = folder / "root"
    links = [
        word
        for link in LINKED
        if (root / link).is_symlink()
        for word in ("--symlink", f"usr/{link}", f"/{link}")
    ]
    return [
        "setpriv", f"--reuid={claim(folder) + AGENT_UID}", f"--regid={claim(folder) + AGENT_UID}", "--clear-groups",
        "bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--new-session", "--die-with-parent",
        "--ro-bind", "/usr", "/usr", *links, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/var",
        "--ro-bind", f"{folder}/broker", "/run/hive/broker", "--ro-bind", str(ENVIRONMENT), "/opt/hive/env",
        "--chdir", "/", "--", "/opt/hive/env/bin/python", "-I", "-c", SAY,
    ]  # fmt: skip


def idle() -> dict[str, float]:
    """An interpreter with the two libraries that every process of ours needs, waiting."""
    process = subprocess.Popen([str(ENVIRONMENT / "bin/python"), "-I", "-c", IDLE], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(SETTLED_S)
    found = memory_kb(process.pid)
    process.kill()
    process.wait()
    process.stdout.close()
    return {"kb": found}


def memory_kb(process: int) -> float:
    """What nobody else uses: libraries that other processes map as well do not count, whoever runs beside."""
    rows = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(float(row.split()[1]) for row in rows if row.startswith(("Private_Clean:", "Private_Dirty:")))


def main() -> None:
    """Measure and print."""
    if os.geteuid() != 0:
        sys.exit("bench.cages needs root: its cages are root's")
    with ExitStack() as held:
        tables = []
        for backend, command in (("nspawn", nspawn_command), ("bwrap", bwrap_command)):
            cage = Ours(held.enter_context(privd(backend)))
            reference = held.enter_context(bare(command))
            held.callback(cage.ears.close)
            tables.append(
                (
                    backend,
                    [
                        Variant(f"cage ({backend})", cage.measure),
                        Variant(f"bare {backend}", reference.measure),
                    ],
                )
            )
        interpreter = Variant("interpreter + trio + msgspec", idle)
        compare([*(variant for _, variants in tables for variant in variants), interpreter])
        for backend, variants in tables:
            report(
                f"P11 start to hello, {backend}", "at most 1.3x", variants, "start_ms", more_is_better=False
            )
            report(f"P11 stop, {backend}", "known", variants, "stop_ms", more_is_better=False)
            memory = [variants[0], interpreter]
            report(f"P13 idle harness, {backend}", "at most 1.6x", memory, "kb", more_is_better=False)


if __name__ == "__main__":
    main()
