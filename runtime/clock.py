"""The wall clock and fresh keys: the only places where time and chance enter our processes."""

import secrets
import time


def now_ms() -> int:
    """Milliseconds since the epoch, for people and records. Order never follows from it; ids do that."""
    return time.time_ns() // 1_000_000


def new_key() -> str:
    """A fresh idempotency key, token or incident: 32 hex digits from the system's randomness."""
    return secrets.token_hex(16)


def new_request_key() -> str:
    """A fresh idempotency key: the time, then 80 random bits.

    Those of a moment lie together where they are kept (brokerd.store.keys).
    """
    return f"{now_ms():012x}{secrets.token_hex(10)}"


def new_secret() -> str:
    """32 fresh random bytes as 43 characters that may stand in an address or a cookie."""
    return secrets.token_urlsafe(32)
