"""A hive that `hivectl install --systemd` put into a lab, and probes that run in its units' own sandboxes."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.systemd.lab import CHECKOUT, HOUSE, Lab, LabFault, lab, until

PYTHON = HOUSE / "venv/bin/python"
"""What `./hive install` runs."""
PREPARED = {"HIVE_CHECKOUT": str(CHECKOUT), "HIVE_HOUSE": str(HOUSE), "HIVE_CAGE_ENV": str(HOUSE / "cage")}
DAEMONS = ("privd", "brokerd", "egressd", "webd")
LINK = re.compile(r"https?://\S+/login#code=\S+")
PROBE = Path(__file__).with_name("probe.py")
UNITS = Path("/etc/systemd/system")
NOT_FOR_A_PROBE = re.compile(
    r"^(?:Type|Restart\w*|WatchdogSec|Requires|After|PartOf|Wants|ExecStop|RemainAfterExit|OOMPolicy)=.*\n",
    re.MULTILINE,
)


class Installed:
    """One hive in one lab."""

    def __init__(self, running: Lab, said: str, command: tuple[str, ...] = ("hivectl",)) -> None:
        self.lab = running
        self.said = said
        self._command = command

    def hivectl(self, *words: str) -> Any:
        """Run the installed hivectl with --json; its answer. LabFault shows what it said instead."""
        return json.loads(self.lab.run(*self._command, "--json", *words))

    def install(self, *words: str) -> str:
        """Install again, from the checkout; what it printed."""
        return install(self.lab, *words)

    def uninstall(self, *words: str) -> str:
        done = self.lab.as_unit("/usr/local/bin/hivectl", "uninstall", *words)
        if done.returncode:
            raise LabFault(done.stdout + done.stderr)
        return done.stdout

    def messages(self, agent: str) -> list[dict[str, Any]]:
        """What an agent wrote to the operator."""
        page = self.hivectl("messages")["messages"]
        return [each for each in page if each["sender"] == agent and each["to"] == "operator"]

    def answer(self, agent: str, body: str) -> dict[str, Any]:
        """Write to an agent; its answer."""
        sent = self.hivectl("send", agent, body)["message"]
        found: list[dict[str, Any]] = []

        def answered() -> bool:
            found[:] = [each for each in self.messages(agent) if each["in_reply_to"] == sent]
            return bool(found)

        until(answered, f"an answer of {agent}")
        return found[0]

    def leaders(self) -> dict[str, int]:
        """The main process of every cage, by agent."""
        units = self.lab.systemctl(
            "list-units", "--plain", "--no-legend", "--state=active", "hive-cage@*"
        ).split("\n")
        names = [line.split()[0] for line in units if line]
        return {
            name.removeprefix("hive-cage@").removesuffix(".service"): self.lab.main_pid(name)
            for name in names
        }

    def probed(self, unit: str, **order: Any) -> dict[str, Any]:
        """What a process can do that has a unit's user, sandbox and limits."""
        text = (self.lab.root / str(UNITS / unit).removeprefix("/")).read_text()
        return probed(self.lab, unit, NOT_FOR_A_PROBE.sub("", text), **order)


def probed(running: Lab, name: str, text: str, **order: Any) -> dict[str, Any]:
    """Run the probe in place of what the unit's text starts."""
    given = {"write": [], "read": [], "connect": [], "own": "/tmp", "fork": False, **order}
    shutil.copy(PROBE, running.root / "opt/probe.py")
    told = running.root / "opt/probe.out"
    told.unlink(missing_ok=True)
    command = f"ExecStart=/usr/bin/python3 -I /opt/probe.py '{json.dumps(given)}'"
    command += "\nType=oneshot\nStandardOutput=file:/opt/probe.out"
    probe = f"probe-{name}"
    place = running.root / str(UNITS / probe).removeprefix("/")
    place.write_text(re.sub(r"^ExecStart=.*$", lambda _: command, text, flags=re.MULTILINE))
    running.systemctl("daemon-reload")
    done = running.raw("systemctl", "start", probe)
    place.unlink()
    if done.returncode:
        raise LabFault(done.stderr + running.journal(probe))
    answer: dict[str, Any] = json.loads(told.read_text())
    return answer


def install(running: Lab, *words: str) -> str:
    """Install from the checkout; what it printed. LabFault with what units said when that failed."""
    done = running.as_unit(
        str(PYTHON), "-I", "-m", "hivectl", "install", "--systemd", *words, environment=PREPARED
    )
    if done.returncode:
        logs = [running.journal(f"hive-{daemon}.service")[-3_000:] for daemon in DAEMONS]
        raise LabFault("\n".join([done.stdout, done.stderr, *logs]))
    return done.stdout


@contextlib.contextmanager
def installed(settings: str = "") -> Iterator[Installed]:
    """A lab with a hive in it, installed with these settings."""
    with lab() as running:
        if settings:
            place = running.root / "etc/hyperhive"
            place.mkdir()
            (place / "hive.toml").write_text(settings)
        yield Installed(running, install(running))
