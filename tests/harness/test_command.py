"""The command line of Claude Code, written out; and the conversation that it continues."""

import json
import stat
from pathlib import Path

import pytest

from harness.claude.command import Conversation, Paths, command, mcp_config
from harness.claude.conversation import Conversations
from protocol.settings import AgentSettings, McpServer, Runner
from runtime.log import logger

ID = "0a1b2c3d-0000-4000-8000-0123456789ab"
PATHS = Paths(
    program="/opt/hive/claude/claude",
    search="/usr/bin:/bin",
    home="/agents/iris/state",
    config="/agents/iris/claude",
    mcp_config="/run/harness/mcp.json",
    role_prompt="/run/harness/role.md",
)
SETTINGS = AgentSettings("iris", runner=Runner.CLAUDE, model="haiku")


def test_the_first_run_of_a_conversation() -> None:
    made = command(SETTINGS, PATHS, Conversation(ID, begun=False))
    assert " ".join(made.argv) == (
        "/opt/hive/claude/claude -p --output-format stream-json --verbose --model haiku "
        f"--session-id {ID} --strict-mcp-config --mcp-config /run/harness/mcp.json "
        "--append-system-prompt-file /run/harness/role.md --system-prompt-snapshot off --setting-sources  "
        "--allowedTools mcp__hyperhive Edit Glob Grep NotebookEdit Read Skill Task Agent ToolSearch WebFetch "
        "WebSearch Write Bash "
        "--disallowedTools SendMessage ListAgents CronCreate CronDelete CronList Monitor RemoteTrigger "
        "ScheduleWakeup AskUserQuestion"
    )
    assert made.env == {
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "4",
        "CLAUDE_CONFIG_DIR": "/agents/iris/claude",
        "HIVE_DEFAULT_MODEL": "haiku",
        "HOME": "/agents/iris/state",
        "HTTPS_PROXY": "http://127.0.0.1:3128",
        "LANG": "C.UTF-8",
        "NO_PROXY": "localhost,127.0.0.1",
        "PATH": "/usr/bin:/bin",
    }
    assert made.cwd == "/agents/iris/state"


def test_the_following_runs_name_the_conversation_and_never_the_latest() -> None:
    argv = command(SETTINGS, PATHS, Conversation(ID, begun=True)).argv
    assert argv[argv.index("--resume") + 1] == ID
    assert not {"--session-id", "--continue", "-c"} & set(argv)


def test_an_empty_value_stays_an_argument() -> None:
    argv = command(SETTINGS, PATHS, Conversation(ID, begun=True)).argv
    assert argv[argv.index("--setting-sources") + 1] == ""


def test_the_key_is_read_by_the_cli_itself() -> None:
    paths = Paths(
        **{name: getattr(PATHS, name) for name in PATHS.__struct_fields__} | {"api_key": "/a b/k'ey"}
    )
    made = command(SETTINGS, paths, Conversation(ID, begun=True))
    given = json.loads(made.argv[made.argv.index("--settings") + 1])
    assert given == {"apiKeyHelper": "cat '/a b/k'\\''ey'"}
    assert not any("KEY" in name for name in made.env)


def test_without_a_key_of_its_own_the_cli_asks_at_the_model_socket() -> None:
    given = {name: getattr(PATHS, name) for name in PATHS.__struct_fields__}
    paths = Paths(**given | {"api_key": "/old/key", "model_socket": "/run/hive/egress/model.sock"})
    settings = AgentSettings("iris", api_base_url="https://api.test/x")
    made = command(settings, paths, Conversation(ID, begun=True))
    assert made.env["ANTHROPIC_UNIX_SOCKET"] == "/run/hive/egress/model.sock"
    assert made.env["ANTHROPIC_BASE_URL"] == "http://localhost"
    told = json.loads(made.argv[made.argv.index("--settings") + 1])
    assert told == {"apiKeyHelper": "echo held-by-egressd"}
    assert "/old/key" not in " ".join(made.argv)


def test_settings_add_to_the_environment_and_cannot_change_what_is_ours() -> None:
    settings = AgentSettings(
        "iris",
        environment={
            "TZ": "UTC",
            "HOME": "/elsewhere",
            "HTTPS_PROXY": "http://evil",
            "CLAUDE_CODE_MAX_RETRIES": "0",
        },
        api_base_url="https://api.test/x",
    )
    env = command(settings, PATHS, Conversation(ID, begun=True)).env
    assert env["TZ"] == "UTC"
    assert env["HOME"] == "/agents/iris/state"
    assert env["HTTPS_PROXY"] == "http://127.0.0.1:3128"
    assert env["CLAUDE_CODE_MAX_RETRIES"] == "0"
    assert env["ANTHROPIC_BASE_URL"] == "https://api.test/x"
    assert "NODE_EXTRA_CA_CERTS" not in env


