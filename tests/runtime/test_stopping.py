"""Stopping ends what waits, and nothing else."""

import pytest
import trio

from runtime.stopping import Stopping

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


async def test_waits_end_at_the_moment_of_the_stop_and_work_goes_on() -> None:
    stopping = Stopping()
    ended: list[str] = []

    async def wait() -> None:
        with stopping.ends() as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        ended.append("wait")

    async def work() -> None:
        await trio.sleep(10)
        ended.append("work")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(work)
        await trio.sleep(1)
        assert not stopping
        stopping.set()
        stopping.set()
        assert stopping
        await trio.testing.wait_all_tasks_blocked()
        assert ended == ["wait"]
    assert ended == ["wait", "work"]


async def test_who_begins_to_wait_afterwards_does_not_wait() -> None:
    stopping = Stopping()
    stopping.set()
    with stopping.ends() as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught
    await stopping.wait()


async def test_a_scope_that_ended_by_itself_is_forgotten() -> None:
    stopping = Stopping()
    with stopping.ends() as scope:
        pass
    stopping.set()
    assert not scope.cancel_called
