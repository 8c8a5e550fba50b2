"""Which threads are still open for an agent, and for whom they wait. Pure."""

from typing import Final

from msgspec import Struct

from protocol.names import MANAGER_ALIAS
from protocol.tools import OpenThread

LINE_CHARS_MAX: Final = 200
"""Of how a thread's last message begins."""


class LastWord(Struct, frozen=True):
    """The newest message of a thread that one agent wrote or got, and who began the thread (None: forgotten)."""

    thread: int
    message: int
    began_by: str | None
    sender: str
    to: str
    sent_ms: int
    body: str
    """Its beginning, more than LINE_CHARS_MAX characters of it if there are so many."""


def open_thread(last: LastWord, agent: str, manager: str | None) -> OpenThread | None:
    """The thread as `agent` sees it; None when it is settled.

    It waits for the agent when the other side had the last word. When the agent had it, it waits for the other side
    if the agent began it: nobody answered. Otherwise the agent has answered what it was asked.
    """
    is_mine = last.sender == agent
    if is_mine and last.began_by != agent:
        return None
    other = last.to if is_mine else last.sender
    if other == MANAGER_ALIAS and manager is not None:
        other = manager
    return OpenThread(
        thread=last.thread,
        other=other,
        waits_for=other if is_mine else agent,
        last_message=last.message,
        last_ms=last.sent_ms,
        text=_line(last.body),
    )


def _line(body: str) -> str:
    line = " ".join(body.split())
    return line if len(line) <= LINE_CHARS_MAX else line[: LINE_CHARS_MAX - 1] + "…"
