"""Intake with readers that are not to be trusted: what one that was taken over says, nothing comes of it."""

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from privd.boxes import Box, Boxes
from privd.git.applied import Applied
from privd.git.intake import INTAKE_WAIT_S, INTAKES_MAX, Intake, Proposed, sweep
from privd.policy.admission import Admitted
from protocol.problem import Problem, Refused
from tests.support.repositories import FILE, commit_of, name_of, tree_of

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

BLOB = b"a = 1\n"
TREE = tree_of([(FILE, "agent.toml", name_of("blob", BLOB))])
COMMIT = commit_of(name_of("tree", TREE))
NAME = name_of("commit", COMMIT)
WHOLE = (b"c" + COMMIT, b"t" + TREE, b"b" + BLOB)
PROPOSED = Proposed(Path("/proposed"), 700_001, 700_001)


class Reader:
    """Stands for the boxes: says what it is told to say, then refuses or just ends. Remembers who ran in which box."""

    def __init__(
        self, said: Iterable[bytes] = WHOLE, refusal: Refused | None = None, gate: trio.Event | None = None
    ) -> None:
        self.said = said
        self.refusal = refusal
        self.gate = gate
        self.taken = 0
        self.asked: list[tuple[Box, bytes]] = []

    @asynccontextmanager
    async def open(self, box: Box, request: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked.append((box, request))
        if self.gate is not None:
            await self.gate.wait()
        async with aclosing(self._frames()) as frames:
            yield frames

    async def _frames(self) -> AsyncGenerator[bytes, None]:
        for frame in self.said:
            self.taken += 1
            yield frame
        if self.refusal is not None:
            raise self.refusal


@pytest.fixture
def applied(tmp_path: Path) -> Applied:
    made = Applied(tmp_path / "iris.git")
    made.make()
    return made


async def ingest(
    reader: Reader, applied: Applied, commit: str = NAME, required: Sequence[str] = ()
) -> Admitted:
    return await Intake(cast("Boxes", reader)).ingest(commit, PROPOSED, applied, required)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


async def test_a_commit_is_taken_in_whole(applied: Applied, tmp_path: Path) -> None:
    reader = Reader()
    admitted = await ingest(reader, applied, required=["agent.toml"])
    assert (admitted.commit, admitted.tree, admitted.bytes) == (NAME, name_of("tree", TREE), len(BLOB))
    place = tmp_path / "iris.git" / "objects" / name_of("blob", BLOB)[:2] / name_of("blob", BLOB)[2:]
    assert zlib.decompress(place.read_bytes()) == b"blob 6\0" + BLOB
    ((box, request),) = reader.asked
    assert (box.program, box.folder, box.user, request) == (
        "repository",
        Path("/proposed"),
        (700_001, 700_001),
        NAME.encode(),
    )


async def test_the_same_commit_again_is_the_same(applied: Applied, tmp_path: Path) -> None:
    one = await ingest(Reader(), applied)
    before = files(tmp_path)
    assert await ingest(Reader(), applied) == one
    assert files(tmp_path) == before


OTHER = b"a = 2\n"


@pytest.mark.parametrize(
    ("said", "problem", "words"),
    [
        ((), Problem.FAILED, "the commit: the reader gave no commit"),
        ((b"",), Problem.FAILED, "the commit: the reader gave no commit"),
        ((b"c",), Problem.FAILED, "the commit: the repository gave other bytes"),
        ((b"t" + TREE,), Problem.FAILED, "the commit: the reader gave no commit"),
        (WHOLE[:1], Problem.FAILED, "the top folder: the reader gave no tree"),
        (WHOLE[:2], Problem.FAILED, "agent.toml: the reader gave no blob"),
        ((*WHOLE[:2], b"b" + OTHER), Problem.FAILED, "agent.toml: the repository gave other bytes"),
        ((*WHOLE[:2], WHOLE[1]), Problem.FAILED, "agent.toml: the reader gave no blob"),
        ((WHOLE[0], WHOLE[2], WHOLE[1]), Problem.FAILED, "the top folder: the reader gave no tree"),
        (
            (b"c" + commit_of(name_of("tree", OTHER)),),
            Problem.FAILED,
            "the commit: the repository gave other bytes",
        ),
    ],
)
async def test_a_reader_that_says_something_else(
    applied: Applied, tmp_path: Path, said: tuple[bytes, ...], problem: Problem, words: str
) -> None:
    before = files(tmp_path)
    with pytest.raises(Refused) as refused:
        await ingest(Reader(said), applied)
    assert refused.value.problem is problem
    assert refused.value.detail.startswith(words)
    assert files(tmp_path) == before


async def test_a_reader_that_never_stops_is_not_listened_to(applied: Applied) -> None:
    def endless() -> Iterable[bytes]:
        yield from WHOLE
        while True:
            yield b"b" + bytes(100_000)

    reader = Reader(endless())
    await ingest(reader, applied)
    assert reader.taken == len(WHOLE)


async def test_the_first_no_ends_the_reading(applied: Applied) -> None:
    bad = tree_of([("120000", "agent.toml", name_of("blob", BLOB)), (FILE, "b", name_of("blob", BLOB))])
    commit = commit_of(name_of("tree", bad))
    reader = Reader((b"c" + commit, b"t" + bad, b"b" + BLOB))
    with pytest.raises(Refused, match="symbolic links"):
        await ingest(reader, applied, name_of("commit", commit))
    assert reader.taken == 2


async def test_a_no_of_the_box_is_told_with_its_place(applied: Applied, tmp_path: Path) -> None:
    before = files(tmp_path)
    reader = Reader(WHOLE[:2], Refused(Problem.LIMIT, "the blob has 10 GB"))
    with pytest.raises(Refused) as refused:
        await ingest(reader, applied)
    assert (refused.value.problem, refused.value.detail) == (Problem.LIMIT, "agent.toml: the blob has 10 GB")
    assert files(tmp_path) == before


async def test_a_name_starts_no_box(applied: Applied) -> None:
    reader = Reader()
    with pytest.raises(Refused, match="40 hex digits"):
        await ingest(reader, applied, "HEAD")
    assert reader.asked == []


async def test_only_so_many_at_once(applied: Applied) -> None:
    gate = trio.Event()
    reader = Reader(gate=gate)
    intake = Intake(cast("Boxes", reader))
    refusals: list[Refused] = []

    async def one() -> None:
        try:
            await intake.ingest(NAME, PROPOSED, applied)
        except Refused as refused:
            refusals.append(refused)

    async with trio.open_nursery() as nursery:
        for _ in range(INTAKES_MAX + 1):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        assert len(reader.asked) == INTAKES_MAX
        await trio.sleep(INTAKE_WAIT_S + 1)
        assert [each.problem for each in refusals] == [Problem.BUSY]
        gate.set()
    await intake.ingest(NAME, PROPOSED, applied)
    assert len(reader.asked) == INTAKES_MAX + 1


async def test_whoever_gives_up_leaves_nothing(applied: Applied, tmp_path: Path) -> None:
    before = files(tmp_path)
    with trio.move_on_after(1) as scope:
        await ingest(Reader(gate=trio.Event()), applied)
    assert scope.cancelled_caught
    assert files(tmp_path) == before


async def test_what_a_crash_left_is_swept(applied: Applied, tmp_path: Path) -> None:
    await ingest(Reader(), applied)
    before = files(tmp_path)
    left = tmp_path / "iris.git" / "incoming-abc"
    left.mkdir()
    (left / NAME).write_bytes(b"half of it")
    sweep(tmp_path)
    assert files(tmp_path) == before
    sweep(tmp_path / "nowhere")
