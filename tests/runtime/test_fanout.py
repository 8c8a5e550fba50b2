"""One source, many watchers: everybody gets everything in order, or is told that it fell behind."""

import pytest
import trio

from protocol.problem import Problem, Refused
from runtime.fanout import Fanout, Watcher

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


async def test_every_watcher_gets_every_event_in_order() -> None:
    source: Fanout[int] = Fanout()
    seen: list[list[int]] = [[], [], []]

    async def watch(events: list[int]) -> None:
        with source.subscribed() as watcher:
            async for event in watcher:
                events.append(event)
                if event == 99:
                    return

    async with trio.open_nursery() as nursery:
        for events in seen:
            nursery.start_soon(watch, events)
        await trio.testing.wait_all_tasks_blocked()
        assert len(source) == 3
        for number in range(100):
            source.publish(number)
    assert seen == [list(range(100))] * 3
    assert len(source) == 0


async def test_subscribing_and_publishing_have_no_checkpoint() -> None:
    source: Fanout[int] = Fanout()
    with trio.testing.assert_no_checkpoints(), source.subscribed() as watcher:
        source.publish(1)
        assert watcher.take_waiting(10) == [1]


async def test_who_subscribes_hears_only_what_comes_after() -> None:
    source: Fanout[str] = Fanout()
    source.publish("before")
    with source.subscribed() as watcher:
        source.publish("after")
        assert await anext(watcher) == "after"
    source.publish("nobody")


async def test_one_that_falls_behind_gets_what_was_waiting_and_then_the_reason() -> None:
    source: Fanout[int] = Fanout(queue_max=5)
    with source.subscribed() as slow, source.subscribed() as quick:
        for number in range(8):
            source.publish(number)
            assert await anext(quick) == number
        assert [await anext(slow) for _ in range(5)] == [0, 1, 2, 3, 4]
        for _ in range(2):
            with pytest.raises(Refused, match="more than 5 events or") as caught:
                await anext(slow)
            assert caught.value.problem is Problem.LIMIT


async def test_a_watcher_that_keeps_up_is_never_let_go() -> None:
    source: Fanout[int] = Fanout(queue_max=3)
    with source.subscribed() as watcher:
        for number in range(30):
            source.publish(number)
            if number % 3 == 2:
                assert watcher.take_waiting(3) == [number - 2, number - 1, number]


async def test_taking_what_waits_has_a_bound_and_leaves_the_rest() -> None:
    source: Fanout[int] = Fanout()
    with source.subscribed() as watcher:
        assert watcher.take_waiting(3) == []
        for number in range(5):
            source.publish(number)
        assert watcher.take_waiting(3) == [0, 1, 2]
        assert watcher.take_waiting(3) == [3, 4]


async def test_one_that_fell_behind_is_told_by_taking_and_waiting_alike() -> None:
    watcher: Watcher[int] = Watcher(queue_max=1, bytes_max=1)
    watcher.offer(1)
    watcher.offer(2)
    watcher.offer(3)
    assert watcher.take_waiting(10) == [1]
    with pytest.raises(Refused, match="limit"):
        await anext(watcher)


async def test_what_waits_is_bounded_in_bytes_too() -> None:
    source: Fanout[bytes] = Fanout(size_of=len, bytes_max=100)
    with source.subscribed() as slow, source.subscribed() as quick:
        for _ in range(3):
            source.publish(b"x" * 50)
            assert len(await anext(quick)) == 50
        assert slow.take_waiting(10) == [b"x" * 50] * 2
        with pytest.raises(Refused, match="or 100 bytes") as caught:
            await anext(slow)
        assert caught.value.problem is Problem.LIMIT


async def test_one_event_larger_than_the_bound_reaches_who_is_not_behind() -> None:
    source: Fanout[bytes] = Fanout(size_of=len, bytes_max=100)
    with source.subscribed() as watcher:
        source.publish(b"x" * 200)
        assert len(await anext(watcher)) == 200
        source.publish(b"y")
        assert await anext(watcher) == b"y"
