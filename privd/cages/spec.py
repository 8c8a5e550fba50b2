"""What a cage is to be: values that say it, checked when they are made. Pure; nothing here touches the machine.

Everything that reaches a program's arguments passes through here once. A value that breaks its rule raises
ValueError: it comes from our own derivation, never from the wire, so it is a defect and not a refusal.
"""

import re
from collections.abc import Container
from enum import StrEnum
from pathlib import Path
from typing import Final

from msgspec import Struct

from privd.cages.identity import is_base
from protocol.names import agent_name_fault
from protocol.settings import AgentRole, CageLimits

PATH_RULE: Final = re.compile(r"(?:/[A-Za-z0-9@_+~=, .-]+)+", re.ASCII)
"""Absolute, and nothing that divides an argument of nspawn (colon, backslash, quotes) or a line."""
VARIABLE_RULE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
CONTROL_RULE: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
INIT_VARIABLE: Final = "HIVE_INIT_"
"""Prefix of what the cage layer tells init; init passes none of it on."""
VARIABLES_NOT_OURS: Final = ("LD_", "LISTEN_", "NOTIFY_", "PYTHON", INIT_VARIABLE)
"""These steer the loader, the interpreter or the start itself."""
FILTER_PATH: Final = "/etc/hyperhive/syscalls.bpf"
"""In the cage: what init installs on itself first (see `privd.cages.syscalls`)."""
SETTINGS_BYTES_MAX: Final = 256 * 1024
ARGUMENTS_MAX: Final = 64


class Bind(Struct, frozen=True):
    """A host folder seen inside: without devices, without setuid, read-only unless it says writable."""

    source: str
    target: str
    writable: bool = False
    beneath: str = ""
    """A folder above the source in which names may change at any time: no link is followed from there on."""


class Folder(Struct, frozen=True):
    """A host folder that must exist with this owner and mode; only the folder itself, never what is below."""

    path: str
    uid: int
    gid: int
    mode: int


class CageSpec(Struct, frozen=True):
    """One cage, whole.

    `command` starts `harness.init` (whatever follows `--` is run instead of the harness); `settings_json` becomes
    agent.json.
    """

    agent: str
    role: AgentRole
    uid_base: int
    limits: CageLimits
    folders: tuple[Folder, ...]
    binds: tuple[Bind, ...]
    command: tuple[str, ...]
    settings_json: bytes
    environment: dict[str, str] = {}
    absent: tuple[str, ...] = ()
    """Host files that must not be there when it starts: what it held by other settings."""
    base: dict[str, str] = {}
    """What it is made from, beside its configuration (`privd.policy.base`)."""

    def __post_init__(self) -> None:
        _check_name(self.agent)
        if not is_base(self.uid_base):
            raise ValueError(f"no uid range starts at {self.uid_base!r}")
        for bind in self.binds:
            check_path(bind.source)
            check_path(bind.target)
            if bind.beneath:
                check_path(bind.beneath)
        for path in (*(folder.path for folder in self.folders), *self.absent):
            check_path(path)
        _check_command(self.command)
        for variable, value in self.environment.items():
            _check_variable(variable, value)
        if len(self.settings_json) > SETTINGS_BYTES_MAX:
            raise ValueError(f"settings of {len(self.settings_json)} bytes, at most {SETTINGS_BYTES_MAX}")

    def init_variables(self, ready_fd: int | None, unheld: Container[str] = ()) -> dict[str, str]:
        """What init is told: where (None: not) to say that it is up, and what it bounds for users and processes.

        `unheld` are the resources that no control group limits; those get what bound there is.
        """
        limits = self.limits
        told = {"READY_FD": ready_fd, "TASKS_MAX": limits.tasks_max, "FILES_MAX": limits.files_max}
        if limits.disk_mib_max is not None:
            told["FILE_BYTES_MAX"] = limits.disk_mib_max << 20
        if limits.memory_mib_max is not None and "memory" in unheld:
            told["DATA_BYTES_MAX"] = limits.memory_mib_max << 20
        return {f"{INIT_VARIABLE}{name}": str(value) for name, value in told.items() if value is not None}


class Places(Struct, frozen=True):
    """Where privd keeps one cage: `<state>/cages/<name>/`, root's own."""

    folder: Path

    @property
    def root(self) -> Path:
        """The skeleton that becomes `/`."""
        return self.folder / "root"

    @property
    def lock(self) -> Path:
        """Locked exactly as long as the cage lives (see `privd.cages.boot`)."""
        return self.folder / "lock"

    @property
    def journal(self) -> Path:
        return self.folder / "journal.log"

    @property
    def call(self) -> Path:
        """Where a launcher that is a unit calls privd."""
        return self.folder / "launch.sock"

    @property
    def record(self) -> Path:
        """What runs, for whoever adopts it."""
        return self.folder / "running.json"


class How(StrEnum):
    """The way a cage ended."""

    EXIT = "exit"
    SIGNAL = "signal"
    UNKNOWN = "unknown"
    """It ended while nobody watched, and this kernel does not tell afterwards."""


class Exit(Struct, frozen=True):
    """How a cage's init ended, with its exit code or signal."""

    how: How
    code: int = 0

    def __str__(self) -> str:
        match self.how:
            case How.EXIT:
                return f"exit code {self.code}"
            case How.SIGNAL:
                return f"signal {self.code}"
            case How.UNKNOWN:
                return "an end that nobody saw"


def check_path(path: str) -> None:
    """Refuse what is not one plain absolute path."""
    if not isinstance(path, str) or not PATH_RULE.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise ValueError(
            f"{path!a} is no path for a cage: absolute, without .. : \\ quotes or control characters"
        )


def _check_name(name: str) -> None:
    fault = agent_name_fault(name) if isinstance(name, str) else "a name is text"
    if fault is not None:
        raise ValueError(fault)


def _check_command(command: tuple[str, ...]) -> None:
    if not 0 < len(command) <= ARGUMENTS_MAX:
        raise ValueError(f"a command has 1 to {ARGUMENTS_MAX} words")
    check_path(command[0])
    if any(CONTROL_RULE.search(word) for word in command):
        raise ValueError("a command's words hold no control characters")


def _check_variable(variable: str, value: str) -> None:
    if not VARIABLE_RULE.fullmatch(variable) or variable.startswith(VARIABLES_NOT_OURS):
        raise ValueError(f"{variable!a} is no variable for a cage")
    if CONTROL_RULE.search(value):
        raise ValueError(f"the value of {variable} holds a control character")
