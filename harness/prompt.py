"""The start-up prompt: who the agent is, how the hive works, its own role, and the notes that it kept.

The role prompt is given to the CLI with every turn; the notes stand in the first wake prompt of a conversation.
Together, and with the tools, they stay under `policy.budget.STARTUP_TOKENS_MAX`.
"""

from pathlib import Path
from typing import Final

from msgspec import Struct

from harness.policy.budget import share
from protocol.settings import AgentRole, AgentSettings

FOLDER: Final = Path(__file__).parent / "prompts"
ROLE_HEADING: Final = "\n# Your role\n\n"


class StartupPrompt(Struct, frozen=True):
    """What a conversation begins with."""

    role: str
    notes: str


def startup_prompt(settings: AgentSettings, untrusted_notes: str, notes_path: str) -> StartupPrompt:
    """Put the prompt together; a role prompt or notes that are too long are cut, and say so."""
    parts = [(FOLDER / "agent.md").read_text("utf-8")]
    if settings.role is AgentRole.MANAGER:
        parts.append((FOLDER / "manager.md").read_text("utf-8"))
    base = "\n".join(parts).replace("{name}", settings.name) + ROLE_HEADING
    role, notes = share(base, settings.role_prompt.strip(), untrusted_notes.strip(), notes_path=notes_path)
    return StartupPrompt(base + role if role else base.removesuffix(ROLE_HEADING), notes)
