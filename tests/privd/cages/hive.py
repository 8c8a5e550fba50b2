"""Hives of one machine for the cage tests: a folder, a driver in a process of its own, and cages that obey.

Everything is synchronous and bounded: a test speaks to a driver (a little privd) and, through a broker socket,
to the stand-in for the harness inside a real cage.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec

from privd.cages.identity import RANGE_UIDS, Identity, block_of, hive_tag
from privd.cages.spec import Bind, CageSpec, Folder
from protocol.settings import AgentRole, AgentSettings, CageLimits

CHECKOUT = Path(__file__).parents[3]
ORDINARY_UID = 54_321
"""Of the user who has no rights at all; it need not exist."""
DEADLINE_S = 60.0
LIMITS = CageLimits(memory_mib_max=192, tasks_max=48, cpu_percent_max=100, files_max=128)
PYTHON = "/opt/hive/env/bin/python"
INIT = (PYTHON, "-I", "-m", "harness.init", "--")
STAND_IN = (PYTHON, "-I", "/opt/hive/env/stand_in.py")


def until(ask: Callable[[], Any], what: str) -> Any:
    """The first truthy answer."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what} did not happen within {DEADLINE_S} s"
        time.sleep(0.01)


class Layout:
    """Where one hive keeps everything, and the specs of its cages."""

    def __init__(self, folder: Path, environment: Path, uid: int, gid: int) -> None:
        self.folder = folder
        self.environment = environment
        self.uid, self.gid = uid, gid
        self.cages = folder / "cages"

    def uid_base(self, agent: str) -> int:
        return block_of(str(self.folder)) + RANGE_UIDS * (1 + sum(agent.encode()) % 100)

    def sockets(self, agent: str) -> Path:
        return self.folder / "run" / agent

    def spec(
        self,
        agent: str,
        cage: Identity,
        *,
        harness: tuple[str, ...] = STAND_IN,
        init: tuple[str, ...] = INIT,
        limits: dict[str, int | None] | None = None,
        environment: str | None = None,
    ) -> CageSpec:
        home, sockets = self.folder / "agents" / agent, self.sockets(agent)
        ours = (self.uid, self.gid)
        return CageSpec(
            agent=agent,
            role=AgentRole.AGENT,
            uid_base=self.uid_base(agent),
            limits=msgspec.structs.replace(LIMITS, **(limits or {})),
            folders=(
                Folder(str(home), *ours, 0o700),
                Folder(str(home / "state"), cage.agent_uid, cage.harness_gid, 0o750),
                Folder(str(home / "harness"), cage.harness_uid, cage.harness_gid, 0o700),
                Folder(str(sockets), *ours, 0o711),
                Folder(str(sockets / "broker"), self.uid, cage.harness_gid, 0o710),
                Folder(str(self.folder / "shared" / "files"), *ours, 0o1777),
            ),
            binds=(
                Bind(str(home / "state"), f"/agents/{agent}/state", writable=True),
                Bind(str(home / "harness"), f"/agents/{agent}/harness", writable=True),
                Bind(str(self.folder / "shared" / "files"), "/shared", writable=True),
                Bind(str(sockets / "broker"), "/run/hive/broker"),
                Bind(environment or str(self.environment), "/opt/hive/env"),
            ),
            command=(*init, *harness),
            settings_json=msgspec.json.encode(AgentSettings(name=agent)),
            environment={"HIVE_AGENT": agent},
            base={"hyperhive": self.environment.resolve().name},
        )


class Inside:
    """A conversation with the stand-in inside one cage."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(DEADLINE_S)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.peer_pid, self.peer_uid, self.peer_gid = struct.unpack("=iii", credentials)
        self._connection = connection
        self._lines = connection.makefile("rwb")

    def send(self, **order: str) -> None:
        self._lines.write(json.dumps(order).encode() + b"\n")
        self._lines.flush()

    def ask(self, **order: str) -> dict[str, Any]:
        self.send(**order)
        answer: dict[str, Any] = json.loads(self._lines.readline())
        return answer

    def harness(self, source: str) -> Any:
        """What SOURCE leaves in `value`, run as the harness."""
        return _value(self.ask(harness=source))

    def agent(self, source: str) -> Any:
        """The same as the agent's user."""
        return _value(self.ask(agent=source))

    def refused(self, who: str, source: str) -> str:
        """The error that SOURCE ends in."""
        answer = self.ask(**{who: source})
        assert "error" in answer, f"{who} was allowed: {source!r} gave {answer}"
        return str(answer["error"])

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._lines.close()
        self._connection.close()


def _value(answer: dict[str, Any]) -> Any:
    assert "error" not in answer, answer
    return answer["value"]


