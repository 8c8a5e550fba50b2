"""The start-up prompt: what it says, and that it stays small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.claude.reader import TOOL_PREFIX
from harness.mcp.tools import CARDS
from harness.policy.budget import NOTES_BYTES_MIN, STARTUP_TOKENS_MAX, TOOLS_TOKENS_MAX, tokens
from harness.prompt import startup_prompt
from protocol.limits import (
    COMMAND_CHARS_MAX,
    COMMANDS_MAX,
    MCP_SERVERS_MAX,
    PRONOUNS_CHARS_MAX,
    ROLE_PROMPT_CHARS_MAX,
)
from protocol.names import MANAGER_NAME
from protocol.settings import AgentRole, AgentSettings, McpServer

NOTES = "/agents/iris/state/notes.md"


def test_what_every_agent_is_told() -> None:
    prompt = startup_prompt(AgentSettings("iris"), "", NOTES).role
    assert prompt.startswith("# Who you are\n\nYou are iris,")
    for words in (
        "/agents/iris/state/notes.md",
        "/shared",
        "`send`",
        "`recv`",
        "`ask_operator`",
        "`answer`, never with `send`",
        "`remind`",
        "`only_if`",
        "`open_threads`",
        "`receipt`",
        "returns at once",
        "(at most\n  180)",
        "profile.md",
        "in_reply_to",
        "broadcast",
        "never an order",
    ):
        assert words in prompt
    assert "{" not in prompt
    assert "# You are the manager" not in prompt
    assert "# Your role" not in prompt


def test_the_manager_is_told_more() -> None:
    prompt = startup_prompt(manager(), "", NOTES).role
    assert f"You are {MANAGER_NAME}," in prompt
    assert "# You are the manager" in prompt


def test_what_the_configuration_says_of_an_agent_is_told_to_it() -> None:
    settings = AgentSettings(
        "iris",
        pronouns="it/its",
        allowed_commands=("git *", "make {name}"),
        mcp_servers={"weather": McpServer(("w",)), "hyperhive": McpServer(("evil",))},
    )
    prompt = startup_prompt(settings, "", NOTES).role
    assert "You go by it/its." in prompt
    assert "you may run these: `git *`, `make {name}`," in prompt
    assert "further MCP servers: `mcp__weather__…`." in prompt
    none = startup_prompt(AgentSettings("iris", allowed_commands=()), "", NOTES).role
    assert "You run no shell commands." in none


def test_the_largest_settings_leave_the_notes_their_room() -> None:
    settings = AgentSettings(
        "abcdefghi",
        role=AgentRole.MANAGER,
        pronouns="漢" * PRONOUNS_CHARS_MAX,
        role_prompt="漢" * ROLE_PROMPT_CHARS_MAX,
        allowed_commands=("漢" * COMMAND_CHARS_MAX,) * COMMANDS_MAX,
        mcp_servers={f"{'a' * 30}{n:x}": McpServer(("w",)) for n in range(MCP_SERVERS_MAX)},
    )
    prompt = startup_prompt(settings, "n" * 100_000, NOTES)
    assert tokens(prompt.role + prompt.notes) + TOOLS_TOKENS_MAX <= STARTUP_TOKENS_MAX
    assert len(prompt.notes) >= NOTES_BYTES_MIN - 100
    assert prompt.role.count("漢") > PRONOUNS_CHARS_MAX + 600 - 50


def test_the_role_comes_last_and_cannot_be_mistaken_for_the_frame() -> None:
    settings = AgentSettings("iris", role_prompt="You are {name}, a sweeper.")
    assert startup_prompt(settings, "", NOTES).role.endswith("\n# Your role\n\nYou are {name}, a sweeper.")


@pytest.mark.parametrize("letter", ["a", "é", "漢"])
@pytest.mark.parametrize("notes", [0, 100, 100_000])
def test_the_whole_stays_under_its_bound(letter: str, notes: int) -> None:
    for settings in (AgentSettings("iris", role_prompt=letter * ROLE_PROMPT_CHARS_MAX), manager()):
        prompt = startup_prompt(settings, letter * notes, NOTES)
        assert tokens(prompt.role) + tokens(prompt.notes) + tokens(listed_tools()) <= STARTUP_TOKENS_MAX + 1
        if notes > 10_000:
            assert prompt.notes.endswith(f"the whole is in {NOTES}]")


def listed_tools() -> str:
    """The tools as the agent CLI hands them to the model API."""
    listed = [
        {
            "name": f"{TOOL_PREFIX}{card.name}",
            "description": card.description,
            "input_schema": card.schema,
        }
        for card in CARDS.values()
    ]
    return json.dumps(listed, ensure_ascii=False, separators=(",", ":"))


def test_the_tools_stay_under_theirs() -> None:
    assert tokens(listed_tools()) <= TOOLS_TOKENS_MAX


def test_every_tool_is_told_of() -> None:
    prompt = startup_prompt(manager(), "", NOTES).role
    assert [name for name in CARDS if f"`{name}`" not in prompt] == []


def test_without_a_role_and_notes_it_is_short() -> None:
    assert tokens(startup_prompt(manager(), "", NOTES).role) < 1_200


def manager() -> AgentSettings:
    return AgentSettings(MANAGER_NAME, role=AgentRole.MANAGER, role_prompt="Keep order.")


def look(notes: Path, credentials: Path) -> dict[str, object]:
    command = [sys.executable, "-I", "-m", "harness.look", str(notes), str(credentials)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=20)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_look_at_the_agents_files(tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"
    nothing = {"notes": "", "fault": "", "profile": False, "api_key": False, "ca": False}
    assert look(notes, tmp_path) == nothing
    (tmp_path / "profile.md").symlink_to("nowhere")
    notes.write_bytes(b"broom \xff\x00\n")
    (tmp_path / "api_key").write_text("secret")
    (tmp_path / "ca.pem").write_text("certificate")
    found = look(notes, tmp_path)
    assert found == {
        "notes": "broom \ufffd\ufffd\n",
        "fault": "",
        "profile": True,
        "api_key": True,
        "ca": True,
    }


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "device"])
def test_notes_that_are_no_file_are_a_fault_and_never_read(tmp_path: Path, kind: str) -> None:
    notes = tmp_path / "notes.md"
    (tmp_path / "secret").write_text("a secret")
    match kind:
        case "link":
            notes.symlink_to(tmp_path / "secret")
        case "fifo":
            os.mkfifo(notes)
        case "folder":
            notes.mkdir()
        case _:
            notes.symlink_to("/dev/zero")
    found = look(notes, tmp_path)
    assert found["notes"] == ""
    assert "notes.md: " in str(found["fault"])
