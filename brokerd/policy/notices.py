"""The words of messages that the hive itself sends."""

from collections.abc import Iterable
from typing import Final

NOTICE_BYTES_MAX: Final = 8_000
"""Bytes of one notice; the end of a journal is what tells, so its beginning goes."""


def crash_notice(agent: str, how: str, journal: Iterable[str]) -> str:
    """What the manager is told when a cage ended without being asked."""
    head = f"container_crash: {agent} {how}".replace("\0", "�")[:500]
    left = NOTICE_BYTES_MAX - len(head.encode())
    kept: list[str] = []
    for line in reversed(tuple(journal)):
        text = line.replace("\0", "�")
        left -= len(text.encode()) + 1
        if left < 0:
            kept.append("…")
            break
        kept.append(text)
    return "\n".join([head, *(["last lines of its journal:"] if kept else []), *reversed(kept)])
