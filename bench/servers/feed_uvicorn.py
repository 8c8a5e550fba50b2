"""A reference: server-sent events by uvicorn on uvloop, without a framework above it and without anything durable.

Each line that comes in at a unix socket goes to every reader. `queues` gives each reader a queue and each event a send
of its own, as most programs do; `batched` sends what has gathered in one piece, ten times a second, as webd does.

python -m bench.servers.feed_uvicorn PORT SOCKET queues|batched
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn

BEAT_S = 0.1
Send = Callable[[Any], Awaitable[None]]


class Feed:
    """Everything that was told, and who listens."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.queues: set[asyncio.Queue[bytes]] = set()

    def tell(self, line: bytes) -> None:
        frame = b"event: flow\ndata: " + line.rstrip(b"\n") + b"\n\n"
        self.frames.append(frame)
        for queue in self.queues:
            queue.put_nowait(frame)

    async def queued(self, send: Send) -> None:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.queues.add(queue)
        while True:
            await send({"type": "http.response.body", "body": await queue.get(), "more_body": True})

    async def batched(self, send: Send) -> None:
        place = len(self.frames)
        while True:
            await asyncio.sleep(BEAT_S)
            if len(self.frames) > place:
                body = b"".join(self.frames[place:])
                place = len(self.frames)
                await send({"type": "http.response.body", "body": body, "more_body": True})


feed = Feed()


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Send) -> None:
    """The stream, whatever is asked for."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])  # how a server learns that there is nothing to start
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
    await (feed.batched(send) if sys.argv[3] == "batched" else feed.queued(send))


async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Tell every line that comes in."""
    while line := await reader.readline():
        feed.tell(line)
    writer.close()


async def main() -> None:
    """Serve both."""
    place = Path(sys.argv[2])
    lines = await asyncio.start_unix_server(listen, str(place), limit=1 << 20)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical", loop="uvloop", lifespan="off"
    )
    async with lines:
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    import uvloop  # type: ignore[import-not-found]  # only in the references' environment

    uvloop.run(main())
