"""The manager's view of all proposed configurations, in each kind of cage: what is new is there at once."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from protocol.names import MANAGER_NAME
from tests.privd.cages.hive import ORDINARY_UID, DriverProcess, until
from tests.support.nixos.host import FakeHost

pytestmark = [pytest.mark.cage, pytest.mark.root]

BACKENDS = {"nspawn": "systemd-nspawn", "bwrap-as-root": "bwrap", "bwrap": "bwrap", "nixos": "systemd-nspawn"}
ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin", "HOME": "/tmp", "LC_ALL": "C"}
HARNESS = "/opt/hive/env/bin/python -I -m harness.init"
EDIT = """cd /agents/{agent}/config && echo '# {text}' >>agent.toml && git commit -qam '{text}' && git rev-parse HEAD"""
TAMPER = (
    "mv /agents/iris /agents/moved",
    "mv /agents/iris/config /agents/iris/moved",
    "ln -s /etc /agents/planted",
    "mkdir /agents/planted",
    "touch /agents/iris/planted",
    "chmod 700 /agents/iris",
    "rm -rf /agents/iris/config/.git /agents/iris/config/* && rmdir /agents/iris/config",
)


class Hive:
    """A hive of one kind of cage, with a privd in a process of its own."""

    def __init__(self, backend: str, environment: Path) -> None:
        self.backend = backend
        self.uid = ORDINARY_UID if backend == "bwrap" else 0
        self.folder = Path(tempfile.mkdtemp(prefix="hive-proposed-"))
        os.chown(self.folder, self.uid, self.uid)
        self.folder.chmod(0o711)
        if backend == "nixos":
            host = FakeHost(self.folder / "host")
            host.make(HARNESS, environment)
        self.driver = DriverProcess(
            backend, self.folder, environment, self.uid, "tests.privd.cages.config_driver"
        )

    def do(self, do: str, **words: Any) -> Any:
        return self.driver.do(do, **words)

    def deploy(self, agent: str, kind: str, commit: str | None = None) -> None:
        """Propose and approve, with success."""
        ended = self.do("decide", agent=agent, kind=kind, commit=commit)
        assert (ended["state"], ended["detail"]) == ("deployed", "")

    def inside(self, agent: str, script: str) -> subprocess.CompletedProcess[str]:
        """What a shell of the agent's own user says that sees what its cage shows."""
        return subprocess.run(
            self.shell(agent, script),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=ENVIRONMENT,
        )

    def shell(self, agent: str, script: str) -> list[str]:
        """The command of such a shell."""
        record = json.loads((self.folder / "cages" / agent / "running.json").read_text())
        root, uid = f"/proc/{record['leader']['pid']}/root", self.do("row", agent=agent)["agent_uid"]
        return ["chroot", f"--userspec={uid}:{uid}", "--groups=", root, "/bin/sh", "-ec", script]

    def commit(self, agent: str, text: str) -> str:
        """What the manager changes and commits; the commit's id."""
        done = self.inside(MANAGER_NAME, EDIT.format(agent=agent, text=text))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def leader(self, agent: str) -> int:
        record = json.loads((self.folder / "cages" / agent / "running.json").read_text())
        found: int = record["leader"]["pid"]
        return found

    def config(self, agent: str) -> Path:
        return self.folder / "proposed" / "agents" / agent / "config"

    def close(self) -> None:
        with contextlib.suppress(AssertionError):
            for agent in ("iris", "otto", MANAGER_NAME):
                self.driver.ask("destroy", agent=agent)
        self.driver.close()
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(scope="module")
def idle_environment(cage_environment: Path) -> Iterator[Path]:
    """An environment whose harness does nothing, for as long as it is let."""
    with tempfile.TemporaryDirectory(prefix="hive-env-") as folder:
        place = Path(folder) / "env"
        shutil.copytree(cage_environment, place, symlinks=True)
        Path(folder).chmod(0o755)
        (harness,) = place.glob("lib/python3.*/site-packages/harness")
        (harness / "__main__.py").write_text("import signal\nsignal.pause()\n")
        yield place


def possible(backend: str, environment: Path) -> Hive:
    """A hive of this kind; skips where there can be none."""
    if os.geteuid() != 0 or shutil.which(BACKENDS[backend]) is None:
        pytest.skip(f"needs root and {BACKENDS[backend]}")
    return Hive(backend, environment)


@pytest.fixture(params=list(BACKENDS))
def hive(request: pytest.FixtureRequest, idle_environment: Path) -> Iterator[Hive]:
    with possible(request.param, idle_environment) as found:
        yield found


@pytest.fixture(params=[name for name in BACKENDS if name != "bwrap"])
def parted_hive(request: pytest.FixtureRequest, idle_environment: Path) -> Iterator[Hive]:
    """One whose cages have users of their own."""
    with possible(request.param, idle_environment) as found:
        yield found


