"""The tunnel: both ways, half-close, and every way to end, on streams in memory and a clock that jumps."""

import math

import pytest
import trio
import trio.testing
from trio.testing import memory_stream_pair

from egressd.tunnel import IDLE_S, STOP_QUIET_S, Ended, Tunnel
from runtime.stopping import Stopping

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Ends:
    """A tunnel between an agent and a host, both of them the test."""

    def __init__(self) -> None:
        self.agent, agent_side = memory_stream_pair()
        self.host, host_side = memory_stream_pair()
        self.tunnel = Tunnel(agent_side, host_side)
        self.stopping = Stopping()

    async def run(self, first: bytes = b"") -> None:
        await self.tunnel.run(first, self.stopping)


async def read(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await stream.receive_some(count - len(data))
        assert more, f"ended after {data!r}"
        data += more
    return data


async def test_bytes_go_both_ways_and_are_counted() -> None:
    ends = Ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.run, b"first ")
        await ends.agent.send_all(b"question")
        assert await read(ends.host, 14) == b"first question"
        await ends.host.send_all(b"answer")
        assert await read(ends.agent, 6) == b"answer"
        await ends.agent.send_eof()
        await ends.host.send_eof()
    assert (ends.tunnel.bytes_out, ends.tunnel.bytes_in, ends.tunnel.ended) == (14, 6, Ended.CLOSED)


async def test_a_half_close_leaves_the_other_direction_open() -> None:
    ends = Ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.run)
        await ends.agent.send_all(b"the whole question")
        await ends.agent.send_eof()
        assert await read(ends.host, 18) == b"the whole question"
        assert await ends.host.receive_some(1) == b""
        await trio.sleep(IDLE_S / 2)
        await ends.host.send_all(b"late answer")
        assert await read(ends.agent, 11) == b"late answer"
        await ends.host.send_eof()
        assert await ends.agent.receive_some(1) == b""
    assert ends.tunnel.ended is Ended.CLOSED


async def test_a_tunnel_that_moves_nothing_ends() -> None:
    ends = Ends()
    began = trio.current_time()
    await ends.run(b"x")
    assert ends.tunnel.ended is Ended.IDLE
    assert trio.current_time() - began == pytest.approx(IDLE_S)


async def test_every_byte_puts_the_idle_end_off() -> None:
    ends = Ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.run)
        for side in (ends.agent, ends.host, ends.agent):
            await trio.sleep(IDLE_S - 1)
            await side.send_all(b"x")
        await trio.sleep(IDLE_S - 1)
        assert ends.tunnel.bytes_out == 2
        began = trio.current_time()
        await trio.sleep(2)
    assert ends.tunnel.ended is Ended.IDLE
    assert trio.current_time() - began == pytest.approx(2)


async def test_a_side_that_breaks_off_ends_the_other() -> None:
    ends = Ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.run)
        await trio.testing.wait_all_tasks_blocked()
        await ends.host.aclose()
        await ends.agent.send_all(b"x")
    assert ends.tunnel.ended is Ended.LOST


async def test_revoking_ends_it_at_once() -> None:
    ends = Ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.run)
        await ends.agent.send_all(b"x")
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        ends.tunnel.revoke()
    assert ends.tunnel.ended is Ended.REVOKED
    assert trio.current_time() == began


async def test_a_stop_lets_an_answer_arrive_and_ends_the_quiet() -> None:
    ends = Ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.run)
        await trio.testing.wait_all_tasks_blocked()
        ends.stopping.set()
        for _ in range(4):
            await trio.sleep(STOP_QUIET_S * 0.9)
            await ends.host.send_all(b"more")
        began = trio.current_time()
        assert await read(ends.agent, 16) == b"more" * 4
    assert ends.tunnel.ended is Ended.STOPPED
    assert trio.current_time() - began == pytest.approx(STOP_QUIET_S)


async def test_being_cancelled_from_outside_counts_as_stopped() -> None:
    ends = Ends()
    with trio.move_on_after(3):
        await ends.run(b"x")
        await trio.sleep(math.inf)
    assert ends.tunnel.ended is Ended.STOPPED
    assert ends.tunnel.bytes_out == 1
