"""What an agent is configured to be: the rendered `/etc/hyperhive/agent.json`, which privd writes into the cage.

The harness lives by it; brokerd and egressd get the same values from privd. It holds no secret.
"""

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.limits import (
    COMMAND_CHARS_MAX,
    COMMANDS_MAX,
    EGRESS_CONNECTIONS_MAX,
    EGRESS_HOSTS_MAX,
    ENVIRONMENT_MAX,
    ICON_CHARS_MAX,
    MCP_SERVERS_MAX,
    MCP_WORDS_MAX,
    PRONOUNS_CHARS_MAX,
    RECIPIENTS_MAX,
    ROLE_PROMPT_CHARS_MAX,
    STANDING_REMINDERS_MAX,
)
from protocol.names import MODEL_PATTERN, AccountName, AgentName, HostPattern, Recipient
from protocol.reminders import CronExpression, EverySeconds, OnlyIf, ReminderText, ZoneName

SETTINGS_PATH: Final = "/etc/hyperhive/agent.json"
MODEL_DEFAULT: Final = "haiku"
ACCOUNT_DEFAULT: Final = "default"


class AgentRole(StrEnum):
    """What an agent may ask of the hive."""

    AGENT = "agent"
    MANAGER = "manager"


class Runner(StrEnum):
    """Which agent CLI drives the turns."""

    CLAUDE = "claude"
    DEMO = "demo"


class Credential(StrEnum):
    """Who holds what the model API asks for."""

    CAGE = "cage"
    """The agent itself, in its credential folder; its connections to the API are tunnels that nobody reads."""
    EGRESS = "egress"
    """egressd, which adds it to each request; no file, variable or process of the cage holds it."""


ModelName = Annotated[str, Meta(pattern=MODEL_PATTERN)]
VariableName = Annotated[str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]{0,63}\Z")]
VariableValue = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f]{0,1024}\Z")]


ServerName = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9_-]{0,31}\Z")]
LineText = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f]{1,1024}\Z")]
CommandPattern = Annotated[str, Meta(pattern=rf"\A[^\x00-\x1f\x7f]{{1,{COMMAND_CHARS_MAX}}}\Z")]
Icon = Annotated[str, Meta(pattern=rf"\A[^\x00-\x1f\x7f]{{0,{ICON_CHARS_MAX}}}\Z")]
Pronouns = Annotated[str, Meta(pattern=rf"\A[^\x00-\x1f\x7f]{{0,{PRONOUNS_CHARS_MAX}}}\Z")]
OWN_SERVER: Final = "hyperhive"
"""The MCP server that every agent has: the hive's own."""


class McpServer(Struct, frozen=True, forbid_unknown_fields=True):
    """A further MCP server of an agent: a program that speaks over standard input and output, run in the cage."""

    command: Annotated[tuple[LineText, ...], Meta(min_length=1, max_length=MCP_WORDS_MAX)]
    environment: Annotated[dict[VariableName, VariableValue], Meta(max_length=ENVIRONMENT_MAX)] = {}


class StandingReminder(Struct, frozen=True, forbid_unknown_fields=True):
    """A reminder that the configuration sets; exactly one of `every_s` and `cron`. The name tells it from others."""

    name: ServerName
    body: ReminderText
    every_s: EverySeconds | None = None
    cron: CronExpression | None = None
    zone: ZoneName | None = None
    """Of `cron`; None is UTC."""
    only_if: OnlyIf | None = None


class CageLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """What one cage may use at most; None leaves a resource to the host."""

    memory_mib_max: Annotated[int, Meta(ge=64, le=1_048_576)] | None = 4_096
    tasks_max: Annotated[int, Meta(ge=16, le=100_000)] | None = 512
    cpu_percent_max: Annotated[int, Meta(ge=5, le=6_400)] | None = 200
    files_max: Annotated[int, Meta(ge=64, le=1_048_576)] | None = 4_096
    """Open at once, by each process."""
    disk_mib_max: Annotated[int, Meta(ge=64, le=16_777_216)] | None = 16_384
    """Of everything that its users own on the host's disk."""


class EgressLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """How much one agent may send and fetch through egressd; None is no bound."""

    connections_max: Annotated[int, Meta(ge=1, le=EGRESS_CONNECTIONS_MAX)] = EGRESS_CONNECTIONS_MAX
    """Open at once."""
    out_mib_per_hour_max: Annotated[int, Meta(ge=1, le=1_048_576)] | None = 1_024
    in_mib_per_hour_max: Annotated[int, Meta(ge=1, le=1_048_576)] | None = None


class AgentSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """One agent's settings as deployed."""

    name: AgentName
    role: AgentRole = AgentRole.AGENT
    runner: Runner = Runner.DEMO
    model: ModelName = MODEL_DEFAULT
    role_prompt: Annotated[str, Meta(max_length=ROLE_PROMPT_CHARS_MAX)] = ""
    allowed_recipients: Annotated[tuple[Recipient, ...], Meta(max_length=RECIPIENTS_MAX)] | None = None
    """Whom the agent may write to; None is everyone, an empty tuple nobody but the manager and the operator."""
    egress_hosts: Annotated[tuple[HostPattern, ...], Meta(max_length=EGRESS_HOSTS_MAX)] = ()
    """Where egressd connects to for this agent, beside the model API; an empty tuple is nowhere."""
    egress_limits: EgressLimits = EgressLimits()
    account: AccountName = ACCOUNT_DEFAULT
    """The model account that pays for the agent: agents of one account reach its limits together."""
    credential: Credential = Credential.CAGE
    environment: Annotated[dict[VariableName, VariableValue], Meta(max_length=ENVIRONMENT_MAX)] = {}
    limits: CageLimits = CageLimits()
    api_base_url: Annotated[str, Meta(max_length=300)] | None = None
    """The model API, when it is not the CLI's own default."""
    icon: Icon = ""
    """A sign or two that stand beside the agent's name on the dashboard; empty is none."""
    pronouns: Pronouns = ""
    allowed_commands: Annotated[tuple[CommandPattern, ...], Meta(max_length=COMMANDS_MAX)] | None = None
    """Patterns of the shell commands that the agent's CLI may run; None is every command, an empty tuple none."""
    mcp_servers: Annotated[dict[ServerName, McpServer], Meta(max_length=MCP_SERVERS_MAX)] = {}
    """Beside the hive's own, which no configuration can replace."""
    reminders: Annotated[tuple[StandingReminder, ...], Meta(max_length=STANDING_REMINDERS_MAX)] = ()
