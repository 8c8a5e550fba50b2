"""The unix socket of the MCP server, and who may connect to it: the agent's user, and nobody else in the cage."""

from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

import trio

from harness.mcp.toolbox import Toolbox
from runtime.log import Log
from runtime.sockets import Ownership, bind_unix, peer_uid

CONNECTIONS_MAX: Final = 16
"""One CLI holds one; its sub-agents share it."""
SOCKET_MODE: Final = 0o666
"""Everyone in the cage may knock; the uid decides."""

Serve = Callable[[trio.SocketStream, Toolbox], Awaitable[None]]


class BadClient(Exception):
    """The client breaks a rule of the connection; the text says which."""


class _Server(Protocol):
    serve_stream: Serve


async def serve_tools(
    path: Path,
    toolbox: Toolbox,
    agent_uid: int,
    log: Log,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the tools at *path* to processes of *agent_uid*, for as long as the harness lives."""
    limit = trio.CapacityLimiter(CONNECTIONS_MAX)

    async def connection(stream: trio.SocketStream) -> None:
        async with stream:
            uid = peer_uid(stream)
            if uid != agent_uid:
                log.warning("turned away a process that is not the agent's", uid=uid)
                return
            if limit.available_tokens < 1:
                log.warning("the agent holds too many connections to its tools", held=limit.borrowed_tokens)
                return
            async with limit:
                await _isolated(stream, toolbox, log)

    listener = bind_unix(path, Ownership(mode=SOCKET_MODE))
    async with listener:
        task_status.started()
        await trio.serve_listeners(connection, [listener])


async def _isolated(stream: trio.SocketStream, toolbox: Toolbox, log: Log) -> None:
    """Serve one connection; its defects stay on it."""
    try:
        serve_stream = await _load()
        await serve_stream(stream, toolbox)
    except* BadClient as faults:
        log.warning("a connection to the tools was ended", reason=_first(faults))
    except* Exception as defects:
        log.exception("a connection to the tools met a defect", exc_info=defects)


def _first(fault: BaseException) -> str:
    """The words of a fault inside the groups that tasks wrap around it."""
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return str(fault)


async def _load() -> Serve:
    """The server's module, imported at the first connection and in a thread: it takes 40 MB and half a second."""
    module = cast("_Server", await trio.to_thread.run_sync(import_module, "harness.mcp.server"))
    return module.serve_stream
