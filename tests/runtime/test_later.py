"""Values that come later, told to tasks and to coroutines that have none."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.later import GivenUp, Later, run_by_hand, soon, step_all
from runtime.outcomes import Error, Outcome, Value

pytestmark = pytest.mark.anyio


class Kept:
    """What became of coroutines that were run by hand."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome[Any]] = []

    def done(self, how: Outcome[Any]) -> None:
        self.outcomes.append(how)


async def doubled(*told: Later[int]) -> int:
    number = 0
    for each in told:
        number += await each
    return number * 2


async def test_a_task_gets_what_is_told() -> None:
    told: Later[int] = Later()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def check() -> None:
            assert await doubled(told) == 6

        await wait_all_tasks_blocked()
        told.tell(3)
        told.tell(4)


async def test_a_fault_is_raised_where_it_is_waited_for() -> None:
    told: Later[int] = Later()
    told.end(Error(ValueError("no")))
    with pytest.raises(ValueError, match="no"):
        await told


@pytest.mark.parametrize("is_shielded", [False, True])
async def test_a_cancelled_task_waits_on_for_what_is_shielded(is_shielded: bool) -> None:
    told: Later[int] = Later(is_shielded=is_shielded)
    got: list[int] = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            got.append(await told)

        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        await trio.lowlevel.cancel_shielded_checkpoint()
        told.tell(1)
    assert got == ([1] if is_shielded else [])


async def test_without_a_task_it_goes_on_when_it_is_told() -> None:
    kept, first, second = Kept(), Later[int](), Later[int]()
    rest = run_by_hand(doubled(first, second), kept.done)
    assert rest is not None
    first.tell(1)
    assert kept.outcomes == []
    second.tell(2)
    assert kept.outcomes == [Value(6)]


async def test_what_need_not_wait_is_done_at_once() -> None:
    kept, told = Kept(), Later[int]()
    told.tell(4)
    assert run_by_hand(doubled(told), kept.done) is None
    assert kept.outcomes == [Value(8)]


async def test_a_fault_without_a_task_is_an_outcome() -> None:
    kept, told = Kept(), Later[int]()
    run_by_hand(doubled(told), kept.done)
    told.end(Error(ValueError("no")))
    assert isinstance(kept.outcomes[0], Error)
    assert isinstance(kept.outcomes[0].error, ValueError)


async def test_who_has_no_task_may_not_wait_for_trio() -> None:
    kept, ends = Kept(), []

    async def sleep() -> None:
        try:
            await trio.sleep(1)
        finally:
            ends.append("closed")

    assert run_by_hand(sleep(), kept.done) is None
    (how,) = kept.outcomes
    assert isinstance(how, Error)
    with pytest.raises(TypeError, match="has no task"):
        how.unwrap()
    assert ends == ["closed"]


@pytest.mark.parametrize("is_shielded", [False, True])
async def test_what_is_given_up_ends_now_or_after_what_it_is_shielded_for(is_shielded: bool) -> None:
    kept, first, second = Kept(), Later[int](is_shielded=is_shielded), Later[int]()
    rest = run_by_hand(doubled(first, second), kept.done)
    assert rest is not None
    rest.give_up()
    assert len(kept.outcomes) == (0 if is_shielded else 1)
    first.tell(1)
    (how,) = kept.outcomes
    assert isinstance(how, Error)
    assert isinstance(how.error, GivenUp)


async def test_what_was_done_while_shielded_is_gone_on_with_before_it_ends() -> None:
    """A commit that nobody waits for any more is told to everybody all the same."""
    kept, commit, more, told = Kept(), Later[int](is_shielded=True), Later[int](is_shielded=True), []

    async def publish() -> None:
        told.append(await commit)
        told.append(await more)
        await Later()

    rest = run_by_hand(publish(), kept.done)
    assert rest is not None
    rest.give_up()
    commit.tell(1)
    more.tell(2)
    assert told == [1, 2]
    (how,) = kept.outcomes
    assert isinstance(how, Error)
    assert isinstance(how.error, GivenUp)


async def test_what_is_given_up_in_its_last_wait_ends_as_if_it_had_not_been() -> None:
    kept, commit = Kept(), Later[int](is_shielded=True)

    async def publish() -> int:
        return await commit

    rest = run_by_hand(publish(), kept.done)
    assert rest is not None
    rest.give_up()
    commit.tell(1)
    assert kept.outcomes == [Value(1)]


async def test_steps_are_never_nested() -> None:
    order: list[str] = []
    first, second = Later[int](), Later[int]()

    async def one() -> None:
        await first
        second.tell(0)
        order.append("one")

    async def two() -> None:
        await second
        order.append("two")

    run_by_hand(one(), Kept().done)
    run_by_hand(two(), Kept().done)
    first.tell(0)
    assert order == ["one", "two"]


async def test_soon_comes_after_all_that_is_ready() -> None:
    order: list[str] = []
    told = [Later[int]() for _ in range(3)]

    async def note(number: int) -> None:
        await told[number]
        soon(lambda: order.append(f"after {number}"))
        order.append(f"step {number}")

    for number in range(3):
        run_by_hand(note(number), Kept().done)
    step_all(*[lambda each=each: each.tell(0) for each in told])
    assert order == ["step 0", "step 1", "step 2", "after 0", "after 1", "after 2"]


async def test_soon_of_a_task_comes_with_the_next_turn_of_the_loop() -> None:
    called: list[int] = []
    soon(lambda: called.append(1))
    assert called == []
    await wait_all_tasks_blocked()
    assert called == [1]