class DriverProcess:
    """A little privd in a process of its own."""

    def __init__(
        self,
        backend: str,
        folder: Path,
        environment: Path,
        uid: int,
        module: str = "tests.privd.cages.driver",
    ) -> None:
        who = () if uid == 0 else ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
        driver = (sys.executable, "-m", module, backend.partition("-")[0])
        self._process = subprocess.Popen(
            [*who, *driver, str(folder), str(environment)],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def descriptors(self) -> int:
        """How many it has open."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The whole answer."""
        self.send(do, **arguments)
        return self.answer()

    def send(self, do: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the driver is gone"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def do(self, do: str, **arguments: Any) -> Any:
        """The value of an answer that must not be a refusal."""
        answer = self.ask(do, **arguments)
        assert "problem" not in answer, answer
        return answer["value"]

    def die(self) -> None:
        """SIGKILL, as when privd is killed."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._process.wait(DEADLINE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Hive:
    """One hive: its folder, its driver, the broker sockets of its agents."""

    def __init__(self, backend: str, environment: Path) -> None:
        self.backend = backend
        self.uid = ORDINARY_UID if backend == "bwrap" else 0
        self.separated = backend in ("nspawn", "nixos")
        folder = Path(tempfile.mkdtemp(prefix="hive-cages-"))
        os.chown(folder, self.uid, self.uid)
        folder.chmod(0o711)
        self.folder = folder
        self.layout = Layout(folder, environment, self.uid, self.uid)
        self.driver = self.new_driver()
        self._listeners: dict[str, socket.socket] = {}
        self._insides: list[Inside] = []

    def new_driver(self) -> DriverProcess:
        return DriverProcess(self.backend, self.folder, self.layout.environment, self.uid)

    def lose_driver(self) -> None:
        """SIGKILL of privd, and its next start."""
        self.driver.die()
        self.driver = self.new_driver()

    def start(self, agent: str = "iris", **changes: Any) -> dict[str, Any]:
        started: dict[str, Any] = self.driver.do("start", agent=agent, **changes)
        return started

    def listen(self, agent: str = "iris") -> socket.socket:
        """The agent's broker socket, as brokerd makes it: open to whoever can reach it."""
        if agent not in self._listeners:
            path = self.layout.sockets(agent) / "broker" / "broker.sock"
            until(path.parent.is_dir, "the socket folder")
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
            path.chmod(0o666)
            listener.listen()
            listener.settimeout(DEADLINE_S)
            self._listeners[agent] = listener
        return self._listeners[agent]

    def enter(self, agent: str = "iris", **changes: Any) -> Inside:
        """Start a cage and speak to its stand-in."""
        self.start(agent, **changes)
        return self.entered(agent)

    def entered(self, agent: str = "iris") -> Inside:
        """Speak to the stand-in of a cage that was started."""
        inside = Inside(self.listen(agent).accept()[0])
        self._insides.append(inside)
        return inside

    def record(self, agent: str = "iris") -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.layout.cages / agent / "running.json").read_text())
        return record

    def journal(self, agent: str = "iris") -> str:
        return (self.layout.cages / agent / "journal.log").read_text(errors="replace")

    def processes(self) -> list[int]:
        """Every process of this hive's cages: what stands on its lock, or sees its folder mounted. Never by uid."""
        everything = (entry for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return [int(entry.name) for entry in everything if self._is_of_a_cage(entry)]

    def _is_of_a_cage(self, process: Path) -> bool:
        try:
            if (process / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return False  # it has ended; this machine's init takes its time to notice
            if (process / "fd/0").readlink().is_relative_to(self.layout.cages):
                return True
            return f"{self.folder}/" in (process / "mountinfo").read_text()
        except OSError:
            return False

    def until_all_ended(self) -> None:
        """Every process of every cage; one that stays is named."""
        deadline = time.monotonic() + DEADLINE_S
        while left := self.processes():
            assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_text() for pid in left]
            time.sleep(0.01)

    def groups(self) -> list[str]:
        """Control groups that this hive has."""
        return [
            str(path) for path in Path("/sys/fs/cgroup").glob(f"*/hyperhive-{hive_tag(str(self.folder))}")
        ]

    def close(self) -> None:
        """End the driver and whatever a test left, and delete the folder."""
        self.driver.die()
        for inside in self._insides:
            inside.close()
        for listener in self._listeners.values():
            listener.close()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.until_all_ended()
        for group in self.groups():
            for place, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    Path(place).rmdir()
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def environment() -> Iterator[Path]:
    """A Python environment for cages: the host's interpreter, the harness package, the stand-in."""
    with tempfile.TemporaryDirectory(prefix="hive-env-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        subprocess.run(["/usr/bin/python3", "-I", "-m", "venv", "--without-pip", str(place)], check=True)
        (packages,) = place.glob("lib/python3.*/site-packages")
        shutil.copytree(
            CHECKOUT / "harness", packages / "harness", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(Path(__file__).with_name("stand_in.py"), place / "stand_in.py")
        yield place
