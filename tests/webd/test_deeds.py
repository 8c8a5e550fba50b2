"""Deeds: done once for each key, to the end, and answered before anybody loses patience. Virtual time."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from protocol.problem import Problem, Refused
from runtime.log import logger
from webd.deeds import ANSWER_EARLY_S, ANSWER_WITHIN_S, ANSWERS_KEPT_MAX, ANSWERS_KEPT_MS, Deeds, Done
from webd.live.hub import Hub
from webd.live.upstream import Picture
from webd.live.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Bench:
    """Deeds with a picture, and a deed that takes as long as it is told."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.now_ms = 0
        self.picture = Picture(World("hive", "1"), Hub("ab"), lambda: self.now_ms)
        self.deeds = Deeds(self.picture, self._start, logger("test"))
        self.done = 0
        self._nursery = nursery

    def _start(self, task: Callable[..., Awaitable[Any]], *arguments: Any, name: str) -> None:
        self._nursery.start_soon(task, *arguments, name=name)

    def deed(self, seconds: float, fault: Exception | None = None) -> Callable[[], Awaitable[Done]]:
        async def deed() -> Done:
            await trio.sleep(seconds)
            self.done += 1
            if fault is not None:
                raise fault
            return Done(self.done)

        return deed


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        yield Bench(nursery)
        nursery.cancel_scope.cancel()


async def test_a_deed_is_answered_when_it_is_done() -> None:
    async with bench() as at:
        began_s = trio.current_time()
        assert await at.deeds.do("ada", "key", "thing", at.deed(30)) == Done(1)
        assert trio.current_time() - began_s == pytest.approx(30)


async def test_the_same_key_is_the_same_deed_at_once_and_later() -> None:
    async with bench() as at:
        answers: list[Done] = []

        async def ask() -> None:
            answers.append(await at.deeds.do("ada", "key", "thing", at.deed(1)))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        await ask()
        assert answers == [Done(1)] * 6
        assert at.done == 1
        assert await at.deeds.do("grace", "key", "thing", at.deed(0)) == Done(2), (
            "keys are each operator's own"
        )


async def test_a_key_for_another_thing_is_a_conflict() -> None:
    async with bench() as at:
        await at.deeds.do("ada", "key", "stop iris", at.deed(0))
        with pytest.raises(Refused, match="already used for: stop iris") as refused:
            await at.deeds.do("ada", "key", "start iris", at.deed(0))
        assert refused.value.problem is Problem.CONFLICT


async def test_a_refusal_is_the_answer_of_its_key_too() -> None:
    async with bench() as at:
        for _ in range(2):
            with pytest.raises(Refused, match="no such luck"):
                await at.deeds.do("ada", "key", "thing", at.deed(0, Refused(Problem.FAILED, "no such luck")))
        assert at.done == 1


async def test_what_was_not_done_may_be_tried_again_with_the_same_key() -> None:
    async with bench() as at:
        with pytest.raises(Refused):
            await at.deeds.do("ada", "key", "thing", at.deed(0, Refused(Problem.STOPPING, "brokerd is away")))
        assert await at.deeds.do("ada", "key", "thing", at.deed(0)) == Done(2)


async def test_a_long_deed_is_answered_once_its_effect_shows() -> None:
    async with bench() as at:
        began_s = trio.current_time()
        assert await at.deeds.do("ada", "key", "stop iris", at.deed(30), lambda: True) == Done()
        assert trio.current_time() - began_s == pytest.approx(ANSWER_EARLY_S)
        await trio.sleep(40)
        assert at.done == 1, "it went on to its end"
        assert await at.deeds.do("ada", "key", "stop iris", at.deed(0), lambda: True) == Done(1)


async def test_a_long_deed_that_shows_nothing_is_not_called_done() -> None:
    async with bench() as at:
        began_s = trio.current_time()
        with pytest.raises(Refused, match="still under way"):
            await at.deeds.do("ada", "key", "stop iris", at.deed(30), lambda: False)
        assert trio.current_time() - began_s == pytest.approx(ANSWER_WITHIN_S)
        await trio.sleep(40)
        assert await at.deeds.do("ada", "key", "stop iris", at.deed(0), lambda: False) == Done(1)


async def test_a_long_deed_is_answered_when_it_is_done_before_its_effect_shows() -> None:
    async with bench() as at:
        began_s = trio.current_time()
        assert await at.deeds.do("ada", "key", "stop iris", at.deed(3), lambda: False) == Done(1)
        assert trio.current_time() - began_s == pytest.approx(3)


async def test_a_failure_after_the_answer_is_a_notice() -> None:
    async with bench() as at:
        late = at.deed(30, Refused(Problem.FAILED, "it would not end"))
        await at.deeds.do("ada", "key", "stop iris", late, lambda: True)
        assert not at.picture.world.hive.notices
        await trio.sleep(40)
        assert at.picture.world.hive.notices == ("stop iris: it would not end",)


async def test_a_deed_goes_on_when_its_asker_leaves() -> None:
    async with bench() as at:
        with trio.move_on_after(0.5):
            await at.deeds.do("ada", "key", "thing", at.deed(2))
        await trio.sleep(3)
        assert at.done == 1


async def test_a_defect_in_a_deed_is_an_incident_and_ends_nothing() -> None:
    async with bench() as at:
        with pytest.raises(Refused, match=r"incident [0-9a-f]{12}") as refused:
            await at.deeds.do("ada", "key", "thing", at.deed(0, ZeroDivisionError("secret detail")))
        assert refused.value.problem is Problem.INTERNAL
        assert "secret" not in refused.value.detail
        assert await at.deeds.do("ada", "other", "thing", at.deed(0)) == Done(2)


async def test_answers_are_forgotten_in_the_end() -> None:
    async with bench() as at:
        await at.deeds.do("ada", "key", "thing", at.deed(0))
        at.now_ms += ANSWERS_KEPT_MS
        assert await at.deeds.do("ada", "key", "thing", at.deed(0)) == Done(2)
        for number in range(ANSWERS_KEPT_MAX + 10):
            await at.deeds.do("ada", f"key {number}", "thing", at.deed(0))
        assert len(at.deeds._kept) == ANSWERS_KEPT_MAX
