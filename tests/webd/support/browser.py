"""What a browser does, without a browser: requests with its headers and its cookie, streams, and raw bytes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h11
import trio

ANSWER_S = 20.0


@dataclass
class Answered:
    """One answer, whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Browser:
    """One browser at one webd. The cookie is kept as browsers do."""

    port: int
    cookie: str | None = None
    address: str = "127.0.0.1"
    """Where it comes from: any address of the loopback network."""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def usual(self, method: str) -> dict[str, str]:
        """The headers that a page's own requests carry."""
        usual = {"host": self.host, "sec-fetch-site": "same-origin", "user-agent": "a test"}
        if method == "POST":
            usual |= {"origin": f"http://{self.host}", "content-type": "application/json"}
        if self.cookie:
            usual["cookie"] = self.cookie
        return usual | self.headers

    async def get(self, path: str, **headers: str) -> Answered:
        return await self.ask("GET", path, headers=headers)

    async def post(self, path: str, said: Any, **headers: str) -> Answered:
        return await self.ask("POST", path, json.dumps(said).encode(), headers=headers)

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, headers: dict[str, str] | None = None
    ) -> Answered:
        """One request on a connection of its own."""
        said = self.usual(method) | {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        if method == "POST":
            said.setdefault("content-length", str(len(body)))
        with trio.fail_after(ANSWER_S):
            async with await trio.open_tcp_stream(
                "127.0.0.1", self.port, local_address=self.address
            ) as stream:
                connection = h11.Connection(h11.CLIENT)
                await stream.send_all(_request(connection, method, path, said, body))
                answered = await _answer(connection, stream)
        set_cookie = answered.headers.get("set-cookie")
        if set_cookie:
            self.cookie = set_cookie.partition(";")[0]
        return answered

    @asynccontextmanager
    async def stream(
        self, topics: str = "hive,agents,flow", cursor: str = "", **headers: str
    ) -> AsyncIterator["Frames"]:
        """A live stream; leaving the block breaks its connection."""
        path = f"/api/v1/stream?topics={topics}" + (f"&from={cursor}" if cursor else "")
        said = self.usual("GET") | {name.replace("_", "-"): value for name, value in headers.items()}
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        try:
            connection = h11.Connection(h11.CLIENT)
            await stream.send_all(_request(connection, "GET", path, said, b""))
            frames = Frames(connection, stream)
            await frames.begin()
            yield frames
        finally:
            await trio.aclose_forcefully(stream)


@dataclass
class Frame:
    """One event of a stream."""

    id: str
    event: str
    data: Any


class Frames:
    """The events of one stream, in order."""

    def __init__(self, connection: h11.Connection, stream: trio.SocketStream) -> None:
        self._connection = connection
        self._stream = stream
        self._text = b""
        self.status = 0
        self.headers: dict[str, str] = {}

    async def begin(self) -> None:
        event = await _event(self._connection, self._stream)
        assert isinstance(event, h11.Response), event
        self.status = event.status_code
        self.headers = {name.decode(): value.decode() for name, value in event.headers}

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        while True:
            head, found, rest = self._text.partition(b"\n\n")
            if found:
                self._text = rest
                frame = _frame(head)
                if frame is not None:
                    return frame
                continue
            event = await _event(self._connection, self._stream)
            if not isinstance(event, h11.Data):
                raise StopAsyncIteration
            self._text += bytes(event.data)

    async def next(self, name: str = "", *, within_s: float = ANSWER_S) -> Frame:
        """The next event, or the next of that name."""
        with trio.fail_after(within_s):
            async for frame in self:
                if not name or frame.event == name:
                    return frame
        raise AssertionError("the stream ended")


def _frame(text: bytes) -> Frame | None:
    fields = dict(line.split(": ", 1) for line in text.decode().split("\n") if line)
    if "data" not in fields:
        return None
    return Frame(fields.get("id", ""), fields["event"], json.loads(fields["data"]))


def _request(
    connection: h11.Connection, method: str, path: str, headers: dict[str, str], body: bytes
) -> bytes:
    data = connection.send(h11.Request(method=method, target=path, headers=list(headers.items()))) or b""
    if body:
        data += connection.send(h11.Data(data=body)) or b""
    return data + (connection.send(h11.EndOfMessage()) or b"")


async def _event(connection: h11.Connection, stream: trio.SocketStream) -> h11.Event:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Event):
            return event
        connection.receive_data(await stream.receive_some(65_536))


async def _answer(connection: h11.Connection, stream: trio.SocketStream) -> Answered:
    response = await _event(connection, stream)
    assert isinstance(response, h11.Response), response
    body = b""
    while isinstance(event := await _event(connection, stream), h11.Data):
        body += bytes(event.data)
    return Answered(
        response.status_code, {name.decode(): value.decode() for name, value in response.headers}, body
    )


async def raw(port: int, *pieces: bytes | float, whole_s: float = ANSWER_S) -> bytes:
    """Send exact bytes, with pauses where a number stands, and return everything that comes back until the end."""
    received = bytearray()
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            for piece in pieces:
                if isinstance(piece, bytes):
                    try:
                        await stream.send_all(piece)
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        return
                else:
                    await trio.sleep(piece)

        nursery.start_soon(send)
        with trio.fail_after(whole_s):
            try:
                while data := await stream.receive_some(65_536):
                    received += data
            except trio.BrokenResourceError:
                pass
        nursery.cancel_scope.cancel()
    return bytes(received)
