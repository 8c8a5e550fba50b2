"""The audit log: a line before and a line after everything that changes something, on the disk before it is done.

What the log cannot hold is not done: where no line can be written, the request is refused. A line that tells the end
of something waits in memory until it can be written, and nothing new begins before it. The files: `privd.audit_files`.

Whoever asks too often is refused before anything is written (`privd.policy.pace`), so that nobody can push out what
others did. The room that is kept back for a full disk is for what makes room: `MAKES_ROOM`.
"""

import hashlib
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec
import trio

from privd.audit_files import FULL, File, Make, Room
from privd.boxes import one_line
from privd.policy.audit import CANCELLED, DEFECT, DETAIL_CHARS_MAX, DONE, About, Begin, End, Head, Note
from privd.policy.pace import Pace
from protocol.approvals import Approval, Deployment, Proposal
from protocol.frames import END, encode_request
from protocol.privd import DestroyCage, PurgeAgent, StopCage
from protocol.problem import Problem, Refused
from protocol.rpc import Caller, Request, Role, Route, Watch
from runtime.clock import now_ms
from runtime.log import Log

H = TypeVar("H")

BY_ITSELF: Final = "privd"
OPERATOR: Final = (Role.OPERATOR.name or "").lower()
MAKES_ROOM: Final = frozenset(
    {(OPERATOR, request.operation()) for request in (StopCage, DestroyCage, PurgeAgent)}
    | {(BY_ITSELF, "stop_for_its_disk")}
)
"""What is done on a full disk as long as the ballast lasts; by whom, and what."""


class Said:
    """What the end of something will say; whoever does it may add to it."""

    def __init__(self) -> None:
        self.verdict = DONE
        self.number: int | None = None
        self.detail = ""


class Effects(Protocol):
    """What tells of something that privd does by itself."""

    def effect(
        self, op: str, agent: str = "", number: int | None = None
    ) -> AbstractAsyncContextManager[Said]: ...


class Audit:
    """The log of one hive, opened by its first line."""

    def __init__(self, state: Path, log: Log) -> None:
        self._state = state
        self._log = log
        self._turn = trio.Lock()
        self._file: File | None = None
        self._owed: deque[Make] = deque()
        """Lines that tell what has happened and could not be written yet: no more than things were under way."""

    async def started(self, detail: str) -> None:
        """Note that privd has come up: what had begun and not ended, ended with the one before it."""
        await self._tell(lambda head: Note(head.seq + 1, head.hash, now_ms(), About.STARTED, _brief(detail)))

    @asynccontextmanager
    async def effect(
        self,
        op: str,
        agent: str = "",
        number: int | None = None,
        *,
        by: str = BY_ITSELF,
        uid: int | None = None,
        frame: str = "",
        untold: int = 0,
    ) -> AsyncIterator[Said]:
        """Around whatever changes something; `untold` is how many requests of the same caller are not told of.

        Nothing is done where its beginning cannot be written: `storage_full` by a full disk, `failed` by a broken one.
        """
        who = os.geteuid() if uid is None else uid
        makes_room = (by, op) in MAKES_ROOM
        makes: list[Make] = [
            lambda head: Begin(head.seq + 1, head.hash, now_ms(), by, who, op, agent, number, frame)
        ]
        if untold:
            makes.insert(0, lambda head: _untold(head, by, who, untold))
        of = await self._begin(makes, makes_room=makes_room)
        began, said = trio.current_time(), Said()
        try:
            yield said
        except BaseException as fault:
            said.verdict = _verdict(fault)
            if isinstance(fault, Refused):
                said.detail = fault.detail
            raise
        finally:
            took_ms = round((trio.current_time() - began) * 1000)
            with trio.CancelScope(shield=True):
                await self._tell(
                    lambda head: End(
                        head.seq + 1,
                        head.hash,
                        now_ms(),
                        of,
                        said.verdict,
                        took_ms,
                        said.number,
                        _brief(said.detail),
                    ),
                    makes_room=makes_room,
                )

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    async def _begin(self, makes: Iterable[Make], *, makes_room: bool) -> int:
        async with self._turn:
            return await trio.to_thread.run_sync(
                self._write, makes, Room.ALL if makes_room else Room.BUT_BALLAST
            )

    async def _tell(self, make: Make, *, makes_room: bool = False) -> None:
        """What has happened is told now, or as soon as it can be."""
        async with self._turn:
            self._owed.append(make)
            try:
                await trio.to_thread.run_sync(self._write, (), Room.ALL if makes_room else Room.LEFT)
            except Refused as refused:
                self._log.error("the audit log waits", lines=len(self._owed), reason=refused.detail)

    def _write(self, makes: Iterable[Make], room: Room) -> int:
        """Write what is owed, then these; the number of the newest line. In a thread, one call at a time."""
        try:
            file = self._opened(room)
            while self._owed:
                file.append(self._owed[0])
                self._owed.popleft()
            for make in makes:
                file.append(make)
        except OSError as error:
            self.close()
            raise _refused(self._state, error) from error
        return file.head.seq

    def _opened(self, room: Room) -> File:
        if self._file is None:
            self._file = File(self._state, room)
            for about, detail in self._file.found:
                self._log.error("the audit log is not as it was left", about=about, detail=detail)
        self._file.use(room)
        return self._file


