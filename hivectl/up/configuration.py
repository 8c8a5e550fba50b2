"""`hive.toml`, the operator's one settings file of an embedded hive, and the daemons' own settings rendered from it."""

import argparse
import json
import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, structs

from hivectl.places import Places
from protocol.limits import INTEGER_MAX
from protocol.names import MANAGER_NAME, AccountName, AgentName, agent_name_fault
from protocol.problem import Problem, Refused
from protocol.settings import ACCOUNT_DEFAULT, CageLimits, Credential, Runner
from runtime.settings import AbsolutePath, ListenAddress, SettingsFault, SiteName, Url

Port = Annotated[int, Meta(ge=0, le=65_535)]
PORT_DEFAULT: Final = 7000
CLAUDE_FOLDER: Final = frozenset({"claude", ".pinned"})
"""What ./hive puts there: the program, and which one it is."""
CLAUDE_VARIABLE: Final = "HIVE_CLAUDE"
"""Where `./hive` put the Claude Code CLI, if it did."""
KEY_SUFFIX: Final = ".key"
CA_NAME: Final = "ca.pem"
"""Copies that only egressd can read."""
EGRESS_SLOT, WEB_SLOT, BROKER_SLOT = 3, 2, 1
"""A daemon's uid, counted from the first of the hive's block."""


