"""Addresses: a pattern's fixed and named segments, matched without decoding anything, and queries."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from protocol.names import ACCOUNT_PATTERN, AGENT_NAME_PATTERN
from protocol.problem import Problem, Refused

FIELDS_MAX: Final = 16
NUMBERED: Final = ("message", "delivery", "thread", "question", "reminder", "proposal", "deployment")
"""What is called by its number in an address."""
_RULES: Final = {
    "account": re.compile(ACCOUNT_PATTERN),
    "agent": re.compile(AGENT_NAME_PATTERN),
    **dict.fromkeys(NUMBERED, re.compile(r"\A[1-9][0-9]{0,14}\Z")),
    "topic": re.compile(r"\A[a-z0-9:]{1,20}\Z"),
}
"""What a named segment may be; what breaks its rule is simply not found."""


def match(pattern: str, path: str) -> Mapping[str, str] | None:
    """The named segments of *path*, or None when it is not of this pattern."""
    wanted, given = pattern.split("/"), path.split("/")
    if len(wanted) != len(given):
        return None
    named: dict[str, str] = {}
    for want, have in zip(wanted, given, strict=True):
        if want.startswith("{"):
            name = want[1:-1]
            if not _RULES[name].match(have):
                return None
            named[name] = have
        elif want != have:
            return None
    return named


def parse_query(query: str) -> dict[str, str]:
    """`a=1&b=2` as a dictionary. Refused(malformed) when it has more parts than any page of ours writes."""
    try:
        pairs: list[tuple[str, str]] = parse_qsl(query, keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError:
        raise Refused(Problem.MALFORMED, f"more than {FIELDS_MAX} parts in the query") from None
    return dict(pairs)
