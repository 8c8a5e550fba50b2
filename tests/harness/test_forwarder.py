"""The proxy port in the cage: bytes both ways, each end passed on, and a plain answer when there is no way out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from harness.forwarder import forward
from protocol.limits import EGRESS_CONNECTIONS_MAX
from runtime.log import logger
from runtime.sockets import bind_unix
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def upper(stream: trio.SocketStream) -> None:
    """Answer each piece in capitals; say bye after the other side's end."""
    async with stream:
        async for data in stream:
            await stream.send_all(data.upper())
        await stream.send_all(b"BYE")


@asynccontextmanager
async def forwarding(egress: Path, *, served: bool = True) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        if served:
            nursery.start_soon(trio.serve_listeners, upper, [bind_unix(egress)])
        port: int = await nursery.start(partial(forward, egress, logger("test"), port=0))
        with trio.fail_after(20):
            yield port
        nursery.cancel_scope.cancel()


async def test_bytes_go_both_ways_and_ends_are_passed_on(place: Path) -> None:
    async with forwarding(place / "s") as port, await trio.open_tcp_stream("127.0.0.1", port) as near:
        await near.send_all(b"connect")
        assert await near.receive_some() == b"CONNECT"
        await near.send_eof()
        assert await near.receive_some() == b"BYE"
        assert await near.receive_some() == b""


async def test_much_data(place: Path) -> None:
    sent = b"abcdefgh" * 200_000
    back = bytearray()
    async with forwarding(place / "s") as port, await trio.open_tcp_stream("127.0.0.1", port) as near:

        async def feed() -> None:
            await near.send_all(sent)
            await near.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed)
            async for data in near:
                back += data
    assert bytes(back) == sent.upper() + b"BYE"


async def test_without_egressd_a_program_is_told_at_once(place: Path) -> None:
    async with (
        forwarding(place / "s", served=False) as port,
        await trio.open_tcp_stream("127.0.0.1", port) as near,
    ):
        assert (await near.receive_some()).startswith(b"HTTP/1.1 502 ")
        assert await near.receive_some() == b""


async def test_a_program_that_leaves_frees_its_place(place: Path) -> None:
    async with forwarding(place / "s") as port:
        for _ in range(EGRESS_CONNECTIONS_MAX + 10):
            near = await trio.open_tcp_stream("127.0.0.1", port)
            await near.send_all(b"x")
            assert await near.receive_some() == b"X"
            await trio.aclose_forcefully(near)


async def test_too_many_connections_are_refused_and_the_rest_goes_on(place: Path) -> None:
    async with forwarding(place / "s") as port:
        held = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(EGRESS_CONNECTIONS_MAX)]
        for near in held:
            await near.send_all(b"x")
            assert await near.receive_some() == b"X"
        async with await trio.open_tcp_stream("127.0.0.1", port) as another:
            assert (await another.receive_some()).startswith(b"HTTP/1.1 503 ")
        await held[0].send_all(b"y")
        assert await held[0].receive_some() == b"Y"
        for near in held:
            await trio.aclose_forcefully(near)

        async def served() -> bool:
            async with await trio.open_tcp_stream("127.0.0.1", port) as near:
                await near.send_all(b"z")
                return await near.receive_some() == b"Z"

        await until(served, what="a free place")
