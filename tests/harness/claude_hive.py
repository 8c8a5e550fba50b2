"""Cages for the real Claude Code CLI, in a network namespace with nothing but loopback.

Its only way to the (scripted) Messages API is the one it has in a cage: the proxy on 127.0.0.1:3128, the agent's
egress socket, CONNECT, TLS with a certificate that it was told to trust.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from msgspec.structs import replace

from harness.places import Places
from protocol.settings import AgentSettings, Runner
from protocol.turns import Outcome
from runtime.sockets import bind_unix
from tests.harness.cage import Cage, cage, empty_network, furnish
from tests.harness.hub import Hub, TurnRecord
from tests.support.certificates import Certificate
from tests.support.scripted_api import ScriptedApi
from tests.support.waiting import until

PROGRAM = Path(__file__).parents[2] / ".hive/claude/claude"
HOST = "model.test"
KEY = "sk-ant-scripted"
TURN_MS = 120_000


class Door:
    """The agent's egress socket, leading to the scripted API whatever host is asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []

    async def serve(self, near: trio.SocketStream) -> None:
        async with near:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await near.receive_some(4096)
            method, target, _ = head.split(b" ", 2)
            assert method == b"CONNECT"
            self.asked.append(target.decode())
            async with (
                await trio.open_tcp_stream("127.0.0.1", self.port) as far,
                trio.open_nursery() as nursery,
            ):
                await near.send_all(b"HTTP/1.1 200 Connection Established\r\n\r\n")
                nursery.start_soon(self._copy, near, far, nursery.cancel_scope)
                await self._copy(far, near, nursery.cancel_scope)

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
        try:
            async for data in source:
                await sink.send_all(data)
        except trio.BrokenResourceError:
            both.cancel()
        both.cancel()


class Hive:
    """One broker, one API, and cages that lead to both."""

    def __init__(self, place: Path, api: ScriptedApi, certificate: Certificate) -> None:
        self.hub = Hub(place)
        self.api = api
        self.doors: dict[str, Door] = {}
        self.has_key = True
        self.settings: dict[str, Any] = {}
        """What the agents' settings say beside what every test needs."""
        self._place = place
        self._certificate = certificate

    @asynccontextmanager
    async def agent(self, name: str, scenario: str, /, **parameters: str | int) -> AsyncIterator[Cage]:
        """The running cage of one agent; the CLI retries nothing, so that failures come at once."""
        settings = AgentSettings(
            name,
            runner=Runner.CLAUDE,
            role_prompt="You sweep the floor.",
            environment={"CLAUDE_CODE_MAX_RETRIES": "0"},
            api_base_url=self.api.url(scenario, host=HOST, **parameters),
        )
        settings = replace(settings, **self.settings)
        places = furnish(self._place / name, settings)
        self._install(places)
        door = self.doors[name] = Door(self.api.port)
        async with trio.open_nursery() as nursery, empty_network() as network:
            places.egress_socket.parent.mkdir(parents=True, exist_ok=True)
            nursery.start_soon(trio.serve_listeners, door.serve, [bind_unix(places.egress_socket)])
            async with cage(self._place, settings, network=network) as running:
                yield running
            nursery.cancel_scope.cancel()

    def _install(self, places: Places) -> None:
        places.claude.parent.mkdir(parents=True, exist_ok=True)
        places.claude.unlink(missing_ok=True)
        places.claude.symlink_to(PROGRAM)
        shutil.copy(self._certificate.authority, places.credentials / "ca.pem")
        (places.credentials / "api_key").unlink(missing_ok=True)
        if self.has_key:
            (places.credentials / "api_key").write_text(KEY + "\n")

    async def turn(self, number: int = 1) -> TurnRecord:
        """The turn that ended as the *number*th."""
        await until(lambda: len(self.hub.ended()) >= number, what=f"turn {number}", deadline_ms=TURN_MS)
        return self.hub.ended()[number - 1]


def outcome(turn: TurnRecord) -> Outcome:
    assert turn.end is not None
    return turn.end.outcome
