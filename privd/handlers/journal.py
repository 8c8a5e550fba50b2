"""One cage's journal: pages of it, and following it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from privd.host import Host
from protocol.privd import JournalLine, JournalPage, ReadJournal, WatchJournal
from protocol.rpc import Caller

LOOK_S: Final = 0.25
"""How often a followed journal is looked at."""


async def read(request: ReadJournal, caller: Caller, host: Host) -> JournalPage:
    return host.journal(request.agent).page(request.before, request.bytes_max)


@asynccontextmanager
async def watch(
    request: WatchJournal, caller: Caller, host: Host
) -> AsyncIterator[AsyncIterator[JournalLine]]:
    journal = host.journal(request.agent)

    async def lines() -> AsyncIterator[JournalLine]:
        at = journal.end() if request.since is None else request.since
        while True:
            found, at = journal.since(at)
            for line in found:
                yield line
            if not found:
                await trio.sleep(LOOK_S)

    yield lines()
