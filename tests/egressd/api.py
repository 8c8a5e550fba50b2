"""A model API on loopback that says what a test tells it to, over TLS, and keeps the very bytes that it was sent.

It shares no parser with egressd: what egressd passes on must be plain enough for the simplest reader.
"""

import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from egressd.policy.site import KeyKind, parse_site
from egressd.upstream import Upstream, trusting
from protocol.egressd import AnyEgressEvent
from protocol.privd import CageChanged
from protocol.settings import AgentSettings, Credential
from runtime.fanout import Watcher
from runtime.service import Service
from tests.egressd.conftest import Certificate, cage_of, open_doors
from tests.support.daemon import running_service
from tests.support.waiting import until

KEY = "sk-ant-key-of-this-test"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

IRIS = AgentSettings("iris", credential=Credential.EGRESS)
"""An agent whose key egressd holds."""
SHORT_S = 0.2
"""A deadline that a test waits for."""

Stream = trio.SSLStream[trio.SocketStream]


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    first_line: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name]


Say = Callable[[Asked], bytes | tuple[bytes | None, ...] | None]
"""What is answered: bytes, pieces of them sent one by one, or None to break the connection off there."""


@dataclass
class FakeApi:
    """The server; `say` may be changed while it runs."""

    tls: ssl.SSLContext
    say: Say = lambda asked: OK
    early: bytes | None = None
    """What is answered instead as soon as a head has come, whatever of a body follows."""
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    ended: int = 0
    """Of the connections, how many are over."""
    held: trio.Event = field(default_factory=trio.Event)
    """Pieces after the first wait for it."""
    left: trio.Event = field(default_factory=trio.Event)
    """Set when egressd went away while a reply was held."""

    async def serve(self, plain: trio.SocketStream) -> None:
        self.connections += 1
        stream = trio.SSLStream(plain, self.tls, server_side=True, https_compatible=True)
        try:
            rest = b""
            while True:
                request, rest = await self._read(stream, rest)
                if self.early is not None:
                    await stream.send_all(self.early)
                    await self.left.wait()
                if request is None:
                    break
                self.asked.append(request)
                said = self.say(request)
                if said is None:
                    break
                if not await self._answer(stream, (said,) if isinstance(said, bytes) else said):
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.left.set()
        finally:
            await trio.aclose_forcefully(stream)
            self.ended += 1

    async def _answer(self, stream: Stream, pieces: tuple[bytes | None, ...]) -> bool:
        """Whether the connection goes on after it."""
        for number, piece in enumerate(pieces):
            if piece is None:
                return False
            if number:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._notice_leaving, stream)
                    await self.held.wait()
                    nursery.cancel_scope.cancel()
            await stream.send_all(piece)
        return True

    async def _notice_leaving(self, stream: Stream) -> None:
        if not await stream.receive_some():
            self.left.set()

    async def _read(self, stream: Stream, data: bytes) -> tuple[Asked | None, bytes]:
        while b"\r\n\r\n" not in data:
            more = await stream.receive_some()
            if not more:
                return None, b""
            data += bytes(more)
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        asked = Asked(first, headers, b"")
        if self.early is not None:
            return asked, rest
        if asked.values("transfer-encoding"):
            while not rest.endswith(b"0\r\n\r\n"):
                rest += bytes(await stream.receive_some())
            return Asked(first, headers, rest), b""
        length = int((asked.values("content-length") or ["0"])[0])
        while len(rest) < length:
            more = await stream.receive_some()
            if not more:
                return None, b""
            rest += bytes(more)
        return Asked(first, headers, rest[:length]), rest[length:]


class ModelWay:
    """iris's model socket, the API behind it, and what egressd tells of both."""

    def __init__(self, api: FakeApi, folder: Path, certificate: Certificate, service: Service) -> None:
        self.api = api
        folder.mkdir(exist_ok=True)
        self.key_file = folder / "default.key"
        self.key_file.write_text(f"{KEY}\n")
        self.service = service
        self.path = folder / "iris" / "egress" / "model.sock"
        self.path.parent.mkdir(parents=True)
        self._folder = folder
        self._certificate = certificate

    def open(self, *, kind: KeyKind = KeyKind.API_KEY, judged: bool = False, host: str = "localhost") -> None:
        site = parse_site(f"https://{host}:{self.api.port}/base")
        upstream = Upstream(site, kind, self.key_file, trusting(self._certificate.chain), judged=judged)
        self.service.resources.push_async_callback(upstream.close)
        self.doors, self.news = open_doors(self._folder, self.service, upstreams={"default": upstream})

    async def settle(self, settings: AgentSettings) -> None:
        self.doors.apply(CageChanged(cage_of(settings)))
        await until(self.path.exists, what="the model socket")

    async def connect(self) -> trio.SocketStream:
        return await trio.open_unix_socket(self.path)

    async def ask(self, request: bytes) -> bytes:
        """Send bytes, and read until egressd ends the connection."""
        async with await self.connect() as stream, trio.open_nursery() as nursery:
            nursery.start_soon(send, stream, request)
            return await read_to_end(stream)

    def known(self) -> tuple[int | None, str]:
        """Until when the account is limited, and why."""
        account = self.news.accounts["default"].known
        return account.limited_until_ms, account.detail


async def send(stream: trio.SocketStream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        return  # what is left unread is what the test looks at


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    data = bytearray()
    try:
        while more := await stream.receive_some(64 * 1024):
            data += more
    except trio.BrokenResourceError:
        pass  # not all that we sent was read: the kernel says so after the answer
    return bytes(data)


@asynccontextmanager
async def model_way(
    folder: Path, certificate: Certificate, settings: AgentSettings, *, at: str = "127.0.0.1", **how: object
) -> AsyncIterator[ModelWay]:
    """A model socket that leads to an API of the test's own, which listens `at` an address."""
    api = FakeApi(certificate.server())
    (listener,) = await trio.open_tcp_listeners(0, host=at)
    api.port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, api.serve, [listener])
        async with running_service("egressd") as service:
            way = ModelWay(api, folder, certificate, service)
            way.open(**how)  # type: ignore[arg-type]  # the keywords of open
            await way.settle(settings)
            yield way
        nursery.cancel_scope.cancel()


def taken(events: Watcher[AnyEgressEvent]) -> list[AnyEgressEvent]:
    """What watchers were told so far."""
    return events.take_waiting(1000)


def post(
    *headers: str, body: bytes = b"{}", path: str = "/v1/messages?beta=true", last: bool = True
) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, *(["Connection: close"] if last else []), "", ""]).encode() + body


def error(answer: bytes) -> tuple[int, str, str]:
    """Status, kind and text of an error in the API's shape."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/json" in head.lower()
    told: dict[str, Any] = json.loads(body)
    assert told["type"] == "error"
    return int(head.split()[1]), told["error"]["type"], told["error"]["message"]


async def one_reply(stream: trio.SocketStream) -> bytes:
    """A reply of OK's length, on a connection that stays."""
    data = b""
    while not data.endswith(b"{}"):
        more = await stream.receive_some()
        assert more, data
        data += bytes(more)
    return data


def changed(settings: AgentSettings) -> CageChanged:
    """What privd says when an agent's settings became others."""
    return CageChanged(cage_of(settings))