def test_the_tools_stand_in_the_prompt_from_the_start() -> None:
    config = json.loads(mcp_config("/opt/hive/env/bin/python", "/run/harness/mcp.sock"))
    assert config == {
        "mcpServers": {
            "hyperhive": {
                "type": "stdio",
                "command": "/opt/hive/env/bin/python",
                "args": ["-I", "-m", "harness.bridge", "/run/harness/mcp.sock"],
                "env": {},
                "alwaysLoad": True,
            }
        }
    }


def option(argv: tuple[str, ...], name: str) -> list[str]:
    """The words behind an option."""
    after = argv[argv.index(name) + 1 :]
    return list(after[: next((at for at, word in enumerate(after) if word.startswith("--")), None)])


def test_the_operators_choice_of_a_model_goes_before_the_settings() -> None:
    made = command(SETTINGS, PATHS, Conversation(ID, begun=True), "opus")
    assert option(made.argv, "--model") == ["opus"]
    assert made.env["HIVE_DEFAULT_MODEL"] == "haiku"


def test_each_pattern_of_a_command_is_one_rule_whatever_is_in_it() -> None:
    patterns = ("git *", "make test", "echo), Bash(*", "a,b c")
    argv = command(AgentSettings("iris", allowed_commands=patterns), PATHS, Conversation(ID, begun=True)).argv
    given = json.loads(option(argv, "--settings")[0])
    assert given == {
        "permissions": {
            "allow": ["Bash(git *)", "Bash(make test)", "Bash(echo), Bash(*)", "Bash(a,b c)"],
        }
    }
    assert "Bash" not in option(argv, "--allowedTools")
    assert "Bash" not in option(argv, "--disallowedTools")


def test_without_any_command_there_is_no_shell() -> None:
    argv = command(AgentSettings("iris", allowed_commands=()), PATHS, Conversation(ID, begun=True)).argv
    assert "Bash" not in option(argv, "--allowedTools")
    assert "Bash" in option(argv, "--disallowedTools")
    assert "--settings" not in argv


def test_further_servers_stand_beside_ours_and_never_in_its_place() -> None:
    servers = {
        "weather": McpServer(("/agents/iris/state/bin/weather", "--fast"), {"CITY": "Ulm"}),
        "hyperhive": McpServer(("/bin/evil",)),
    }
    config = json.loads(mcp_config("/opt/hive/env/bin/python", "/run/harness/mcp.sock", servers))[
        "mcpServers"
    ]
    assert set(config) == {"hyperhive", "weather"}
    assert config["hyperhive"]["command"] == "/opt/hive/env/bin/python"
    assert config["weather"] == {
        "type": "stdio",
        "command": "/agents/iris/state/bin/weather",
        "args": ["--fast"],
        "env": {"CITY": "Ulm"},
    }
    argv = command(AgentSettings("iris", mcp_servers=servers), PATHS, Conversation(ID, begun=True)).argv
    allowed = [word for word in option(argv, "--allowedTools") if word.startswith("mcp__")]
    assert allowed == ["mcp__hyperhive", "mcp__weather"]


def test_a_conversation_is_on_disk_before_the_cli_hears_of_it(tmp_path: Path) -> None:
    conversations = Conversations(tmp_path, logger("test"))
    first = conversations.current()
    assert not first.begun
    assert not list(tmp_path.iterdir())
    conversations.begin(first)
    assert conversations.current() == Conversation(first.id, begun=True)
    again = Conversations(tmp_path, logger("test"))
    assert again.current() == Conversation(first.id, begun=True)
    assert stat.S_ISREG((tmp_path / "conversation.json").stat().st_mode)
    again.forget()
    assert not again.current().begun
    assert again.current().id != first.id
    again.forget()  # nothing to forget is no fault


@pytest.mark.parametrize(
    "content", ["", "{", "{}", '{"conversation": "latest"}', '{"conversation": 7}', "\x00"]
)
def test_a_record_that_cannot_be_read_begins_afresh(tmp_path: Path, content: str) -> None:
    (tmp_path / "conversation.json").write_text(content)
    assert not Conversations(tmp_path, logger("test")).current().begun
