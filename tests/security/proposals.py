"""One proposed repository of another user, root's applied one, and everything that is said on the way between them."""

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

import pytest
import structlog
import trio
from structlog.testing import LogCapture

from privd.boxes import Box, Boxes, boxes_of_this_process
from privd.git.applied import Applied
from privd.git.intake import Intake, Proposed
from privd.policy.admission import Admitted
from protocol.problem import Refused
from tests.support.repositories import Repository, ground

OWNER, VICTIM = 712_345, 712_346
"""Nobody on the machine has these uids; two agents would have uids like them."""
NOW_S = 1_700_000_000


class Overheard:
    """Real boxes; what they say is kept."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self._boxes = boxes_of_this_process(log)
        self.said: list[bytes] = []

    @asynccontextmanager
    async def open(self, box: Box, request: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._boxes.open(box, request) as frames, aclosing(self._kept(frames)) as kept:
            yield kept

    async def _kept(self, frames: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async for frame in frames:
            self.said.append(frame)
            yield frame


class Proposal:
    """A proposed repository and the way in; `refusals` holds every no in words."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.repository = Repository(place / "config", OWNER)
        self.applied = place / "applied" / "iris.git"
        self.refusals: list[str] = []
        self._logged = LogCapture()
        log = structlog.wrap_logger(
            structlog.PrintLogger(),
            processors=[self._logged],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )
        self.boxes = Overheard(log)

    def ingest(self, commit: str, folder: Path | None = None, uid: int = OWNER) -> Admitted:
        """Take a commit in as privd does."""

        async def act() -> Admitted:
            proposed = Proposed(folder or self.repository.folder, uid, uid)
            return await Intake(cast("Boxes", self.boxes)).ingest(commit, proposed, Applied(self.applied))

        return trio.run(act)

    def refusal(self, commit: str, folder: Path | None = None) -> Refused:
        """The no to a commit; nothing of it may be left, and what it says is one line for people."""
        before = self.left()
        with pytest.raises(Refused) as caught:
            self.ingest(commit, folder)
        refused = caught.value
        assert refused.detail.isprintable()
        assert len(refused.detail) < 600
        assert self.logged() == [], "the box went wrong instead of saying no"
        assert self.left() == before, "a refused proposal left something"
        self.refusals.append(refused.detail)
        return refused

    def left(self) -> list[Path]:
        """Every file of the applied repository."""
        return sorted(
            path for path in self.applied.rglob("*") if path.is_file() and path.parent != self.applied
        )

    def everything(self) -> bytes:
        """All that was said, refused, logged or stored, objects unpacked."""
        stored = [path.name.encode() + path.read_bytes() for path in self.left()]
        unpacked = [zlib.decompress(path.read_bytes()) for path in self.left() if "objects" in path.parts]
        words = [repr(self._logged.entries).encode(), *(each.encode() for each in self.refusals)]
        return b"\n".join((*self.boxes.said, *stored, *unpacked, *words))

    def logged(self) -> list[str]:
        return [repr(entry) for entry in self._logged.entries]


@contextmanager
def proposal() -> Iterator[Proposal]:
    with ground() as place:
        yield Proposal(place)
