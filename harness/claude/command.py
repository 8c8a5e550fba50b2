"""The command line and environment of one `claude` run. Pure: settings and paths in, argv and environment out."""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from harness.claude.reader import SERVER
from harness.cli import Command
from protocol.settings import AgentSettings

PROXY: Final = "http://127.0.0.1:3128"
"""The forwarder in the cage (harness.forwarder)."""
WAY_OUT: Final = {"HTTPS_PROXY": PROXY, "NO_PROXY": "localhost,127.0.0.1"}
"""What tells the agent's programs of it."""
ALLOWED_TOOLS: Final = (
    f"mcp__{SERVER}",
    "Bash",
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
PLACEHOLDER: Final = '{"apiKeyHelper":"echo held-by-egressd"}'
"""The CLI asks nothing of an API without a key of its own; egressd drops this one and adds the real one."""
RETRIES: Final = "4"
"""The CLI's own retries of a failing API, some eight seconds; after that the hive waits, where the operator sees it."""


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


def command(settings: AgentSettings, paths: Paths, conversation: Conversation) -> Command:
    """Build one run. The prompt is not part of it: it goes to standard input, out of sight of `ps`."""
    argv = [
        paths.program,
        "-p",
        "--output-format",
        "stream-json",
        "--verbose",
        "--model",
        settings.model,
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
    if paths.model_socket is not None:
        argv += ["--settings", PLACEHOLDER]
    elif paths.api_key is not None:
        argv += ["--settings", key_helper(paths.api_key)]
    # Variadic options last: each would swallow what follows.
    argv += ["--allowedTools", *ALLOWED_TOOLS, "--disallowedTools", *DISALLOWED_TOOLS]
    return Command(tuple(argv), environment(settings, paths), paths.home)


def environment(settings: AgentSettings, paths: Paths) -> dict[str, str]:
    """Everything a run's environment holds; nothing of the harness's own is inherited, and no secret is in it."""
    ours = {
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CONFIG_DIR": paths.config,
        "HOME": paths.home,
        "LANG": "C.UTF-8",
        "PATH": paths.search,
    } | WAY_OUT
    if paths.model_socket is not None:
        ours |= {"ANTHROPIC_UNIX_SOCKET": paths.model_socket, "ANTHROPIC_BASE_URL": MODEL_SITE}
    elif settings.api_base_url is not None:
        ours["ANTHROPIC_BASE_URL"] = settings.api_base_url
    if paths.ca is not None:
        ours["NODE_EXTRA_CA_CERTS"] = paths.ca
    return {"CLAUDE_CODE_MAX_RETRIES": RETRIES} | settings.environment | ours


def key_helper(key_file: str) -> str:
    """Settings that make the CLI read its key from a file itself.

    An environment variable would reach every program that the agent runs, and from there its transcripts.
    """
    return msgspec.json.encode({"apiKeyHelper": f"cat {_quoted(key_file)}"}).decode()


def mcp_config(python: str, socket: str, environment: Mapping[str, str] | None = None) -> bytes:
    """The CLI's MCP configuration: the bridge to our own server, whose tools stand in the prompt from the start."""
    server = {
        "type": "stdio",
        "command": python,
        "args": ["-I", "-m", "harness.bridge", socket],
        "env": dict(environment or {}),
        "alwaysLoad": True,
    }
    return msgspec.json.format(msgspec.json.encode({"mcpServers": {SERVER: server}}))


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "'\\''") + "'"