class Web(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the dashboard listens, and further names by which browsers may reach it."""

    host: ListenAddress = "127.0.0.1"
    port: Port = PORT_DEFAULT
    """0 takes a port that is free now."""
    hosts: tuple[SiteName, ...] = ()
    """As `name:port`; the first is the one in login links."""
    https: bool = False
    """Whether a proxy in front ends TLS."""


class ModelAccount(Struct, frozen=True, forbid_unknown_fields=True):
    """A further model account, whose key egressd holds; agents name it in their settings."""

    key_file: AbsolutePath
    kind: Literal["api_key", "oauth"] = "api_key"
    """What the file holds: an API key, or a subscription's token."""
    base_url: Url | None = None

    def __post_init__(self) -> None:
        _check_encrypted(self.base_url)


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """How agents reach the model API."""

    base_url: Url | None = None
    hosts: tuple[str, ...] = ("api.anthropic.com:443",)
    """Where every agent may connect to that holds its own key."""
    allow_private: tuple[str, ...] = ()
    ca_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None
    credential: Credential = Credential.CAGE
    """Who holds the key: each new agent's `cage`, or `egress` for all of them; agents there are keep their way."""
    kind: Literal["api_key", "oauth"] = "api_key"
    """With `egress`: what the key file holds, an API key or a subscription's token."""

    def __post_init__(self) -> None:
        if self.credential is Credential.EGRESS:
            if self.key_file is None:
                raise ValueError('key_file: with credential = "egress" the hive needs the key')
            _check_encrypted(self.base_url)


def _check_encrypted(base_url: str | None) -> None:
    if base_url is not None and not base_url.startswith("https://"):
        raise ValueError("base_url: egressd sends a key to https:// addresses only")


class Cages(Struct, frozen=True, forbid_unknown_fields=True):
    """What kind of cages, and what each may use at most."""

    backend: Literal["auto", "nixos", "nspawn", "bwrap"] = "auto"
    limits: CageLimits = CageLimits()
    stop_grace_s: Annotated[int, Meta(ge=1, le=600)] = 30
    rebuild_stale: bool = True
    """Whether cages that were made from an older hyperhive or system are rebuilt by themselves, one at a time."""


class Agents(Struct, frozen=True, forbid_unknown_fields=True):
    """Agents that the first `up` creates beside the manager, and what drives new ones."""

    first: tuple[AgentName, ...] = ("iris",)
    runner: Runner = Runner.DEMO

    def __post_init__(self) -> None:
        for name in self.first:
            fault = None if name == MANAGER_NAME else agent_name_fault(name)
            if fault:
                raise ValueError(f"first: {fault}")


class Approvals(Struct, frozen=True, forbid_unknown_fields=True):
    """Who decides proposals, once a key is enrolled (`hivectl enrol`)."""

    required: Annotated[int, Meta(ge=1, le=2)] = 1
    """How many keys must agree to a deployment."""


class HiveSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of hive.toml; every key has a default."""

    name: str = ""
    web: Web = Web()
    model: Model = Model()
    accounts: dict[AccountName, ModelAccount] = {}
    """Further model accounts; [model] is the one named `default`."""
    cages: Cages = Cages()
    agents: Agents = Agents()
    approvals: Approvals = Approvals()
    guards: dict[str, Annotated[int, Meta(ge=1, le=INTEGER_MAX)]] = {}
    """What no agent gets past; the keys are those of brokerd's own settings."""
    storage: dict[str, Annotated[int, Meta(ge=0, le=INTEGER_MAX)]] = {}
    """What the broker may take of the disk; the keys are those of brokerd's own settings."""
    retention: dict[str, Annotated[int, Meta(ge=1, le=INTEGER_MAX)]] = {}
    """For how many days what is over is kept; the keys are those of brokerd's own settings."""

    def __post_init__(self) -> None:
        if ACCOUNT_DEFAULT in self.accounts:
            raise ValueError(
                f"accounts.{ACCOUNT_DEFAULT}: that account is [model] itself; name this one otherwise"
            )

    def held(self) -> dict[str, ModelAccount]:
        """The accounts whose keys egressd holds, by name."""
        model = self.model
        if model.credential is not Credential.EGRESS or model.key_file is None:
            return self.accounts
        return {
            ACCOUNT_DEFAULT: ModelAccount(model.key_file, model.kind, model.base_url),
            **self.accounts,
        }


TEMPLATE: Final = """\
# The settings of this hive. Every key is optional; `hivectl up` reads them at each start.
# name = "{name}"

[web]
# host = "127.0.0.1"
# port = {port}
# hosts = ["hive.example.org"]               # further names by which browsers reach the dashboard
# https = true                               # when a proxy in front of it ends TLS

[model]
# hosts = ["api.anthropic.com:443"]          # where every agent may connect to
# key_file = "/etc/hyperhive/api_key"        # copied into each new agent's own credential folder
# credential = "cage"                        # egress: egressd holds the key instead, and no cage gets one
# kind = "api_key"                           # with egress; oauth for a subscription's token
# ca_file = "/etc/ssl/certs/company.pem"     # a certificate that is trusted in addition

[cages]
# backend = "auto"                           # auto, nspawn or bwrap
# stop_grace_s = 30
# rebuild_stale = true                       # after an upgrade, one cage at a time, the manager's first
# [cages.limits]
# memory_mib_max = 4096
# disk_mib_max = 16384                       # of what an agent's own folders hold

[agents]
# first = ["iris"]                           # created by the first start, beside the manager
# runner = "demo"                            # demo or claude

[approvals]
# required = 1                               # keys that must agree, once `hivectl enrol` let one decide

[guards]                                     # what no agent gets past; all of them: docs/reference/settings.md
# messages_per_minute = 60
# hops_max = 40                              # messages of agents in a row, until the operator is asked

[storage]                                    # all of them: docs/reference/settings.md
# reserve_bytes = 268435456                  # with less left on the disk, nothing new is stored
# backups_kept = 7                           # one is made each night; 0 makes none

[retention]                                  # days; all of them: docs/reference/settings.md
# messages_days = 90                         # after the last delivery of a message ended
# turn_events_days = 30
"""


def overridden(settings: HiveSettings, values: argparse.Namespace) -> HiveSettings:
    """hive.toml with the command line's words on top of it."""
    web, cages, agents = settings.web, settings.cages, settings.agents
    if values.port is not None:
        web = structs.replace(web, port=_port(values.port))
    if values.backend:
        cages = structs.replace(cages, backend=values.backend)
    if values.runner:
        agents = structs.replace(agents, runner=Runner(values.runner))
    return structs.replace(settings, web=web, cages=cages, agents=agents)


def _port(number: int) -> int:
    if not 0 <= number <= 65_535:
        raise Refused(Problem.MALFORMED, f"--port: {number} is no port (0 to 65535; 0 takes a free one)")
    return number


class Ids(Struct, frozen=True):
    """The uids of this hive's daemons; all the same when nothing is separated."""

    broker: int
    web: int
    egress: int
    separate: bool


def ids(uid_first: int) -> Ids:
    """Root gives each daemon a uid of its own out of the hive's block; a user has just one."""
    if os.geteuid() == 0:
        return Ids(uid_first + BROKER_SLOT, uid_first + WEB_SLOT, uid_first + EGRESS_SLOT, separate=True)
    own = os.geteuid()
    return Ids(own, own, own, separate=False)


def hive_name(settings: HiveSettings) -> str:
    return settings.name or socket.gethostname()


class Programs(Struct, frozen=True):
    """What cages get to run: the harness's environment, and the folder of the agent CLI."""

    environment: Path
    claude: Path | None


def prepared() -> Programs:
    """What ./hive prepared."""
    claude = os.environ.get(CLAUDE_VARIABLE)
    return Programs(cage_environment(), claude_folder(Path(claude)) if claude else None)


def render(
    settings: HiveSettings, places: Places, uid_first: int, who: Ids, programs: Programs | None = None
) -> dict[str, dict[str, Any]]:
    """Each daemon's settings, by its name. Cages get what ./hive prepared, unless told otherwise."""
    programs = programs or prepared()
    model, cages = settings.model, settings.cages
    operators = sorted({0, os.geteuid(), *_invoker()})
    port = settings.web.port or free_port(settings.web.host)
    privd: dict[str, Any] = {
        "state": str(places.state),
        "run": str(places.run),
        "uid_first": uid_first,
        "environment": str(programs.environment),
        "backend": cages.backend,
        "runner": settings.agents.runner,
        "stop_grace_s": cages.stop_grace_s,
        "rebuild_stale": cages.rebuild_stale,
        "peers": {
            "broker_uid": who.broker,
            "web_uid": who.web,
            "egress_uid": who.egress,
            "operator_uids": operators,
        },
        "passkey_origins": passkey_origins(settings.web, port),
        "approvers_required": settings.approvals.required,
        "credential": model.credential,
        "model_api": _given(
            base_url=model.base_url,
            ca_file=model.ca_file,
            key_file=model.key_file if model.credential is Credential.CAGE else None,
        ),
        "limits": _given(
            memory_mib_max=cages.limits.memory_mib_max,
            tasks_max=cages.limits.tasks_max,
            cpu_percent_max=cages.limits.cpu_percent_max,
            files_max=cages.limits.files_max,
            disk_mib_max=cages.limits.disk_mib_max,
        ),
    }
    if programs.claude:
        privd["claude"] = str(programs.claude)
    return {
        "privd": privd,
        "brokerd": {
            "state": str(places.state / "broker"),
            "run": str(places.run),
            "operator_uids": operators,
            "web_uid": who.web,
            "guards": settings.guards,
            "storage": settings.storage,
            "retention": settings.retention,
        },
        "webd": {
            "state": str(places.state / "web"),
            "run": str(places.run),
            "name": hive_name(settings),
            "host": settings.web.host,
            "port": port,
            "hosts": list(settings.web.hosts),
            "https": settings.web.https,
            "operator_uids": operators,
        },
        "egressd": _egressd(settings, places, operators, who),
    }


def passkey_origins(web: Web, port: int) -> list[str]:
    """The dashboard's pages where a browser holds ceremonies with passkeys: names, never addresses in numbers."""
    scheme = "https" if web.https else "http"
    own = "localhost" if port == (443 if web.https else 80) else f"localhost:{port}"
    names = [own, *web.hosts]
    return [f"{scheme}://{name}" for name in names if not _is_numeric(name)]


def _is_numeric(name: str) -> bool:
    """Whether `host:port` names no name."""
    host = name.rpartition(":")[0] or name
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return name.startswith("[")
    return True


def _egressd(settings: HiveSettings, places: Places, operators: list[int], who: Ids) -> dict[str, Any]:
    """Of files it is told where `credentials.hand_over` puts their copies."""
    model, held = settings.model, settings.held()
    return {
        "run": str(places.run),
        "model_hosts": list(model.hosts),
        "allow_private": list(model.allow_private),
        "operator_uids": [*operators, who.web],
        "broker_uid": who.broker,
        **({"ca_file": str(places.egress / CA_NAME)} if held and model.ca_file else {}),
        "accounts": {
            name: _given(
                key_file=str(places.egress / f"{name}{KEY_SUFFIX}"),
                kind=account.kind,
                base_url=account.base_url,
            )
            for name, account in held.items()
        },
    }


def cage_environment() -> Path:
    """The harness's Python environment that ./hive prepared. SettingsFault when there is none."""
    path = Path(os.environ.get("HIVE_CAGE_ENV", "/opt/hive/env")).resolve()
    if not (path / "bin" / "python").exists():
        raise SettingsFault(
            f"{path}: no environment for cages is there (HIVE_CAGE_ENV); start the hive by ./hive up"
        )
    return path


def claude_folder(program: Path) -> Path:
    """The folder that every agent of runner `claude` sees, read-only. SettingsFault when it holds anything else."""
    folder = program.resolve().parent
    try:
        beside = sorted({path.name for path in folder.iterdir()} - CLAUDE_FOLDER)
    except OSError as error:
        raise SettingsFault(f"{folder}: cannot be read: {error.strerror} (HIVE_CLAUDE)") from None
    if beside:
        raise SettingsFault(
            f"{folder}: agents would see all of it, {beside[0]!a} too; "
            "give the program a folder of its own (HIVE_CLAUDE)"
        )
    return folder


def free_port(host: str) -> int:
    """A port that nobody holds at this moment. SettingsFault when this machine has no such address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise SettingsFault(f"web.host: cannot listen at {host}: {error.strerror}") from None
        return int(probe.getsockname()[1])


def to_toml(table: dict[str, Any]) -> str:
    """TOML for tables within tables, all that rendered settings need; strings as JSON writes them."""
    return "\n".join(_lines(table, "")) + "\n"


def _lines(table: dict[str, Any], name: str) -> Iterator[str]:
    plain = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    if name and plain:
        yield from ("", f"[{name}]")
    yield from plain
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{name}.{key}" if name else key)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _invoker() -> list[int]:
    """The person who ran sudo is an operator, too."""
    uid = os.environ.get("SUDO_UID", "")
    return [int(uid)] if uid.isdecimal() else []
