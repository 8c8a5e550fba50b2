"""uid ranges: never shared, never outside the place that is left for containers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privd.cages.identity import (
    BLOCK_FIRST,
    BLOCK_UIDS,
    BLOCKS,
    RANGE_UIDS,
    RANGES_PER_BLOCK,
    UID_FIRST,
    UID_LAST,
    allocate,
    block_of,
    foreign_ranges,
    hive_tag,
    is_base,
    mapped,
    single,
)
from protocol.limits import AGENTS_MAX
from protocol.problem import Problem, Refused

BLOCK = block_of("/var/lib/hyperhive")
paths = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map("/{}".format)
slots = st.sets(st.integers(0, RANGES_PER_BLOCK - 1)) | st.just(set(range(RANGES_PER_BLOCK)))


def at(index: int, block: int = BLOCK) -> int:
    return block + index * RANGE_UIDS


@given(paths)
def test_a_block_lies_where_containers_may_be(path: str) -> None:
    block = block_of(path)
    assert is_base(block)
    assert UID_FIRST <= block <= UID_LAST + 1 - BLOCK_UIDS
    assert block > 600_100_000, "useradd's default ends there (SUB_UID_MAX)"


@given(paths, paths)
def test_two_hives_meet_wholly_or_not_at_all(one: str, other: str) -> None:
    assert block_of(one) == block_of(other) or abs(block_of(one) - block_of(other)) >= BLOCK_UIDS


@given(paths)
def test_a_taken_block_is_passed_over(path: str) -> None:
    first = block_of(path)
    assert block_of(path, {first}) != first
    assert is_base(block_of(path, {first}))


def test_no_block_left() -> None:
    everything = {BLOCK_FIRST + number * BLOCK_UIDS for number in range(BLOCKS)}
    with pytest.raises(Refused, match="limit"):
        block_of("/x", everything)


def test_folders_that_differ_have_tags_that_differ() -> None:
    assert len({hive_tag(f"/srv/hive{number}") for number in range(1_000)}) == 1_000


@given(slots)
def test_allocation_gives_a_fresh_range_of_the_block_or_says_no(taken: set[int]) -> None:
    recorded = {at(index) for index in taken}
    if len(taken) == RANGES_PER_BLOCK:
        with pytest.raises(Refused) as refused:
            allocate(BLOCK, recorded)
        assert refused.value.problem is Problem.LIMIT
        return
    base = allocate(BLOCK, recorded)
    assert base not in recorded
    assert BLOCK <= base < BLOCK + BLOCK_UIDS
    assert is_base(base)


@given(slots.filter(lambda taken: max(taken, default=0) < RANGES_PER_BLOCK - 1))
def test_a_freed_range_is_not_given_again_while_there_are_fresh_ones(taken: set[int]) -> None:
    assert allocate(BLOCK, {at(index) for index in taken}) == at(max(taken, default=-1) + 1)


def test_at_the_end_of_the_block_freed_ranges_come_back() -> None:
    recorded = {at(index) for index in range(RANGES_PER_BLOCK)} - {at(5)}
    assert allocate(BLOCK, recorded) == at(5)


def test_a_hive_full_of_agents_fits() -> None:
    recorded: set[int] = {BLOCK}
    for _ in range(AGENTS_MAX):
        recorded.add(allocate(BLOCK, recorded))
    assert len(recorded) == AGENTS_MAX + 1


@given(st.integers(BLOCK - RANGE_UIDS, BLOCK + BLOCK_UIDS), st.integers(1, 5 * RANGE_UIDS))
def test_ranges_of_others_are_left_alone(first: int, count: int) -> None:
    base = allocate(BLOCK, (), [range(first, first + count)])
    assert not set(range(base, base + RANGE_UIDS, RANGE_UIDS - 1)) & set(range(first, first + count))
    assert base + RANGE_UIDS <= first or first + count <= base


def test_subordinate_ids_are_read() -> None:
    text = "ann:100000:65536\n# a comment\nbob:524288:65536\nbroken:x:y\n:::\n1000:1:2:3\n"
    assert foreign_ranges(text) == (range(100_000, 165_536), range(524_288, 589_824))


@given(st.text())
def test_any_text_may_stand_there(text: str) -> None:
    foreign_ranges(text)


def test_users_of_a_range() -> None:
    found = mapped(BLOCK)
    assert (found.init_uid, found.agent_uid, found.harness_uid) == (BLOCK, BLOCK + 1000, BLOCK + 1001)
    assert found.separated
    assert not single(1000, 1000).separated


@pytest.mark.parametrize(
    "uid", [0, 1000, UID_FIRST - RANGE_UIDS, UID_FIRST + 1, UID_LAST, UID_LAST + 1, -RANGE_UIDS]
)
def test_what_is_no_base(uid: int) -> None:
    assert not is_base(uid)
