"""The way of a commit from a proposed repository, which an agent writes, into the applied one, which is root's.

    a box reads it as its owner  →  the admission policy judges every object  →  quarantine  →  what the files say is
    judged  →  among the objects

The box says nothing but bytes. Which object they are, policy knows from the object before; that they are it, their
hash says. Each is written as soon as it was admitted, so nothing piles up here, and the first no ends the box.
"""

from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct

from privd.boxes import Bounds, Box, Boxes
from privd.git.applied import INCOMING, Applied, Incoming, remove
from privd.policy.admission import Admitted, Wanted, admit
from privd.policy.objects import Kind, check_commit_id
from protocol.problem import Problem, Refused

INTAKES_MAX: Final = 2
"""At once; whoever comes then waits. They leave boxes to those who look at files."""
INTAKE_WAIT_S: Final = 30.0
BOUNDS: Final = Bounds(memory_bytes=256 << 20, cpu_s=10, wall_s=30.0, files=256, reply_bytes=4 << 20)
TAGS: Final = {Kind.COMMIT: b"c", Kind.TREE: b"t", Kind.BLOB: b"b"}
"""How the reader marks each object (`boxes/repository.py`)."""


class Proposed(Struct, frozen=True):
    """A proposed repository: its folder, and who owns what is in it."""

    folder: Path
    uid: int
    gid: int
    above: Path | None = None
    """Where names begin that whoever edits may change."""


Files = Mapping[str, bytes]
"""Content by path."""


class Intake:
    """All intakes of one hive."""

    def __init__(self, boxes: Boxes) -> None:
        self._boxes = boxes
        self._places = trio.Semaphore(INTAKES_MAX)
        self._releasing = trio.Lock()

    async def ingest(
        self,
        commit: str,
        proposed: Proposed,
        applied: Applied,
        required: Iterable[str] = (),
        judge: Callable[[Files], object] | None = None,
    ) -> Admitted:
        """Take one commit in, durably; nothing points at it yet. *judge* refuses what its files say.

        Refused: `malformed` or `limit` by the admission policy, `not_found`, `failed` by what was read, `busy`,
        `storage_full`. After a refusal the applied repository is as it was.
        """
        check_commit_id(commit)
        async with self._place():
            applied.make()
            with applied.incoming() as incoming:
                admitted, files = await self._read(admit(commit, required), proposed, incoming, commit)
                if judge is not None:
                    await trio.to_thread.run_sync(judge, files)
                async with self._releasing:
                    await trio.to_thread.run_sync(applied.release, incoming)
                    await trio.to_thread.run_sync(applied.cut_history, commit, admitted.parents)
            return admitted

    async def _read(
        self, walk: Generator[Wanted, bytes, Admitted], proposed: Proposed, incoming: Incoming, commit: str
    ) -> tuple[Admitted, Files]:
        """Lead the walk with what the box says, and keep every object that it went on from."""
        state: Wanted | Admitted = next(walk)
        contents: dict[str, bytes] = {}
        owner = proposed.uid, proposed.gid
        purpose = "reading the proposed configuration"
        box = Box("repository", purpose, proposed.folder, owner, bounds=BOUNDS, above=proposed.above)
        async with self._boxes.open(box, commit.encode()) as frames:
            while isinstance(state, Wanted):
                wanted = state
                content = await _said(frames, wanted)
                state = _after(walk, content)
                incoming.put(wanted.kind, wanted.id, content)
                if wanted.kind is Kind.BLOB:
                    contents[wanted.id] = content
        return state, {file.path: contents[file.id] for file in state.files}

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        with trio.move_on_after(INTAKE_WAIT_S) as waiting:
            await self._places.acquire()
        if waiting.cancelled_caught:
            raise Refused(Problem.BUSY, f"{INTAKES_MAX} configurations are being taken in: try again")
        try:
            yield
        finally:
            self._places.release()


async def _said(frames: AsyncIterator[bytes], wanted: Wanted) -> bytes:
    """The next object's bytes; a no of the box gets the place that it is about."""
    try:
        frame = await anext(frames, b"")
    except Refused as refused:
        raise Refused(refused.problem, f"{wanted.where}: {refused.detail}") from refused
    if frame[:1] != TAGS[wanted.kind]:
        raise Refused(Problem.FAILED, f"{wanted.where}: the reader gave no {wanted.kind}")
    return frame[1:]


def _after(walk: Generator[Wanted, bytes, Admitted], content: bytes) -> Wanted | Admitted:
    try:
        return walk.send(content)
    except StopIteration as end:
        admitted: Admitted = end.value
        return admitted


def sweep(repositories: Path) -> None:
    """Take away what a crash left of intakes into any of these repositories."""
    for left in repositories.glob(f"*.git/{INCOMING}*"):
        remove(left)
