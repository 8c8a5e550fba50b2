"""Idempotency keys: the browser's, and what the daemons are given for them."""

import hashlib
from typing import Annotated, Final

from msgspec import Meta

BROWSER_KEY: Final = r"\A[A-Za-z0-9_-]{22}\Z"
BrowserKey = Annotated[
    str, Meta(pattern=BROWSER_KEY, description="22 characters of base64url, one per intent")
]


def request_key(operator: str, key: str) -> str:
    """The key a daemon gets: the same for the same operator and browser key, and nobody else's."""
    return hashlib.sha256(f"{operator}\0{key}".encode()).hexdigest()[:32]
