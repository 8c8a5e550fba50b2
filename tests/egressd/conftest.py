"""A host to reach: a TLS server on loopback with a certificate of its own. And records of what egressd logged."""

import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
import structlog.testing
import trio

from egressd.doors import Doors
from egressd.model import ModelApis
from egressd.news import News
from egressd.policy.scope import Scope
from egressd.policy.target import Target
from egressd.upstream import Upstream
from protocol.privd import Cage, Power
from protocol.settings import AgentSettings
from runtime.service import Service

Record = MutableMapping[str, Any]


@dataclass(frozen=True)
class Certificate:
    """A key, and a certificate for localhost that signs itself."""

    key: Path
    chain: Path

    def server(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.chain, self.key)
        return context

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.chain))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("tls")
    made = Certificate(folder / "key.pem", folder / "chain.pem")
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-keyout", str(made.key), "-out", str(made.chain), "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"),
        ],
        check=True,
        capture_output=True,
    )
    return made


@asynccontextmanager
async def echo_host(tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on 127.0.0.1 that sends back what it gets and half-closes once the other side has; yields its port."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listener.socket.getsockname()[1]

    async def answer(stream: trio.SocketStream) -> None:
        try:
            await (
                _echo(stream)
                if tls is None
                else _echo_encrypted(trio.SSLStream(stream, tls, server_side=True))
            )
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        yield port
        nursery.cancel_scope.cancel()


async def _echo(stream: trio.SocketStream) -> None:
    async with stream:
        while data := await stream.receive_some(64 * 1024):
            await stream.send_all(data)
        await stream.send_eof()


async def _echo_encrypted(stream: "trio.SSLStream[trio.SocketStream]") -> None:
    async with stream:
        while data := await stream.receive_some(64 * 1024):
            await stream.send_all(data)


def cage_of(settings: AgentSettings, power: Power = Power.RUNNING) -> Cage:
    """A cage as privd tells of it, whose users are all the one who runs the tests."""
    uid = os.geteuid()
    return Cage(settings.name, power, 0, "bwrap", uid, uid, settings)


def open_doors(
    agents: Path,
    service: Service,
    *,
    hive: Scope | None = None,
    private: frozenset[Target] = frozenset(),
    upstreams: dict[str, Upstream] | None = None,
) -> tuple[Doors, News]:
    """Doors as egressd keeps them, and what it would tell brokerd."""
    news = News(tuple(upstreams or ()), service)
    doors = Doors(
        agents, hive or Scope(), private, ModelApis(news.accounts, upstreams or {}), news.refusals, service
    )
    service.resources.callback(doors.close)
    return doors, news


@pytest.fixture
def records() -> Iterator[list[Record]]:
    """What was logged during the test, oldest first."""
    with structlog.testing.capture_logs() as captured:
        yield captured
