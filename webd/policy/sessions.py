"""How long a login link and a session live, and what is said when they do not."""

from dataclasses import dataclass
from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
LINK_MS: Final = 5 * MINUTE_MS
IDLE_MS: Final = 12 * HOUR_MS
ABSOLUTE_MS: Final = 7 * 24 * HOUR_MS
SEEN_EVERY_MS: Final = MINUTE_MS
"""A session's last use is written down at most this often."""
LINKS_KEPT_MS: Final = 24 * HOUR_MS
"""How long a link that no longer works is remembered, so that it can be said why."""


@dataclass(frozen=True)
class Link:
    """A login link as it is stored."""

    operator: str
    expires_ms: int
    used_ms: int | None = None


def link_fault(link: Link | None, now_ms: int) -> str | None:
    """Why this link signs nobody in, or None when it does."""
    if link is None:
        return "this link is not known here"
    if link.used_ms is not None:
        return "this link was already used"
    if now_ms >= link.expires_ms:
        return "this link has expired"
    return None


def ends_ms(began_ms: int, seen_ms: int) -> int:
    """When a session ends unless it is used again before."""
    return min(began_ms + ABSOLUTE_MS, seen_ms + IDLE_MS)


def is_over(began_ms: int, seen_ms: int, now_ms: int) -> bool:
    return now_ms >= ends_ms(began_ms, seen_ms)
