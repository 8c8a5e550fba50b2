"""`agent.toml` and the files beside it: an agent's settings out of them, and back into them. Pure.

What a file says wrongly is refused with file, key and reason. Two parts of it may be wrong without costing the rest:
an MCP server or a reminder that cannot be used is left out, and a warning says so.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from privd.policy import toml_shape
from privd.policy.objects import shown
from privd.policy.system_text import FILE as SYSTEM_FILE
from privd.policy.system_text import text_of
from protocol.limits import (
    COMMANDS_MAX,
    EGRESS_CONNECTIONS_MAX,
    EGRESS_HOSTS_MAX,
    ENVIRONMENT_MAX,
    MCP_SERVERS_MAX,
    RECIPIENTS_MAX,
    ROLE_PROMPT_CHARS_MAX,
    STANDING_REMINDERS_MAX,
)
from protocol.names import AccountName, HostPattern, Recipient, in_words
from protocol.problem import Problem, Refused
from protocol.settings import (
    ACCOUNT_DEFAULT,
    MODEL_DEFAULT,
    OWN_SERVER,
    AgentRole,
    AgentSettings,
    CageLimits,
    CommandPattern,
    Credential,
    EgressLimits,
    Icon,
    McpServer,
    ModelName,
    Pronouns,
    Runner,
    ServerName,
    StandingReminder,
    VariableName,
    VariableValue,
)

FILE: Final = "agent.toml"
PROMPT_FILE: Final = "role.md"
FILE_BYTES_MAX: Final = 64 * 1024
"""Of agent.toml: a decoder that is fast is still slow on what was written to make it so."""
WARNINGS_MAX: Final = 50
UNLIMITED: Final = "unlimited"
PATH_RULE: Final = r"\A[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*){0,4}\Z"
PLACE: Final = re.compile(r" - at `(?:key in )?\$\.?(?P<key>[^`]*)`")
UNKNOWN: Final = re.compile(r"unknown field `(?P<key>[^`]*)`")
SECRETS: Final = (
    ("an API key", re.compile(r"\bsk-[A-Za-z0-9_-]{16,}")),
    ("a token of GitHub", re.compile(r"\b(?:gh[opsur]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})")),
    ("a token of GitLab", re.compile(r"\bglpat-[A-Za-z0-9_-]{18,}")),
    ("a token of Slack", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}")),
    ("a key of AWS", re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("a key of Google", re.compile(r"\bAIza[A-Za-z0-9_-]{30,}")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("a signed token", re.compile(r"(?<=[A-Za-z0-9_-]{10})\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")),
    ("a password in an address", re.compile(r"\b[a-z][a-z0-9+]{1,10}://[^\s:/@]{1,64}:[^\s:/@]{4,}@")),
)
SECRET_NAMES: Final = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|PRIVATE_KEY|CREDENTIALS?)$"
)
WHERE_SECRETS_BELONG: Final = (
    "secrets never belong in a configuration: the operator gives them to the hive, in the file that"
    " `key_file` in hive.toml names"
)

_Limit = Literal["unlimited"] | UnsetType


class LimitsTable(Struct, frozen=True, forbid_unknown_fields=True):
    """[limits]; what is not there is the hive's own."""

    memory_mib_max: Annotated[int, Meta(ge=64, le=1_048_576)] | _Limit = UNSET
    tasks_max: Annotated[int, Meta(ge=16, le=100_000)] | _Limit = UNSET
    cpu_percent_max: Annotated[int, Meta(ge=5, le=6_400)] | _Limit = UNSET
    files_max: Annotated[int, Meta(ge=64, le=1_048_576)] | _Limit = UNSET
    disk_mib_max: Annotated[int, Meta(ge=64, le=16_777_216)] | _Limit = UNSET


class EgressTable(Struct, frozen=True, forbid_unknown_fields=True):
    """[egress]: where the agent may connect to, and how much it may send and fetch."""

    hosts: Annotated[tuple[HostPattern, ...], Meta(max_length=EGRESS_HOSTS_MAX)] = ()
    connections_max: Annotated[int, Meta(ge=1, le=EGRESS_CONNECTIONS_MAX)] | UnsetType = UNSET
    out_mib_per_hour_max: Annotated[int, Meta(ge=1, le=1_048_576)] | _Limit = UNSET
    in_mib_per_hour_max: Annotated[int, Meta(ge=1, le=1_048_576)] | _Limit = UNSET


