"""A service inside the test's own event loop: what a daemon's `main` is given, without the process around it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from runtime.service import Service


@asynccontextmanager
async def running_service(name: str = "test") -> AsyncIterator[Service]:
    """A service that is told to stop at the end; what was opened is closed after its tasks have ended."""
    async with AsyncExitStack() as resources, trio.open_nursery() as work:
        service = Service(name, work, resources)
        try:
            yield service
        finally:
            service.stopping.set()
