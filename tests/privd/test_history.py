"""What is read of root's own repositories: as many tags as fit in a page, whole numbers, all of them page by page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from privd.git.applied import Applied
from privd.handlers import history
from privd.policy.objects_made import commit_of, tree_of
from privd.policy.record import Asked, Denied, Mark, encode, tag_name
from protocol.approvals import ProposalKind, ProposalState, Ref
from protocol.configuration import ListRefs
from protocol.limits import DESCRIPTION_CHARS_MAX, PAGE_BYTES_MAX, REASON_CHARS_MAX
from tests.support.configuring import OPERATOR, Desk, desk, ground

pytestmark = pytest.mark.anyio

NUMBERS = 80
FEW = 10


@asynccontextmanager
async def crowded(numbers: int) -> AsyncIterator[Desk]:
    """A hive whose agent iris has been denied as much, in as many words, as may be."""
    with ground() as place:
        async with desk(place) as at:
            _fill(at.host.repositories.applied("iris"), numbers)
            yield at


def _fill(applied: Applied, numbers: int) -> None:
    applied.make()
    objects = tree_of({"agent.toml": b""})
    commit = commit_of(objects[-1].id, (), "Begin iris", 1)
    applied.put((*objects, commit))
    applied.move_main(commit.id)
    why = "\U0001f41d" * min(DESCRIPTION_CHARS_MAX, 1_000)
    asked = Asked(ProposalKind.CONFIG, commit.id, objects[-1].id, None, "manager", why, 1, 2, capabilities=())
    denied = Denied(ProposalState.DENIED, 3, "operator", why[:REASON_CHARS_MAX], asked)
    for number in range(1, numbers + 1):
        applied.tag(tag_name(Mark.DENIED, number), commit.id, encode(denied), 3)
    applied.tag(tag_name(Mark.PROPOSAL, numbers), commit.id, encode(asked), 1)


async def _asked(at: Desk, before: int | None) -> tuple[Ref, ...]:
    return await history.list_refs(ListRefs("iris", before), OPERATOR, at.host)


async def test_tags_come_page_by_page_each_once_and_whole_numbers_at_a_time() -> None:
    async with crowded(NUMBERS) as at:
        pages = []
        before: int | None = None
        while refs := await _asked(at, before):
            pages.append(refs)
            before = min(int(ref.name.partition("/")[2]) for ref in refs if "/" in ref.name)
        assert len(pages) > 1
        assert all(len(msgspec.json.encode(refs)) <= PAGE_BYTES_MAX for refs in pages)
        names = [ref.name for refs in pages for ref in refs]
        newest = {f"denied/{NUMBERS}", f"proposal/{NUMBERS}"}
        assert names[0] == "main"
        assert set(names[1:3]) == newest
        assert names[3:] == [f"denied/{number}" for number in range(NUMBERS - 1, 0, -1)]


async def test_a_number_larger_than_a_page_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE_BYTES_MAX", 10)
    async with crowded(FEW) as at:
        assert {ref.name for ref in await _asked(at, FEW)} == {f"denied/{FEW - 1}"}
        assert len(await _asked(at, None)) == 3
        assert await _asked(at, 1) == ()


async def test_a_page_holds_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "REFS_MAX", 4)
    async with crowded(FEW) as at:
        assert [ref.name for ref in await _asked(at, 9)] == ["denied/8", "denied/7", "denied/6", "denied/5"]
