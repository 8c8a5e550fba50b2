"""The stdio bridge: bytes through it unchanged, and its ends."""

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

pytestmark = pytest.mark.anyio


LEAVE = b"leave\n"


async def echo(stream: trio.SocketStream) -> None:
    """Send everything back; leave when told to."""
    async with stream:
        async for data in stream:
            if data == LEAVE:
                return
            await stream.send_all(data)


@asynccontextmanager
async def harness(path: Path) -> AsyncIterator[None]:
    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await listener.bind(str(path))
    listener.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, echo, [trio.SocketListener(listener)])
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def bridge_to(
    path: Path,
) -> AsyncIterator[tuple[trio.Process, trio.abc.SendStream, trio.abc.ReceiveStream]]:
    command = [sys.executable, "-I", "-m", "harness.bridge", str(path)]
    process = await trio.lowlevel.open_process(command, stdin=-1, stdout=-1)
    assert process.stdin
    assert process.stdout
    try:
        with trio.fail_after(20):
            yield process, process.stdin, process.stdout
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        await process.stdin.aclose()
        await process.stdout.aclose()


async def test_bytes_go_through_and_the_clis_end_is_the_end(place: Path) -> None:
    sent = bytes(range(256)) * 4_000
    back = bytearray()
    async with harness(place / "s"), bridge_to(place / "s") as (bridge, stdin, stdout):

        async def feed() -> None:
            await stdin.send_all(sent)
            await stdin.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed)
            async for data in stdout:
                back += data
    assert bytes(back) == sent
    assert bridge.returncode == 0


async def test_the_harnesses_end_is_the_end(place: Path) -> None:
    async with harness(place / "s"), bridge_to(place / "s") as (bridge, stdin, stdout):
        await stdin.send_all(b"x")
        assert await stdout.receive_some(1) == b"x"
        await stdin.send_all(LEAVE)
        assert await stdout.receive_some(1) == b""
    assert bridge.returncode == 0


async def test_an_interrupt_of_the_group_is_the_clis_affair(place: Path) -> None:
    async with harness(place / "s"), bridge_to(place / "s") as (bridge, stdin, stdout):
        await stdin.send_all(b"x")
        assert await stdout.receive_some(1) == b"x"
        bridge.send_signal(signal.SIGINT)
        await stdin.send_all(b"y")
        assert await stdout.receive_some(1) == b"y"
        await stdin.aclose()
    assert bridge.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"), [(["/nonexistent"], 1, b"does not answer"), ([], 2, b"usage")]
)
async def test_no_harness(arguments: list[str], code: int, words: bytes) -> None:
    command = [sys.executable, "-I", "-m", "harness.bridge", *arguments]
    with trio.fail_after(20):
        done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
    assert done.returncode == code
    assert words in done.stderr