def audited(
    routes: Iterable[Route[H]],
    changes_nothing: frozenset[type[Request]],
    audit: Audit,
    clock: Callable[[], float] = trio.current_time,
) -> tuple[Route[H], ...]:
    """The same routes, each request told before and after; but for watches, and what is said to change nothing.

    `limit` to whoever asks, or is refused, too often.
    """
    pace = Pace()
    return tuple(
        route
        if route.request in changes_nothing or issubclass(route.request, Watch)
        else msgspec.structs.replace(route, handler=_told(route, audit, pace, clock))
        for route in routes
    )


def _told(route: Route[H], audit: Audit, pace: Pace, clock: Callable[[], float]) -> Any:
    async def handler(request: Request, caller: Caller, host: H) -> Any:
        who = ((caller.role.name or "").lower(), caller.uid)
        untold = pace.take(who, clock())
        async with audit.effect(
            request.operation(),
            getattr(request, "agent", ""),
            getattr(request, "number", None),
            by=who[0],
            uid=caller.uid,
            frame=hashlib.sha256(encode_request(request).removesuffix(END)).hexdigest(),
            untold=untold,
        ) as said:
            said.detail = getattr(request, "name", "")
            try:
                reply = await route.handler(request, caller, host)
            except Refused:
                pace.refused(who)
                raise
            said.number = _number(reply)
        return reply

    return handler


def _number(reply: object) -> int | None:
    """Of the proposal or deployment that a request has made, or was about."""
    match reply:
        case Approval(proposal=Proposal(number=number)):
            return number
        case Proposal(number=number) | Deployment(number=number):
            return number
    return None


def _verdict(fault: BaseException) -> str:
    if isinstance(fault, Refused):
        return fault.problem.value
    return CANCELLED if isinstance(fault, trio.Cancelled) else DEFECT


def _untold(head: Head, by: str, uid: int, count: int) -> Note:
    detail = (
        f"{count} requests of {by}, uid {uid}, were refused for their number, and are not told one by one"
    )
    return Note(head.seq + 1, head.hash, now_ms(), About.UNTOLD, detail)


def _brief(detail: str) -> str:
    return one_line(detail[:DETAIL_CHARS_MAX])[:DETAIL_CHARS_MAX]


def _refused(state: Path, error: OSError) -> Refused:
    problem = Problem.STORAGE_FULL if error.errno in FULL else Problem.FAILED
    return Refused(
        problem,
        f"the audit log cannot be written ({error.strerror}), and nothing is done that it does not hold: "
        f"make room on the disk of {state}",
    )
