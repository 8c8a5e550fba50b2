"""How a text of TOML is built, found out before it is decoded. Pure, and linear in the text's length.

The decoder keeps every beginning of a dotted key, and calls itself for every nesting: a small file can take all memory.
"""

import re
from typing import Final

from protocol.problem import Problem, Refused

KEY_PARTS_MAX: Final = 8
"""Of one dotted key, or one table's name; `mcp_servers.<name>.environment.<variable>` has four."""
NESTING_MAX: Final = 16
"""Arrays and inline tables within each other."""
TOKEN: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"""'
    r"|'''"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|[\"'.\[\]{}=,\n]",
    re.DOTALL,
)
"""A string, a comment, or a sign that means something. What is between them does not."""
ENDLESS: Final = frozenset({'"', "'", '"""', "'''"})
"""What a string begins with, where no end follows."""


def check(text: str, file: str) -> None:
    """Refused(limit) for a key of too many parts, (malformed) for what is nested too deeply or never closed.

    A text that is no TOML may pass: the decoder stops where this one would go wrong.
    """
    dots = depth = 0
    for found in TOKEN.finditer(text):
        sign = found[0]
        if sign in ENDLESS:
            raise _fault(Problem.MALFORMED, text, found, file, "it is not TOML: a string has no end")
        if sign == ".":
            dots += 1
        elif sign in {"[", "]", "{", "}", "=", ",", "\n"}:
            dots = 0
            depth += 1 if sign in {"[", "{"} else -1 if sign in {"]", "}"} else 0
        if dots >= KEY_PARTS_MAX:
            raise _fault(
                Problem.LIMIT, text, found, file, f"a key has more than {KEY_PARTS_MAX} parts between dots"
            )
        if depth > NESTING_MAX:
            raise _fault(Problem.MALFORMED, text, found, file, "it is nested too deeply")


def _fault(problem: Problem, text: str, found: re.Match[str], file: str, reason: str) -> Refused:
    return Refused(problem, f"{file}: line {text.count(chr(10), 0, found.start()) + 1}: {reason}")
