"""The command line and environment of one `claude` run. Pure: settings and paths in, argv and environment out."""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from harness.cli import Command
from protocol.settings import OWN_SERVER, AgentSettings, McpServer

PROXY: Final = "http://127.0.0.1:3128"
"""The forwarder in the cage (harness.forwarder)."""
WAY_OUT: Final = {"HTTPS_PROXY": PROXY, "NO_PROXY": "localhost,127.0.0.1"}
"""What tells the agent's programs of it."""
SHELL: Final = "Bash"
"""The CLI's tool that runs commands."""
ALLOWED_TOOLS: Final = (
    f"mcp__{OWN_SERVER}",
    "Edit",
    "Glob",
    "Grep",
    "NotebookEdit",
    "Read",
    "Skill",
    "Task",
    "Agent",
    "ToolSearch",
    "WebFetch",
    "WebSearch",
    "Write",
)
"""Nobody sits beside the CLI to approve; the cage is the fence, so what works inside it is allowed."""
DISALLOWED_TOOLS: Final = (
    # These reach other sessions of the CLI behind the hive's back.
    "SendMessage",
    "ListAgents",
    # These promise to act after the turn, when no process is left to do it.
    "CronCreate",
    "CronDelete",
    "CronList",
    "Monitor",
    "RemoteTrigger",
    "ScheduleWakeup",
    # This waits for a person at a terminal.
    "AskUserQuestion",
)


MODEL_SITE: Final = "http://localhost"
"""What stands before the path of a request that goes to the model socket."""
PLACEHOLDER: Final = "echo held-by-egressd"
"""The CLI asks nothing of an API without a key of its own; egressd drops this one and adds the real one."""
RETRIES: Final = "4"
"""The CLI's own retries of a failing API, some eight seconds; after that the hive waits, where the operator sees it."""
MODEL_VARIABLE: Final = "HIVE_DEFAULT_MODEL"
"""Tells the agent's programs which model its configuration names."""


class Paths(Struct, frozen=True):
    """Where the files of a run are, as seen in the cage."""

    program: str
    """The `claude` program."""
    search: str
    """PATH of the run."""
    home: str
    config: str
    """CLAUDE_CONFIG_DIR: credentials and conversations."""
    mcp_config: str
    role_prompt: str
    api_key: str | None = None
    """The file that holds an API key, when the agent has one."""
    ca: str | None = None
    """The file with a certificate to trust, when the agent has one."""
    model_socket: str | None = None
    """Where requests to the model API get their credential on the way out; then nothing in the cage is one."""


class Conversation(Struct, frozen=True):
    """Which conversation a run belongs to, and whether the CLI has it already."""

    id: str
    begun: bool


def command(
    settings: AgentSettings, paths: Paths, conversation: Conversation, model: str | None = None
) -> Command:
    """Build one run. The prompt is not part of it: it goes to standard input, out of sight of `ps`.

    *model* is the operator's choice for now; None is what the settings say.
    """
    argv = [
        paths.program,
        "-p",
        "--output-format",
        "stream-json",
        "--verbose",
        "--model",
        model or settings.model,
        "--resume" if conversation.begun else "--session-id",
        conversation.id,
        "--strict-mcp-config",
        "--mcp-config",
        paths.mcp_config,
        "--append-system-prompt-file",
        paths.role_prompt,
        # Without this a resumed conversation keeps the system prompt of its first turn, whatever the file says now.
        "--system-prompt-snapshot",
        "off",
        "--setting-sources",
        "",
    ]
    if given := cli_settings(settings, paths):
        argv += ["--settings", msgspec.json.encode(given).decode()]
    # Variadic options last: each would swallow what follows.
    argv += ["--allowedTools", *allowed_tools(settings), "--disallowedTools", *disallowed_tools(settings)]
    return Command(tuple(argv), environment(settings, paths), paths.home)


def environment(settings: AgentSettings, paths: Paths) -> dict[str, str]:
    """Everything a run's environment holds; nothing of the harness's own is inherited, and no secret is in it."""
    ours = {
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CONFIG_DIR": paths.config,
        "HOME": paths.home,
        "LANG": "C.UTF-8",
        "PATH": paths.search,
        MODEL_VARIABLE: settings.model,
    } | WAY_OUT
    if paths.model_socket is not None:
        ours |= {"ANTHROPIC_UNIX_SOCKET": paths.model_socket, "ANTHROPIC_BASE_URL": MODEL_SITE}
    elif settings.api_base_url is not None:
        ours["ANTHROPIC_BASE_URL"] = settings.api_base_url
    if paths.ca is not None:
        ours["NODE_EXTRA_CA_CERTS"] = paths.ca
    return {"CLAUDE_CODE_MAX_RETRIES": RETRIES} | settings.environment | ours


def allowed_tools(settings: AgentSettings) -> list[str]:
    """The tools that need no approval: those of every MCP server among them, and the shell unless it is limited."""
    shell = [SHELL] if settings.allowed_commands is None else []
    return [*ALLOWED_TOOLS, *shell, *(f"mcp__{name}" for name in further(settings.mcp_servers))]


def disallowed_tools(settings: AgentSettings) -> list[str]:
    """The tools that are not there at all; the shell is one of them where no command is allowed."""
    return [*DISALLOWED_TOOLS, *([SHELL] if settings.allowed_commands == () else [])]


def cli_settings(settings: AgentSettings, paths: Paths) -> dict[str, object]:
    """What the CLI is told as its settings: how it gets its key, and which commands it may run.

    A key in an environment variable would reach every program that the agent runs, and from there its transcripts.
    Each pattern of a command is one rule here; as an argument, one with a comma or a space could become several.
    """
    given: dict[str, object] = {}
    if paths.model_socket is not None:
        given["apiKeyHelper"] = PLACEHOLDER
    elif paths.api_key is not None:
        given["apiKeyHelper"] = f"cat {_quoted(paths.api_key)}"
    if settings.allowed_commands:
        given["permissions"] = {"allow": [f"{SHELL}({pattern})" for pattern in settings.allowed_commands]}
    return given


def further(servers: Mapping[str, McpServer]) -> dict[str, McpServer]:
    """The servers that a configuration adds; one with the name of ours is none of them."""
    return {name: server for name, server in servers.items() if name != OWN_SERVER}


def mcp_config(
    python: str,
    socket: str,
    servers: Mapping[str, McpServer] | None = None,
    environment: Mapping[str, str] | None = None,
) -> bytes:
    """The CLI's MCP configuration: the bridge to our own server, whose tools stand in the prompt from the start.

    The *servers* of the configuration are beside it; the CLI looks for their tools when it needs them.
    """
    own = {
        "type": "stdio",
        "command": python,
        "args": ["-I", "-m", "harness.bridge", socket],
        "env": dict(environment or {}),
        "alwaysLoad": True,
    }
    others = {
        name: {
            "type": "stdio",
            "command": server.command[0],
            "args": server.command[1:],
            "env": server.environment,
        }
        for name, server in further(servers or {}).items()
    }
    return msgspec.json.format(msgspec.json.encode({"mcpServers": {OWN_SERVER: own} | others}))


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "'\\''") + "'"