def test_a_running_manager_sees_and_edits_what_is_new(hive: Hive) -> None:
    hive.deploy(MANAGER_NAME, "spawn")
    before = hive.leader(MANAGER_NAME)
    assert hive.inside(MANAGER_NAME, "ls /agents").stdout.split() == [MANAGER_NAME]
    hive.deploy("iris", "init")
    assert hive.inside(MANAGER_NAME, "ls /agents").stdout.split() == [MANAGER_NAME, "iris"]
    commit = hive.commit("iris", "first")
    hive.deploy("iris", "spawn", commit)
    read = "tail -n1 /agents/iris/config/agent.toml"
    assert hive.inside("iris", read).stdout.strip() == "# first", "its own agent sees it"
    hive.commit("iris", "second")
    assert hive.inside("iris", read).stdout.strip() == "# second"
    refused = hive.inside("iris", "echo x >/agents/iris/config/planted")
    assert "Read-only file system" in refused.stderr
    assert hive.inside("iris", "ls /agents").stdout.split() == ["iris"]
    assert hive.leader(MANAGER_NAME) == before, "it was never restarted"


def test_the_manager_changes_what_is_in_a_repository_and_nothing_above_it(parted_hive: Hive) -> None:
    hive = parted_hive
    hive.deploy(MANAGER_NAME, "spawn")
    hive.deploy("iris", "init")
    for script in TAMPER:
        done = hive.inside(MANAGER_NAME, script)
        assert done.returncode != 0, script
        assert "Permission denied" in done.stderr or "Operation not permitted" in done.stderr, done.stderr
    assert sorted(path.name for path in hive.config("iris").parents[1].iterdir()) == [MANAGER_NAME, "iris"]
    assert list(hive.config("iris").iterdir()) == [], "its content is the manager's to delete"


def test_a_name_that_leads_elsewhere_shows_nothing(idle_environment: Path) -> None:
    """Where all is one user's the manager can change names; no cage and no box follows them."""
    with possible("bwrap", idle_environment) as hive:
        for name in ("iris", "iris/config"):
            leads_elsewhere(hive, name)


def leads_elsewhere(hive: Hive, name: str) -> None:
    secret = hive.folder / f"secret {len(name)}" / "config"
    secret.mkdir(parents=True)
    (secret / "token").write_text("hunter2")
    for path in (secret, secret.parent):
        shutil.chown(path, ORDINARY_UID, ORDINARY_UID)
    if not hive.config("iris").exists():
        hive.deploy(MANAGER_NAME, "spawn")
        hive.deploy("iris", "spawn")
    commit = hive.commit("iris", "first")
    target = secret.parent if name == "iris" else secret
    swap = f"mv /agents/{name} /agents/{name}.old && ln -s '{target}' /agents/{name}"
    assert hive.inside(MANAGER_NAME, swap).returncode == 0
    assert (
        "is no real folder" in hive.driver.ask("decide", agent="iris", kind="config", commit=commit)["detail"]
    )
    assert "is not a real folder" in hive.driver.ask("restart", agent="iris")["detail"]
    assert sorted(path.name for path in secret.iterdir()) == ["token"], "and nothing was written there"
    back = f"rm /agents/{name} && mv /agents/{name}.old /agents/{name}"
    assert hive.inside(MANAGER_NAME, back).returncode == 0
    assert hive.do("restart", agent="iris")["power"] == "running"


def test_what_was_made_before_there_was_a_manager_is_the_managers(hive: Hive) -> None:
    hive.deploy("iris", "spawn")
    hive.deploy(MANAGER_NAME, "spawn")
    commit = hive.commit("iris", "first")
    hive.deploy("iris", "config", commit)
    hive.do("destroy", agent=MANAGER_NAME)
    hive.deploy(MANAGER_NAME, "spawn")
    assert hive.inside(MANAGER_NAME, "git -C /agents/iris/config log --format=%H").stdout.startswith(
        commit
    ), "it comes back to what it left"
    hive.do("destroy", agent=MANAGER_NAME)
    hive.do("purge", agent=MANAGER_NAME)
    assert not hive.config(MANAGER_NAME).parent.exists()
    hive.deploy(MANAGER_NAME, "spawn")
    commit = hive.commit("iris", "second")
    hive.deploy("iris", "config", commit)
    assert hive.inside("iris", "tail -n1 /agents/iris/config/agent.toml").stdout.strip() == "# second"


def test_a_purge_under_the_managers_hands(hive: Hive) -> None:
    """The manager works in the folder while it goes; what comes next under the name finds nothing of it."""
    hive.deploy(MANAGER_NAME, "spawn")
    hive.deploy("iris", "init")
    commit = hive.commit("iris", "first")
    hive.deploy("iris", "spawn", commit)
    hive.do("destroy", agent="iris")
    assert hive.inside(MANAGER_NAME, "cat /agents/iris/config/agent.toml").stdout.endswith("# first\n"), (
        "kept"
    )
    write = "cd /agents/iris/config; echo at work; while :; do echo x >leak || :; done"
    busy = subprocess.Popen(
        hive.shell(MANAGER_NAME, write), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )
    try:
        assert busy.stdout is not None
        assert busy.stdout.readline() == b"at work\n"
        until((hive.config("iris") / "leak").exists, "it writes")
        hive.do("purge", agent="iris")
        assert hive.inside(MANAGER_NAME, "ls /agents").stdout.split() == [MANAGER_NAME]
        hive.deploy("iris", "init")
        assert not (hive.config("iris") / "leak").exists()
        assert "# first" not in (hive.config("iris") / "agent.toml").read_text()
    finally:
        busy.send_signal(signal.SIGKILL)
        busy.wait()
        assert busy.stdout is not None
        busy.stdout.close()