class AgentFile(Struct, frozen=True, forbid_unknown_fields=True):
    """agent.toml."""

    runner: Runner | None = None
    model: ModelName | None = None
    role_prompt: Annotated[str, Meta(pattern=PATH_RULE)] | None = None
    """The file that holds it."""
    icon: Icon = ""
    pronouns: Pronouns = ""
    account: AccountName = ACCOUNT_DEFAULT
    allowed_recipients: Annotated[tuple[Recipient, ...], Meta(max_length=RECIPIENTS_MAX)] | None = None
    allowed_commands: Annotated[tuple[CommandPattern, ...], Meta(max_length=COMMANDS_MAX)] | None = None
    egress: EgressTable = EgressTable()
    limits: LimitsTable = LimitsTable()
    environment: Annotated[dict[VariableName, VariableValue], Meta(max_length=ENVIRONMENT_MAX)] = {}
    mcp_servers: Annotated[dict[str, Any], Meta(max_length=MCP_SERVERS_MAX)] = {}
    reminders: Annotated[tuple[Any, ...], Meta(max_length=STANDING_REMINDERS_MAX)] = ()


class Ground(Struct, frozen=True):
    """What no configuration says: who the agent is, and what the hive gives to all."""

    name: str
    role: AgentRole = AgentRole.AGENT
    runner: Runner = Runner.DEMO
    credential: Credential = Credential.CAGE
    limits: CageLimits = CageLimits()
    api_base_url: str | None = None
    has_claude: bool = True
    nixos: bool = False
    """Whether every agent has a system of its own, which `agent.nix` may say more about."""


class Reading(Struct, frozen=True):
    """An agent's settings, what of its configuration was left out, and what its system's text names."""

    settings: AgentSettings
    warnings: tuple[str, ...]
    system: str = ""
    """The text of agent.nix and of the modules beside it, where it counts."""


def read(files: Mapping[str, bytes], ground: Ground) -> Reading:
    """The settings that a configuration's files say. Refused(malformed, limit) with file, key and reason."""
    if FILE not in files:
        raise _fault(FILE, "", "the file is missing")
    _check_no_secrets(files)
    said = _decoded(files[FILE])
    _check_no_secrets_said(said)
    runner = said.runner or ground.runner
    if runner is Runner.CLAUDE and not ground.has_claude:
        raise _fault(FILE, "runner", "this hive has no Claude Code; `./hive env claude` installs it")
    warnings: list[str] = []
    if SYSTEM_FILE in files and not ground.nixos:
        warnings.append(f"{SYSTEM_FILE}: left out: the cages of this hive are not NixOS containers")
    settings = AgentSettings(
        name=ground.name,
        role=ground.role,
        runner=runner,
        model=said.model or MODEL_DEFAULT,
        role_prompt=_prompt(said.role_prompt, files),
        allowed_recipients=said.allowed_recipients,
        egress_hosts=said.egress.hosts,
        egress_limits=_over(EgressLimits(), said.egress, EgressLimits),
        account=said.account,
        credential=ground.credential,
        environment=said.environment,
        limits=_over(ground.limits, said.limits, CageLimits),
        api_base_url=ground.api_base_url,
        icon=said.icon,
        pronouns=said.pronouns,
        allowed_commands=said.allowed_commands,
        mcp_servers=_servers(said.mcp_servers, warnings),
        reminders=_reminders(said.reminders, warnings),
    )
    system = text_of(files) if ground.nixos else ""
    return Reading(settings, tuple(warnings[:WARNINGS_MAX]), system)


def _decoded(content: bytes) -> AgentFile:
    if len(content) > FILE_BYTES_MAX:
        raise Refused(Problem.LIMIT, f"{FILE}: {len(content)} bytes, at most {FILE_BYTES_MAX} are allowed")
    try:
        toml_shape.check(content.decode(), FILE)
        return msgspec.toml.decode(content, type=AgentFile)
    except msgspec.ValidationError as error:
        raise _complaint(error) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise _fault(FILE, "", f"it is not TOML: {shown(str(error))}") from error
    except RecursionError as error:
        raise _fault(FILE, "", "it is nested too deeply") from error


def _complaint(error: msgspec.ValidationError) -> Refused:
    text = in_words(str(error))
    found = PLACE.search(text) or UNKNOWN.search(text)
    key = found["key"] if found else ""
    return _fault(FILE, shown(key)[1:-1], PLACE.sub("", text))


def _prompt(path: str | None, files: Mapping[str, bytes]) -> str:
    if path is None:
        return ""
    if path not in files:
        raise _fault(FILE, "role_prompt", f"there is no file {path}")
    text = files[path].decode()
    if len(text) > ROLE_PROMPT_CHARS_MAX:
        raise Refused(
            Problem.LIMIT,
            f"{path}: {len(text)} characters, a role prompt has at most {ROLE_PROMPT_CHARS_MAX}",
        )
    return text


T = TypeVar("T", CageLimits, EgressLimits)
Part = TypeVar("Part")


def _over(ground: T, said: LimitsTable | EgressTable, kind: type[T]) -> T:
    """What a table says, over what counts where it says nothing."""
    changed = {
        name: None if value == UNLIMITED else value
        for name in kind.__struct_fields__
        if (value := getattr(said, name)) is not UNSET
    }
    return msgspec.structs.replace(ground, **changed)


