"""A reference: a queue as it is written first. One connection behind one lock, a transaction for each message.

python -m bench.servers.plain_queue SOCKET DATABASE POLL_S       with POLL_S 0 a taker is woken by the sender
"""

import asyncio
import json
import sqlite3
import sys
from collections import defaultdict
from typing import Any

SCHEMA = """
CREATE TABLE messages (id INTEGER PRIMARY KEY, recipient INTEGER NOT NULL, body TEXT NOT NULL, state TEXT NOT NULL);
CREATE INDEX waiting ON messages(recipient, id) WHERE state = 'queued';
"""


class Queue:
    """The database and those who wait."""

    def __init__(self, path: str, poll_s: float) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(SCHEMA)
        self._lock = asyncio.Lock()
        self._poll_s = poll_s
        self._arrived: dict[int, asyncio.Event] = defaultdict(asyncio.Event)

    async def _do(self, statement: str, *values: Any) -> list[Any]:
        async with self._lock:
            return await asyncio.to_thread(lambda: self._db.execute(statement, values).fetchall())

    async def answer(self, request: dict[str, Any], reader: asyncio.StreamReader) -> dict[str, Any]:
        to = request["to"]
        if request["op"] == "send":
            ((number,),) = await self._do(
                "INSERT INTO messages (recipient, body, state) VALUES (?, ?, 'queued') RETURNING id",
                to,
                request["body"],
            )
            self._arrived[to].set()
            return {"id": number}
        if request["op"] == "done":
            await self._do("UPDATE messages SET state = 'done' WHERE id = ?", request["id"])
            return {}
        while not reader.at_eof():  # who left takes nothing from who comes next
            self._arrived[to].clear()
            found = await self._do(
                "UPDATE messages SET state = 'leased' WHERE id = (SELECT id FROM messages WHERE recipient = ? "
                "AND state = 'queued' ORDER BY id LIMIT 1) RETURNING id, body",
                to,
            )
            if found:
                return {"id": found[0][0], "body": found[0][1]}
            await (asyncio.sleep(self._poll_s) if self._poll_s else self._arrived[to].wait())
        return {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.readline():
            writer.write(json.dumps(await self.answer(json.loads(request), reader)).encode() + b"\n")
        writer.close()


async def main() -> None:
    """Serve for ever."""
    queue = Queue(sys.argv[2], float(sys.argv[3]))
    async with await asyncio.start_unix_server(queue.serve, sys.argv[1], backlog=512) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
