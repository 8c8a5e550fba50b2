"""An agent's own files: folders page by page, a part of a file as text, a whole file as a download, and what they take.

webd reads none of them: privd has them read by a box that is the agent's user. What comes back is the agent's text.
"""

import codecs
import re
from typing import Final

from protocol.limits import STATE_CHUNK_BYTES_MAX
from protocol.privd import ListState, MeasureState, ReadState, StateChunk
from protocol.problem import Problem, Refused
from webd.http.answers import BINARY, Answer, Gone, Send, as_json
from webd.policy.text import plain
from webd.visit import Host, Visit

PATH_CHARS_MAX: Final = 1024
DOWNLOAD_BYTES_MAX: Final = 256 * 1024 * 1024
"""Of one file; `hivectl cat` has no such bound."""
FILE_NAME_CHARS_MAX: Final = 100
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")


async def listed(visit: Visit, host: Host) -> Answer:
    """A page of one folder (`?path=`), by name, after the name `after`."""
    page = await host.ask_privd(
        ListState(agent=visit.named["agent"], path=_path(visit), after=_text(visit, "after"))
    )
    return as_json(page)


async def measured(visit: Visit, host: Host) -> Answer:
    """What an agent's files take on the disk, counted now; null for one that has gone.

    A page asks by itself, for agents that may be purged at that moment: a browser would print a 404 as an error. A
    count that a purge has cut short fails; asked once more, privd knows that the agent has gone.
    """
    request = MeasureState(agent=visit.named["agent"])
    try:
        try:
            return as_json(await host.ask_privd(request))
        except Refused as refused:
            if refused.problem is not Problem.FAILED:
                raise
            return as_json(await host.ask_privd(request))
    except Refused as refused:
        if refused.problem is not Problem.NOT_FOUND:
            raise
        return as_json(None)


async def shown(visit: Visit, host: Host) -> Answer:
    """A part of a file (`?agent=`, `?path=`, `?offset=`) as text; `text` is null when it is none."""
    agent = visit.agent("agent")
    if agent is None:
        raise Refused(Problem.MALFORMED, "agent is not given")
    path, offset = _path(visit), visit.number("offset", 0) or 0
    part = await host.ask_privd(ReadState(agent=agent, path=path, offset=offset))
    text, taken = as_text(part)
    ends = text is None or taken == 0 or offset + taken >= part.total_bytes
    return as_json(
        {
            "path": path,
            "offset": offset,
            "total_bytes": part.total_bytes,
            "modified_ms": part.modified_ms,
            "text": None if text is None else plain(text),
            "next": None if ends else offset + taken,
        }
    )


async def download(visit: Visit, host: Host) -> Answer:
    """A whole file, as bytes that no browser looks into."""
    agent, path = visit.named["agent"], _path(visit)
    first = await host.ask_privd(ReadState(agent=agent, path=path))
    if first.total_bytes > DOWNLOAD_BYTES_MAX:
        raise Refused(
            Problem.LIMIT,
            f"{first.total_bytes} bytes, at most {DOWNLOAD_BYTES_MAX} are downloaded: use `hivectl cat {agent}`",
        )

    async def rest(send: Send) -> None:
        part = first
        while part.data:
            await send(part.data)
            at = part.offset + len(part.data)
            if at >= first.total_bytes:
                return
            try:
                part = await host.ask_privd(ReadState(agent=agent, path=path, offset=at))
            except Refused as refused:  # too late to say so in words: an answer that is cut short says it
                host.log.warning("a download was cut short", agent=agent, at=at, reason=refused.detail)
                raise Gone from refused

    return Answer(
        200,
        rest if len(first.data) < first.total_bytes else first.data,
        BINARY,
        (("content-disposition", f'attachment; filename="{file_name(path)}"'),),
    )


def as_text(part: StateChunk) -> tuple[str | None, int]:
    """The text of a part, and how many of its bytes that is: a character that is cut off belongs to the next one."""
    if b"\0" in part.data:
        return None, 0
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_last = part.offset + len(part.data) >= part.total_bytes or len(part.data) < STATE_CHUNK_BYTES_MAX
    try:
        text = decoder.decode(part.data, final=is_last)
    except UnicodeDecodeError:
        return None, 0
    return text, len(part.data) - len(decoder.getstate()[0])


def file_name(path: str) -> str:
    """A name for the file at its new place, in which nothing is special to a header, a shell or a file system."""
    last = _NOT_IN_A_NAME.sub("_", path.rstrip("/").rpartition("/")[2]).lstrip(".-_")
    return last[-FILE_NAME_CHARS_MAX:] or "file"


def _path(visit: Visit) -> str:
    return _text(visit, "path")


def _text(visit: Visit, name: str) -> str:
    text = visit.query.get(name, "")
    if len(text) > PATH_CHARS_MAX or "\0" in text or not text.isprintable():
        raise Refused(Problem.MALFORMED, f"{name} is at most {PATH_CHARS_MAX} characters that can be shown")
    return text