def _servers(said: Mapping[str, Any], warnings: list[str]) -> dict[str, McpServer]:
    found: dict[str, McpServer] = {}
    for name, table in said.items():
        where = f"{FILE}: mcp_servers.{shown(name)[1:-1]}"
        if name == OWN_SERVER:
            warnings.append(f"{where}: left out: the hive's own server has this name and cannot be replaced")
            continue
        one = _part({"name": name, "table": table}, _Named, where, warnings)
        if one is not None:
            found[name] = one.table
    return found


class _Named(Struct, frozen=True):
    name: ServerName
    table: McpServer


def _reminders(said: tuple[Any, ...], warnings: list[str]) -> tuple[StandingReminder, ...]:
    found: dict[str, StandingReminder] = {}
    for at, table in enumerate(said):
        where = f"{FILE}: reminders[{at}]"
        one = _part(table, StandingReminder, where, warnings)
        if one is None:
            continue
        if (one.every_s is None) == (one.cron is None):
            warnings.append(f"{where}: left out: it needs either every_s or cron")
        elif one.name in found:
            warnings.append(f"{where}: left out: there is another one named {one.name}")
        else:
            found[one.name] = one
    return tuple(found.values())


def _part(value: Any, kind: type[Part], where: str, warnings: list[str]) -> Part | None:
    """One of the parts that may be wrong without costing the rest."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        warnings.append(f"{where}: left out: {shown(in_words(str(error)))[1:-1]}")
        return None


def _check_no_secrets(files: Mapping[str, bytes]) -> None:
    """Refuse what looks like a secret, without saying it again."""
    for path, content in files.items():
        for number, line in enumerate(content.decode().split("\n"), 1):
            for what, rule in SECRETS:
                if rule.search(line):
                    raise _fault(path, "", f"line {number} looks like {what}; {WHERE_SECRETS_BELONG}")


def _check_no_secrets_said(said: AgentFile) -> None:
    for table, names in (("environment", said.environment), *_server_environments(said.mcp_servers)):
        for name, value in names.items():
            if value and SECRET_NAMES.search(name.upper()):
                raise _fault(FILE, f"{table}.{name}", f"looks like a secret; {WHERE_SECRETS_BELONG}")


def _server_environments(servers: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, object]]]:
    for name, table in servers.items():
        environment = table.get("environment") if isinstance(table, dict) else None
        if isinstance(environment, dict):
            yield f"mcp_servers.{shown(name)[1:-1]}.environment", environment


def _fault(file: str, key: str, reason: str) -> Refused:
    return Refused(Problem.MALFORMED, f"{file}: {f'{key}: ' if key else ''}{reason}")


def render(settings: AgentSettings, ground: Ground) -> dict[str, bytes]:
    """The files that say these settings: `read` gives them back."""
    lines = [f"runner = {_text(settings.runner)}", f"model = {_text(settings.model)}"]
    files: dict[str, bytes] = {}
    if settings.role_prompt:
        files[PROMPT_FILE] = settings.role_prompt.encode()
        lines.append(f"role_prompt = {_text(PROMPT_FILE)}")
    lines += [
        f"{name} = {_text(value)}" for name in ("icon", "pronouns") if (value := getattr(settings, name))
    ]
    if settings.account != ACCOUNT_DEFAULT:
        lines.append(f"account = {_text(settings.account)}")
    for name in ("allowed_recipients", "allowed_commands"):
        values = getattr(settings, name)
        if values is not None:
            lines.append(f"{name} = {_list(values)}")
    lines += _table("egress", _egress_lines(settings))
    lines += _table("limits", list(_differences(settings.limits, ground.limits)))
    lines += _table(
        "environment", [f"{name} = {_text(value)}" for name, value in settings.environment.items()]
    )
    for name, server in settings.mcp_servers.items():
        lines += _table(f"mcp_servers.{name}", [f"command = {_list(server.command)}"])
        variables = [f"{each} = {_text(value)}" for each, value in server.environment.items()]
        lines += _table(f"mcp_servers.{name}.environment", variables)
    for reminder in settings.reminders:
        lines += ["", "[[reminders]]", *_said(msgspec.to_builtins(reminder))]
    return {FILE: "\n".join([*lines, ""]).encode()} | files


def _egress_lines(settings: AgentSettings) -> list[str]:
    hosts = [f"hosts = {_list(settings.egress_hosts)}"] if settings.egress_hosts else []
    return [*hosts, *_differences(settings.egress_limits, EgressLimits())]


def _differences(values: T, ground: T) -> Iterator[str]:
    for name in values.__struct_fields__:
        value = getattr(values, name)
        if value != getattr(ground, name):
            yield f"{name} = {_text(UNLIMITED) if value is None else value}"


def _said(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if value is not None:
            yield f"{name} = {value if isinstance(value, int) else _text(value)}"


def _table(name: str, lines: list[str]) -> list[str]:
    return ["", f"[{name}]", *lines] if lines else []


def _list(values: tuple[str, ...]) -> str:
    return f"[{', '.join(_text(value) for value in values)}]"


def _text(value: str) -> str:
    """A basic string of TOML: JSON's, but for DEL."""
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
