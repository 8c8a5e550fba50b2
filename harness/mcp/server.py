"""The MCP server for one connection, by the official package. Its types end here: tools and answers are ours.

Imported late (harness.mcp.listener), because the package brings an HTTP stack that nothing here uses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
import trio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.message import SessionMessage

from harness.mcp.listener import BadClient
from harness.mcp.toolbox import Toolbox
from harness.mcp.tools import ToolCard
from runtime import VERSION

LINE_BYTES_MAX: Final = 1024 * 1024
"""One JSON-RPC message: a body of 64 KiB at six bytes for each escaped one, and room around it."""
READ_BYTES: Final = 64 * 1024
CANCELLED: Final = "notifications/cancelled"
NAME: Final = "hive"
REQUESTS_MAX: Final = 8
"""Requests of one connection that wait for their answer; a client with more is not read until one is answered."""

FromClient = MemoryObjectSendStream[SessionMessage | Exception]
ToClient = MemoryObjectReceiveStream[SessionMessage]


class LineTooLong(BadClient):
    """The client sent a line that no call of ours can need."""


class RepeatedId(BadClient):
    """The client used the id of a request that still waits: the two could not be told apart."""


class Pending:
    """What one client still has to get. It is read no further while that is too much, or while it does not read."""

    def __init__(self) -> None:
        self._ids: set[types.RequestId] = set()
        self._is_writing = False
        self._changed = trio.Event()

    async def room(self) -> None:
        while self._is_writing or len(self._ids) >= REQUESTS_MAX:
            await self._changed.wait()

    def came(self, message: types.JSONRPCMessage) -> None:
        """Count a request; one that is cancelled gets no answer."""
        if isinstance(message, types.JSONRPCRequest):
            if as_number(message.id) in self._ids:
                raise RepeatedId(f"a request with the id {message.id!a} waits already")
            self._ids.add(as_number(message.id))
        elif isinstance(message, types.JSONRPCNotification) and message.method == CANCELLED:
            self._forget((message.params or {}).get("requestId"))

    @contextmanager
    def writing(self, message: types.JSONRPCMessage) -> Iterator[None]:
        self._is_writing = True
        try:
            yield
        finally:
            self._is_writing = False
            self._forget(None if isinstance(message, types.JSONRPCNotification) else message.id)

    def _forget(self, number: object) -> None:
        if isinstance(number, int | str):
            self._ids.discard(as_number(number))
        self._changed.set()
        self._changed = trio.Event()


def as_number(number: types.RequestId) -> types.RequestId:
    """An id as the protocol compares it: `"7"` is 7."""
    return int(number) if isinstance(number, str) and number.isdecimal() else number


async def serve_stream(stream: trio.SocketStream, toolbox: Toolbox) -> None:
    """Speak MCP on *stream* until the client closes it."""
    from_client, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write_stream, to_client = anyio.create_memory_object_stream[SessionMessage](0)
    server = build(toolbox)
    pending = Pending()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_lines, stream, from_client, pending)
        tasks.start_soon(write_lines, stream, to_client, pending)
        await server.run(read_stream, write_stream, server.create_initialization_options())
        tasks.cancel_scope.cancel()


def build(toolbox: Toolbox) -> "Server[Any]":
    """The server of one connection."""

    async def list_tools(
        _: ServerRequestContext[Any], __: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[listed(card) for card in toolbox.cards.values()])

    async def call_tool(
        _: ServerRequestContext[Any], call: types.CallToolRequestParams
    ) -> types.CallToolResult:
        answer = await toolbox.call(call.name, call.arguments or {})
        text = types.TextContent(type="text", text=answer.text)
        return types.CallToolResult(content=[text], is_error=answer.is_error)

    return Server(NAME, version=VERSION, on_list_tools=list_tools, on_call_tool=call_tool)


def listed(card: ToolCard) -> types.Tool:
    return types.Tool(
        name=card.name,
        description=card.description,
        input_schema=card.schema,
        annotations=types.ToolAnnotations(read_only_hint=card.is_reading),
    )


async def read_lines(stream: trio.SocketStream, from_client: FromClient, pending: Pending) -> None:
    """Turn lines into messages; a line that is none becomes an error that the protocol answers."""
    buffer = bytearray()
    async with from_client:
        while data := await _received(stream):
            buffer += data
            while (end := buffer.find(b"\n")) >= 0:
                line = bytes(buffer[:end])
                del buffer[: end + 1]
                if line.strip():
                    await pending.room()
                    message = parsed(line)
                    if isinstance(message, SessionMessage):
                        pending.came(message.message)
                    await from_client.send(message)
            if len(buffer) > LINE_BYTES_MAX:
                raise LineTooLong(f"a line to the tools has more than {LINE_BYTES_MAX} bytes")


def parsed(untrusted_line: bytes) -> SessionMessage | Exception:
    try:
        return SessionMessage(types.jsonrpc_message_adapter.validate_json(untrusted_line, by_name=False))
    except ValueError as fault:
        return fault


async def write_lines(stream: trio.SocketStream, to_client: ToClient, pending: Pending) -> None:
    async with to_client:
        async for message in to_client:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            try:
                with pending.writing(message.message):
                    await stream.send_all(text.encode() + b"\n")
            except trio.BrokenResourceError:
                return  # the client is gone; the reader sees the same and ends the connection


async def _received(stream: trio.SocketStream) -> bytes | bytearray:
    try:
        return await stream.receive_some(READ_BYTES)
    except trio.BrokenResourceError:
        return b""
