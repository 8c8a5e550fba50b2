"""A reference: the same answer over HTTP, by hypercorn on trio at a unix socket, without a framework above it."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

ANSWER = Path(sys.argv[2]).read_bytes()


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Every request gets the same answer."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])  # how a server learns that there is nothing to start
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    config = Config()
    config.bind = [f"unix:{sys.argv[1]}"]
    config.errorlog = None
    config.keep_alive_max_requests = 1_000_000_000
    trio.run(serve, app, config)  # type: ignore[arg-type]  # an app of plain dicts
