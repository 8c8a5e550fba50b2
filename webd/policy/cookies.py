"""The session's cookie: its name, its attributes, and reading it back."""

import re
from typing import Final

TOKEN: Final = re.compile(r"\A[A-Za-z0-9_-]{43}\Z")
"""32 random bytes as base64url."""


def cookie_name(port: int, *, https: bool) -> str:
    """Cookies ignore ports, so the port is in the name: two hives on one host keep out of each other's way."""
    return f"__Host-hive{port}" if https else f"hive{port}"


def set_cookie(name: str, token: str, seconds: int, *, https: bool) -> str:
    """The header that sets (or, with an empty token, ends) the session's cookie."""
    secure = "; Secure" if https else ""
    return f"{name}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


def read_cookie(header: str | None, name: str) -> str | None:
    """The token in a Cookie header; None unless there is exactly one well-formed candidate."""
    found = [
        value.strip()
        for key, _, value in (part.partition("=") for part in (header or "").split(";"))
        if key.strip() == name
    ]
    if len(found) != 1 or not TOKEN.match(found[0]):
        return None
    return found[0]
