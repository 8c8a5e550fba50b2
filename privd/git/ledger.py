"""One agent's record: the tags of its applied repository, read once and then kept in memory as they are written.

A tag is on the disk before anybody hears of it. Nothing else about proposals and deployments is stored.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

from privd.git.applied import Applied
from privd.policy.record import (
    AnyDocument,
    Asked,
    Deployed,
    Mark,
    Record,
    decode,
    derive,
    droppable,
    encode,
    tag_name,
)
from protocol.problem import Problem, Refused

T = TypeVar("T")


class Ledger:
    """The record of one agent. `turn` is held by whoever reads it in order to write."""

    def __init__(self, agent: str, folder: Path, begun: Callable[["Ledger"], None] | None = None) -> None:
        """*begun* is told before a tag is made."""
        self.agent = agent
        self.folder = folder
        self.applied = Applied(folder)
        self.turn = trio.Lock()
        self.tags: dict[tuple[Mark, int], AnyDocument] = {}
        self.fault = ""
        """Why it cannot be read."""
        self._begun = begun
        self._record: Record | None = None
        self._writing = trio.Lock()

    def load(self) -> None:
        """Read all tags. A record that cannot be read is refused to whoever needs it, and stops nobody else."""
        try:
            found = (decode(name, tag.document) for name, tag in self.applied.tags().items())
            self.tags = dict(found)
        except (Refused, ValueError, OSError, KeyError) as error:
            self.fault = str(error)

    def record(self) -> Record:
        """What the tags say. Refused(failed) when they could not be read."""
        if self.fault:
            raise Refused(Problem.FAILED, f"the record of {self.agent} cannot be read: {self.fault}")
        if self._record is None:
            self._record = derive(self.agent, self.tags)
        return self._record

    async def work(self, act: Callable[[Applied], T]) -> T:
        """Do something with the repository, out of the loop and one after the other."""
        async with self._writing:
            return await trio.to_thread.run_sync(act, self.applied)

    async def write(self, mark: Mark, number: int, commit: str, document: AnyDocument, at_ms: int) -> None:
        """Make a tag; one that is there already, from before a crash, stays as it is."""
        self.record()
        if (mark, number) in self.tags:
            return
        if self._begun is not None:
            self._begun(self)
        name = tag_name(mark, number)
        await self.work(lambda applied: applied.tag(name, commit, encode(document), at_ms // 1000))
        self.tags[mark, number] = document
        self._record = None

    async def tidy(self, now_ms: int, keep_ms: int) -> None:
        """Drop the tags that need not stay, and the logs of those that nobody will read again."""
        for name in droppable(self.tags, now_ms, keep_ms):
            (mark, number), _ = _key(name)
            await self.drop(mark, number)
            if not any(number == other for _, other in self.tags):
                self.log_path(number).unlink(missing_ok=True)

    async def drop(self, mark: Mark, number: int) -> None:
        """Take a tag away that need not stay. One that is gone was taken by somebody who tidied at the same time."""
        await self.work(lambda applied: applied.drop_tag(tag_name(mark, number)))
        self.tags.pop((mark, number), None)
        self._record = None

    def clear(self) -> None:
        """Its repository is gone, and may be made anew."""
        self.tags.clear()
        self._record = None

    def content(self) -> str | None:
        """The commit that was deployed last, a draft's beginning as well; None where there never was one."""
        numbers = [number for mark, number in self.tags if mark is Mark.DEPLOYED]
        found = self.tags.get((Mark.DEPLOYED, max(numbers, default=0)))
        return found.begun.commit if isinstance(found, Deployed) else None

    def log_path(self, number: int) -> Path:
        """Where a deployment's log is."""
        return self.folder / "logs" / f"{number}.log"

    def asked(self, number: int) -> Asked:
        """What an open proposal asked."""
        found = self.tags.get((Mark.PROPOSAL, number))
        if not isinstance(found, Asked):
            raise Refused(Problem.NOT_FOUND, f"{self.agent} has no open proposal {number}")
        return found


def _key(name: str) -> tuple[tuple[Mark, int], str]:
    mark, _, number = name.partition("/")
    return (Mark(mark), int(number)), name
