"""Text from agents made plain: no escape sequence, no control character, nothing that reorders what is read."""

import re
from typing import Final

TEXT_CHARS_MAX: Final = 16 * 1024
CUT: Final = "… (cut)"

_SEQUENCES: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # control sequences: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # strings: titles, links
    r"|\x1b[ -/]*[0-~]"  # everything else that an escape starts
)
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str, chars_max: int | None = None) -> str:
    """*text* without ANSI sequences, control and bidi-override characters; line breaks and tabs stay."""
    if not text.isprintable():
        text = _CONTROLS.sub("", _SEQUENCES.sub("", text))
    if chars_max is not None and len(text) > chars_max:
        text = text[:chars_max] + CUT
    return text
