"""Following a daemon that misbehaves: one that hangs is as good as away, and one that is back is noticed at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from protocol.hello import Greeting, Hello
from protocol.rpc import Caller, Role
from runtime.client import Client
from runtime.log import logger
from runtime.session import Surface
from runtime.sockets import bind_unix
from tests.support.daemon import running_service
from tests.support.waiting import until
from webd.live import upstream
from webd.live.hub import Hub
from webd.live.upstream import Picture, Presence, follow
from webd.live.world import World

pytestmark = pytest.mark.anyio


class Daemon:
    """Answers Hello, as long as it does not hang."""

    def __init__(self) -> None:
        self.goes_on = trio.Event()
        self.goes_on.set()

    async def hello(self, request: Hello, caller: Caller, host: "Daemon") -> Greeting:
        await self.goes_on.wait()
        return Greeting("egressd", "1", 1)

    @asynccontextmanager
    async def serving(self, path: Path) -> AsyncIterator[None]:
        routes = [Hello.answered_by(self.hello, callers=Role.OPERATOR)]
        async with running_service("egressd") as service:
            service.listen(bind_unix(path), Surface(routes, self), lambda uid: Caller(Role.OPERATOR, uid))
            yield


async def test_a_daemon_that_hangs_is_as_good_as_away(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "ASK_S", 0.1)
    monkeypatch.setattr(upstream, "GREET_EVERY_S", 0.05)
    daemon, path = Daemon(), short_folder / "egressd.sock"
    picture = Picture(World("hive", "1"), Hub("ab"), lambda: 0)
    async with daemon.serving(path), Client(path) as client, trio.open_nursery() as nursery:
        nursery.start_soon(follow, Presence("egressd", client), picture, logger("test"))
        await until(lambda: picture.world.hive.daemons.egressd == "up", what="the daemon")
        daemon.goes_on = trio.Event()
        await until(lambda: picture.world.hive.daemons.egressd == "down", what="the word that it hangs")
        daemon.goes_on.set()
        await until(lambda: picture.world.hive.daemons.egressd == "up", what="its return")
        nursery.cancel_scope.cancel()


@pytest.mark.virtual_time
async def test_a_daemon_is_noticed_within_a_second_after_any_absence(short_folder: Path) -> None:
    daemon, path = Daemon(), short_folder / "egressd.sock"
    picture = Picture(World("hive", "1"), Hub("ab"), lambda: 0)
    async with Client(path) as client, trio.open_nursery() as nursery:
        nursery.start_soon(follow, Presence("egressd", client), picture, logger("test"))
        await trio.sleep(1.5)  # an absence, long enough for the back-off to be at its longest
        async with daemon.serving(path):
            await until(
                lambda: picture.world.hive.daemons.egressd == "up", what="the daemon", deadline_ms=1_000
            )
        nursery.cancel_scope.cancel()
