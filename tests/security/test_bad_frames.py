"""T2: what must not be said at root's socket gets its clear refusal, changes nothing, and the next client is served."""

import array
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from privd.routes import ROUTES
from protocol.hello import Greeting, Hello
from protocol.limits import FRAME_BYTES_MAX
from protocol.rpc import EVERY_ROLE, Caller, Role, Route
from runtime.client import Client
from runtime.session import Surface
from runtime.sockets import bind_unix
from runtime.stopping import Stopping
from tests.security.test_roles import Untouchable
from tests.support.corpus import Frame, frames
from tests.support.daemon import running_service
from tests.support.dialogue import Dialogue, new_room
from tests.support.waiting import until

FRAMES = frames()

pytestmark = pytest.mark.anyio


async def hello(request: Hello, caller: Caller, host: object) -> Greeting:
    return Greeting("privd", "0", 1)


def routes() -> list[Route[Any]]:
    """Root's own table; only Hello is done, so that the next client can be seen to be served."""
    own = [route for route in ROUTES if route.request is not Hello]
    return [*own, Hello.answered_by(hello, callers=EVERY_ROLE)]


@asynccontextmanager
async def socket_of_root(path: Path, role: Role) -> AsyncIterator[None]:
    async with running_service("privd") as service:
        surface = Surface(routes(), Untouchable(), canonical=True, frame_bytes_max=FRAME_BYTES_MAX)
        service.listen(bind_unix(path), surface, lambda uid: Caller(role, uid))
        yield


@pytest.mark.parametrize("row", FRAMES, ids=[row.id for row in FRAMES])
async def test_a_bad_frame_is_refused_and_the_next_client_served(tmp_path: Path, row: Frame) -> None:
    path = tmp_path / "privd.sock"
    async with socket_of_root(path, row.role), Client(path) as waiting:
        await waiting.call(Hello())
        async with await trio.open_unix_socket(path) as stream:
            peer = Dialogue(stream, new_room(), Stopping())
            await say(peer, row)
            if row.problem is not None:
                await peer.hears_problem(row.problem, row.words)
            if row.ends:
                await over(stream)
            else:
                await peer.says(Hello())
                assert "ok" in await peer.hears()
        assert (await waiting.call(Hello())).daemon == "privd"
        async with Client(path) as new:
            assert (await new.call(Hello())).daemon == "privd"


async def say(peer: Dialogue, row: Frame) -> None:
    try:
        await peer.says(row.said)
        if row.problem is None:
            await peer.stream.send_eof()
    except trio.BrokenResourceError:
        return  # refused before all of it was said


async def over(stream: trio.SocketStream) -> None:
    """The connection is at its end, or was broken off because not all that we said was read."""
    with trio.fail_after(10):
        try:
            assert await stream.receive_some() == b""
        except trio.BrokenResourceError:
            return


async def test_descriptors_sent_along_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "privd.sock"
    async with socket_of_root(path, Role.OPERATOR), await trio.open_unix_socket(path) as stream:
        sent = os.memfd_create("sent along")
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sent] * 200))]
        await stream.socket.sendmsg([b'{"op":"hello"}\n'], ancillary)
        os.close(sent)
        assert b'"ok"' in await stream.receive_some()
        await until(
            lambda: not [one for one in open_files() if "sent along" in one], what="no descriptor left"
        )


def open_files() -> list[str]:
    return [str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
