"""The start-up prompt: who the agent is, how the hive works, its own role, and the notes that it kept.

The role prompt is given to the CLI with every turn; the notes stand in the first wake prompt of a conversation.
Together, and with the tools, they stay under `policy.budget.STARTUP_TOKENS_MAX`.
"""

from pathlib import Path
from typing import Final

from msgspec import Struct

from harness.claude.command import further
from harness.policy.budget import cut_chars, share
from protocol.settings import AgentRole, AgentSettings

FOLDER: Final = Path(__file__).parent / "prompts"
ROLE_HEADING: Final = "\n# Your role\n\n"
SET_HEADING: Final = "\n# What your configuration says\n\n"
COMMANDS_CHARS_MAX: Final = 600
"""Of the patterns of commands; the CLI knows all of them."""


class StartupPrompt(Struct, frozen=True):
    """What a conversation begins with."""

    role: str
    notes: str


def startup_prompt(settings: AgentSettings, untrusted_notes: str, notes_path: str) -> StartupPrompt:
    """Put the prompt together; a role prompt or notes that are too long are cut, and say so."""
    parts = [(FOLDER / "agent.md").read_text("utf-8")]
    if settings.role is AgentRole.MANAGER:
        parts.append((FOLDER / "manager.md").read_text("utf-8"))
    base = "\n".join(parts).replace("{name}", settings.name) + _set(settings) + ROLE_HEADING
    role, notes = share(base, settings.role_prompt.strip(), untrusted_notes.strip(), notes_path=notes_path)
    return StartupPrompt(base + role if role else base.removesuffix(ROLE_HEADING), notes)


def _set(settings: AgentSettings) -> str:
    """What an agent cannot see of its own settings and should know; empty when nothing is out of the ordinary."""
    lines = []
    if settings.pronouns:
        lines.append(f"- You go by {settings.pronouns}.")
    if settings.allowed_commands == ():
        lines.append("- You run no shell commands.")
    elif settings.allowed_commands is not None:
        patterns = cut_chars(", ".join(f"`{each}`" for each in settings.allowed_commands), COMMANDS_CHARS_MAX)
        lines.append(
            f"- Of shell commands you may run these: {patterns}, and what only reads in your working folder."
        )
    if servers := further(settings.mcp_servers):
        prefixes = ", ".join(f"`mcp__{name}__…`" for name in servers)
        lines.append(f"- You have more tools, of further MCP servers: {prefixes}.")
    return SET_HEADING + "\n".join(lines) + "\n" if lines else ""
