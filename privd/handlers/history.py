"""The record for whoever reads it: branches and tags, commits, differences, files. Only of root's own repositories."""

from typing import Final

import msgspec
import trio

from privd.git import contents
from privd.git.applied import Applied
from privd.git.difference import difference
from privd.host import Host
from privd.policy.objects import Kind, parse_commit
from protocol.approvals import FileDiff, LogEntry, Ref
from protocol.configuration import FilePage, ListRefs, ReadDiff, ReadFile, ReadLog
from protocol.limits import PAGE_BYTES_MAX
from protocol.rpc import Caller

REFS_MAX: Final = 500


async def list_refs(request: ListRefs, caller: Caller, host: Host) -> tuple[Ref, ...]:
    return await trio.to_thread.run_sync(_refs, _repository(host, request.agent), request.before)


async def read_log(request: ReadLog, caller: Caller, host: Host) -> tuple[LogEntry, ...]:
    repository = _repository(host, request.agent)
    return await trio.to_thread.run_sync(_log, repository, request.commit, request.limit)


async def read_diff(request: ReadDiff, caller: Caller, host: Host) -> tuple[FileDiff, ...]:
    repository = _repository(host, request.agent)
    return await difference(host.boxes, repository, request.before, request.commit)


async def read_file(request: ReadFile, caller: Caller, host: Host) -> FilePage:
    repository = _repository(host, request.agent)
    data = await trio.to_thread.run_sync(contents.file, repository, request.commit, request.path)
    return FilePage(request.path, data)


def _repository(host: Host, agent: str | None) -> Applied:
    repositories = host.repositories
    return Applied(repositories.meta) if agent is None else repositories.applied(agent)


def _refs(repository: Applied, before: int | None) -> tuple[Ref, ...]:
    numbered: dict[int, list[Ref]] = {}
    for name, tag in repository.tags().items():
        number = int(name.partition("/")[2])
        if before is None or number < before:
            numbered.setdefault(number, []).append(Ref(name, tag.commit, tag.document.decode()))
    main = repository.main() if before is None else None
    found = [] if main is None else [Ref("main", main, "")]
    room = PAGE_BYTES_MAX
    for place, number in enumerate(sorted(numbered, reverse=True)):
        refs = numbered[number]
        room -= len(msgspec.json.encode(refs))
        if place and (room < 0 or len(found) + len(refs) > REFS_MAX):
            break
        found += refs
    return tuple(found)


def _log(repository: Applied, commit: str | None, limit: int) -> tuple[LogEntry, ...]:
    names: dict[str, list[str]] = {}
    for name, tag in repository.tags().items():
        names.setdefault(tag.commit, []).append(name)
    found: list[LogEntry] = []
    at = commit or repository.main()
    while at is not None and len(found) < limit and (not found or repository.has(at)):
        content = repository.read(Kind.COMMIT, at)
        head, _, text = content.decode().partition("\n\n")
        at_s = int(head.splitlines()[-1].split(" ")[-2])
        subject = text.partition("\n")[0]
        found.append(LogEntry(at, at_s * 1000, subject[:200], tuple(names.get(at, ()))))
        parents = parse_commit(content).parents
        at = parents[0] if parents else None
    return tuple(found)
