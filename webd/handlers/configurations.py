"""Reading the record of configurations: an agent's applied repository, and the meta one, which says what is live where.

Nothing here changes anything, and nothing is read but what privd has admitted or made. All of it is told as plain text.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

from protocol.approvals import LogEntry, Ref
from protocol.configuration import ListApprovers, ListRefs, ReadDiff, ReadFile, ReadLog
from protocol.limits import PAGE_ROWS_MAX
from protocol.problem import Problem, Refused
from webd.http.answers import Answer, as_json
from webd.live.decisions import file_row
from webd.policy.text import plain
from webd.visit import Host, Visit

LOG_ROWS: Final = 50
MAIN: Final = "main"
_LIVE: Final = "agents/"
_LIVE_END: Final = ".json"


class Live(Struct, frozen=True):
    """What the meta repository says is deployed for one agent."""

    agent: str
    generation: int
    commit: str
    tree: str
    at_ms: int


async def of_agent(visit: Visit, host: Host) -> Answer:
    """An agent's repository: what is deployed, every tag with its document, the newest commits."""
    agent = visit.named["agent"]
    return as_json(await _repository(host, agent, await refs_of(host, agent)))


async def of_swarm(visit: Visit, host: Host) -> Answer:
    """The meta repository: what is deployed where and when, and how it came to that."""
    told = await _repository(host, None, await host.ask_privd(ListRefs()))
    return as_json(told | {"live": await _live(host, told["main"])})


async def refs(visit: Visit, host: Host) -> Answer:
    """Tags of numbers below `?before=`, newest first, as many as fit in a page."""
    before = visit.number("before", least=1)
    return as_json(_told(await host.ask_privd(ListRefs(agent=visit.named["agent"], before=before))))


async def log(visit: Visit, host: Host) -> Answer:
    """Commits from `?commit=` back, newest first, itself among them; without one from what is deployed."""
    limit = visit.number("limit", LOG_ROWS, least=1, most=PAGE_ROWS_MAX) or LOG_ROWS
    asked = ReadLog(agent=visit.named.get("agent"), commit=visit.query.get("commit"), limit=limit)
    return as_json(_log(await host.ask_privd(asked)))


async def diff(visit: Visit, host: Host) -> Answer:
    """What changed from `?before=` to `?commit=`; without the former, all that the commit holds."""
    asked = ReadDiff(commit=_commit(visit), before=visit.query.get("before"), agent=visit.named.get("agent"))
    return as_json([file_row(each) for each in await host.ask_privd(asked)])


async def files(visit: Visit, host: Host) -> Answer:
    """Names and sizes of the files that `?commit=` holds."""
    held = await host.ask_privd(ReadDiff(commit=_commit(visit), agent=visit.named.get("agent")))
    return as_json([{"path": plain(each.path), "bytes": each.after_bytes or 0} for each in held])


async def file(visit: Visit, host: Host) -> Answer:
    """One file (`?path=`) of `?commit=`, whole: admission bounds its size, and lets nothing in but text."""
    asked = ReadFile(commit=_commit(visit), path=visit.query.get("path", ""), agent=visit.named.get("agent"))
    page = await host.ask_privd(asked)
    text = plain(page.data.decode("utf-8", "backslashreplace"))
    return as_json({"path": plain(page.path), "bytes": len(page.data), "text": text})


async def approvers(visit: Visit, host: Host) -> Answer:
    """The keys that decide proposals, revoked ones too."""
    return as_json(await host.ask_privd(ListApprovers()))


async def refs_of(host: Host, agent: str) -> tuple[Ref, ...]:
    """What is recorded of an agent. Refused(not_found) where there neither is a record nor an agent."""
    found = await host.ask_privd(ListRefs(agent=agent))
    if not found and not host.picture.world.is_known(agent):
        raise Refused(Problem.NOT_FOUND, f"there is no agent {agent} here, and no proposal for one")
    return found


async def _repository(host: Host, agent: str | None, found: tuple[Ref, ...]) -> dict[str, Any]:
    main = next((each.commit for each in found if each.name == MAIN), None)
    entries = () if main is None else await host.ask_privd(ReadLog(agent=agent, limit=LOG_ROWS))
    return {"main": main, "refs": _told(found), "log": _log(entries)}


def _told(found: tuple[Ref, ...]) -> list[dict[str, Any]]:
    return [
        {"name": each.name, "commit": each.commit, "document": _document(each.document)} for each in found
    ]


async def _live(host: Host, main: str | None) -> list[Live]:
    """What the newest commit of the meta repository holds, by agent.

    A file for each is asked for by itself, under a millisecond; DIFF_FILES_MAX bounds how many there are. The lines
    of the difference are made to be looked at, and say more than the files do.
    """
    if main is None:
        return []
    held = [each.path for each in await host.ask_privd(ReadDiff(commit=main))]
    found = []
    for path in held:
        if path.startswith(_LIVE) and path.endswith(_LIVE_END) and path.count("/") == 1:
            page = await host.ask_privd(ReadFile(commit=main, path=path))
            agent = path.removeprefix(_LIVE).removesuffix(_LIVE_END)
            found.append(msgspec.convert({**msgspec.json.decode(page.data), "agent": agent}, Live))
    return found


def _log(entries: tuple[LogEntry, ...]) -> tuple[LogEntry, ...]:
    return tuple(msgspec.structs.replace(each, subject=plain(each.subject)) for each in entries)


def _document(text: str) -> Any:
    """A tag's message, as it was written by privd; what an agent said in it made plain. None for a branch."""
    try:
        return _plain(msgspec.json.decode(text)) if text else None
    except msgspec.DecodeError:
        return {"text": plain(text)}


def _plain(value: Any) -> Any:
    match value:
        case str():
            return plain(value)
        case list():
            return [_plain(each) for each in value]
        case dict():
            return {name: _plain(each) for name, each in value.items()}
    return value


def _commit(visit: Visit) -> str:
    commit = visit.query.get("commit")
    if commit is None:
        raise Refused(Problem.MALFORMED, "commit is not given")
    return commit
