"""The typed client of a daemon's socket.

    async with Client(path) as client:
        cage = await client.call(StartCage(agent="iris"))            # typed Cage
        async with client.watch(WatchCages()) as events: …           # typed AsyncIterator

Errors
    Refused          the daemon said no
    Disconnected     nobody answers at the socket, or the connection ended before the reply
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, cast

import msgspec
import trio

from protocol import frames
from protocol.limits import REPLY_BYTES_MAX
from protocol.problem import Problem, Refused
from protocol.rpc import Call, Request, Watch
from runtime.backoff import delays

R = TypeVar("R")
E = TypeVar("E")

IDLE_CONNECTIONS_MAX: Final = 8
CONNECT_S: Final = 5.0
RETRY_FIRST_S: Final = 0.02
RETRY_MAX_S: Final = 1.0
READ_BYTES: Final = 64 * 1024

_TRY_AGAIN: Final = frozenset({Problem.BUSY, Problem.STOPPING})


class Disconnected(ConnectionError):
    """The daemon cannot be reached, or went away before it replied."""


class Client:
    """Calls and watches at one socket. Connections are made when needed and kept while idle; tasks may share it."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._idle: deque[_Connection] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._idle:
            await trio.aclose_forcefully(self._idle.pop().stream)

    async def call(self, request: Call[R], *, patience_s: float = 0.0) -> R:
        """Ask, and return the reply. A repeatable request is asked again for up to `patience_s` when nobody answers."""
        deadline = trio.current_time() + patience_s
        waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
        while True:
            try:
                return await self._call_once(request)
            except (Disconnected, Refused) as fault:
                if isinstance(fault, Refused) and fault.problem not in _TRY_AGAIN:
                    raise
                wait_s = next(waits)
                if not request.repeatable or trio.current_time() + wait_s > deadline:
                    raise
            await trio.sleep(wait_s)

    async def _call_once(self, request: Call[R]) -> R:
        """On an idle connection, unless the request may not be sent twice: an idle one may have died unnoticed."""
        while self._idle and request.repeatable:
            try:
                return await self._exchange(self._idle.pop(), request)
            except Disconnected:
                continue
        return await self._exchange(await self._connect(), request)

    async def _exchange(self, connection: "_Connection", request: Call[R]) -> R:
        whole = False
        try:
            reply = await connection.ask(request)
            whole = True
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Disconnected(f"{self.path}: the connection was lost") from error
        except Refused as refused:
            whole = refused.problem not in (Problem.MALFORMED, Problem.STOPPING, Problem.BUSY)
            raise
        finally:
            if whole and len(self._idle) < IDLE_CONNECTIONS_MAX:
                self._idle.append(connection)
            else:
                await trio.aclose_forcefully(connection.stream)
        return cast("R", _decode(reply.ok, request))

    @asynccontextmanager
    async def watch(self, request: Watch[E]) -> AsyncIterator["Events[E]"]:
        """Open a stream of events; iterate what it yields. Disconnected or Refused ends the iteration."""
        connection = await self._connect()
        try:
            try:
                await connection.ask(request)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise Disconnected(f"{self.path}: the connection was lost") from error
            yield Events(connection, request, self.path)
        finally:
            await trio.aclose_forcefully(connection.stream)

    async def _connect(self) -> "_Connection":
        try:
            with trio.fail_after(CONNECT_S):
                return _Connection(await _open(self.path))
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise Disconnected(f"{self.path}: nobody answers ({reason.lower()})") from error
        except trio.TooSlowError:
            raise Disconnected(f"{self.path}: no connection within {CONNECT_S:g} s") from None


class Events(Generic[E]):
    """The events of one watch, in order."""

    def __init__(self, connection: "_Connection", request: Watch[E], path: Path) -> None:
        self._connection = connection
        self._request = request
        self._path = path

    def __aiter__(self) -> AsyncIterator[E]:
        return self

    async def __anext__(self) -> E:
        try:
            reply = await self._connection.read()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Disconnected(f"{self._path}: the connection was lost") from error
        return cast("E", _decode(reply.event, self._request))


class _Connection:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._splitter = frames.Splitter(REPLY_BYTES_MAX)

    async def ask(self, request: Request) -> frames.Reply:
        """Send, and read the first line of the answer.

        A daemon that refuses before it has read everything closes while we still send: its refusal can be read.
        """
        try:
            await self.stream.send_all(frames.encode_request(request))
        except trio.BrokenResourceError:
            return await self.read()
        return await self.read()

    async def read(self) -> frames.Reply:
        while (frame := self._splitter.next_frame()) is None:
            data = await self.stream.receive_some(READ_BYTES)
            if not data:
                raise trio.BrokenResourceError("the daemon closed the connection")
            self._splitter.feed(data)
        return frames.decode_reply(frame)


async def _open(path: Path) -> trio.SocketStream:
    """Connect, waiting while the daemon's queue of new connections is full: the kernel then leaves us unconnected."""
    waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
    while True:
        stream = await trio.open_unix_socket(path)
        try:
            stream.socket.getpeername()
        except OSError:
            await trio.aclose_forcefully(stream)
            await trio.sleep(next(waits))
        else:
            return stream


_decoders: dict[type[Request], msgspec.json.Decoder[Any]] = {}


def _decode(raw: msgspec.Raw, request: Request) -> Any:
    kind = type(request)
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind.answer_type())
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(
            Problem.INTERNAL, f"the answer to {request.operation()} is not what was declared: {error}"
        ) from None
