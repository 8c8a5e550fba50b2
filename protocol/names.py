r"""The names that cross a socket and the rules they obey; nothing here touches a file or a process.

An agent's name becomes a folder, a host name, a unit and an argument, so it is checked here once, on decode, and
no second spelling exists. Patterns end in ``\Z``: ``$`` would let ``"iris\n"`` through.
"""

import re
from typing import Annotated, Final

from msgspec import Meta

AGENT_NAME_CHARS_MAX: Final = 9
AGENT_NAME_PATTERN: Final = r"\A[a-z][a-z0-9]{0,8}\Z"
RECIPIENT_PATTERN: Final = r"\A(?:\*|[a-z][a-z0-9]{0,8})\Z"
KEY_PATTERN: Final = r"\A[0-9a-f]{32}\Z"
MODEL_PATTERN: Final = r"\A[A-Za-z0-9][A-Za-z0-9._:/\[\]-]{0,79}\Z"
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})"
_NUMBERED: Final = r"\[[0-9A-Fa-f:.]{2,45}\]"
"""An IPv6 address, whose own colons need brackets around it; egressd says whether it is one."""
HOST_PATTERN: Final = rf"\A(?:(?:\*\.)?(?:{_LABEL}\.)*{_LABEL}|{_NUMBERED})(?::[0-9]{{1,5}})?\Z"
ACCOUNT_PATTERN: Final = r"\A[a-z][a-z0-9-]{0,31}\Z"
STATE_PATH_PATTERN: Final = r"\A[^\x00]{0,1024}\Z"
MANAGER_NAME: Final = "hm1nd"
"""The agent that holds the manager role."""
OPERATOR: Final = "operator"
SYSTEM: Final = "system"
EVERYONE: Final = "*"
MANAGER_ALIAS: Final = "manager"
"""As a recipient: whoever holds the manager role."""
RESERVED_NAMES: Final = frozenset(
    {
        MANAGER_ALIAS,
        OPERATOR,
        SYSTEM,
        "all",
        "host",
        "shared",
        "self",
        "root",
        "none",
        "harness",
        "agent",
        "privd",
        "webd",
        "brokerd",
        "egressd",
    }
)

AGENT_NAME_RULE: Final = "lowercase letters and digits, starting with a letter, at most 9 characters"

AgentName = Annotated[str, Meta(pattern=AGENT_NAME_PATTERN, description=AGENT_NAME_RULE)]
"""One agent's name. The pattern admits reserved words; creation refuses them (`agent_name_fault`)."""

Recipient = Annotated[
    str,
    Meta(
        pattern=RECIPIENT_PATTERN,
        description="an agent's name, `manager`, `operator`, or `*` for everyone else",
    ),
]

RequestKey = Annotated[
    str,
    Meta(
        pattern=KEY_PATTERN,
        description="32 hex digits made by the client; the same key never acts twice",
    ),
]

HostPattern = Annotated[
    str,
    Meta(
        pattern=HOST_PATTERN,
        max_length=260,
        description="host, host:port, *.domain or [IPv6 address]; port 443 when none is given",
    ),
]


AccountName = Annotated[
    str,
    Meta(
        pattern=ACCOUNT_PATTERN,
        description="a model account: lowercase letters, digits and -, at most 32 characters",
    ),
]

StatePath = Annotated[
    str,
    Meta(
        pattern=STATE_PATH_PATTERN,
        description="a place below the agent's state folder, parts divided by /; empty means the folder itself",
    ),
]
"""Followed by the kernel with every link refused, as the agent's own uid; no text of it is trusted for that."""


RULES: Final = {
    ACCOUNT_PATTERN: "a model account: lowercase letters, digits and -, at most 32 characters",
    STATE_PATH_PATTERN: "a place below the agent's state folder: at most 1024 characters and no NUL",
    AGENT_NAME_PATTERN: f"an agent's name: {AGENT_NAME_RULE}",
    RECIPIENT_PATTERN: "an agent's name, `manager`, `operator`, or `*`",
    KEY_PATTERN: "32 hex digits in lower case",
    HOST_PATTERN: "host, host:port, *.domain or [IPv6 address]",
    MODEL_PATTERN: "a model's name: letters, digits and . _ : / [ ] -, at most 80 of them",
}
"""Patterns in words, for whoever broke one."""


def in_words(fault: str) -> str:
    """A decoder's complaint with the patterns of this page replaced by what they mean."""
    for pattern, words in RULES.items():
        fault = fault.replace(f"`str` matching regex {pattern!r}", words)
    return fault


def agent_name_fault(name: str) -> str | None:
    """Say why *name* cannot be given to a new agent, or None when it can. Never echoes control characters."""
    if not name:
        return "the name is empty"
    if len(name) > AGENT_NAME_CHARS_MAX:
        return f"the name has {len(name)} characters, at most {AGENT_NAME_CHARS_MAX} are allowed"
    if not re.search(AGENT_NAME_PATTERN, name):
        return f"{name!a} is not a name: {AGENT_NAME_RULE}"
    if name in RESERVED_NAMES:
        return f"{name!r} is reserved"
    return None
