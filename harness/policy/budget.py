"""What fits into the start-up prompt, and what a cut looks like. Everything that is cut says so."""

from typing import Final

BYTES_PER_TOKEN: Final = 4
"""A rule of thumb for English prose; close enough for a bound."""
STARTUP_TOKENS_MAX: Final = 4_000
"""Everything of ours that a conversation begins with: prompt, role, notes and the list of tools."""
TOOLS_TOKENS_MAX: Final = 1_500
"""The tools with their descriptions and schemas, as the model API gets them."""
PROMPT_BYTES_MAX: Final = (STARTUP_TOKENS_MAX - TOOLS_TOKENS_MAX) * BYTES_PER_TOKEN
NOTES_BYTES_MIN: Final = 2_000
"""Kept free for the agent's own notes, however long its role prompt is."""


def tokens(text: str) -> int:
    """Estimate how many tokens *text* takes."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def cut_chars(text: str, chars_max: int) -> str:
    """*text* in at most *chars_max* characters; a cut ends with a note that says how much is missing."""
    if len(text) <= chars_max:
        return text
    kept = chars_max
    note = ""
    for _ in range(2):  # the note's own length moves the cut once
        note = f" […{len(text) - kept} more characters]"
        kept = max(0, chars_max - len(note))
    return (text[:kept] + note)[:chars_max]


def cut_bytes(text: str, bytes_max: int, where: str) -> str:
    """*text* in at most *bytes_max* bytes of UTF-8 (more than the note takes); the note says *where* the whole is."""
    encoded = text.encode()
    if len(encoded) <= bytes_max:
        return text
    note = f"\n[cut: the first part of {len(encoded)} bytes; the whole is in {where}]"
    kept = max(0, bytes_max - len(note.encode()))
    return encoded[:kept].decode(errors="ignore") + note


def share(base: str, role: str, notes: str, *, notes_path: str) -> tuple[str, str]:
    """Cut role prompt and notes so that, with *base*, the start-up prompt leaves the tools their room."""
    free = PROMPT_BYTES_MAX - len(base.encode())
    role = cut_bytes(role, max(0, free - NOTES_BYTES_MIN), "the agent's settings")
    notes = cut_bytes(notes, max(0, free - len(role.encode())), notes_path)
    return role, notes
