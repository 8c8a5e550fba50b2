"""A daemon of the tests as a process: `python -m tests.support.small_daemon SOCKET [behaviour]`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from protocol.rpc import Caller, Role
from runtime import log
from runtime.service import Service, run_service
from runtime.session import Surface
from runtime.sockets import bind_unix
from tests.support.dialogue import ROUTES, new_room


async def main(service: Service, path: Path, behaviour: str) -> None:
    """Serve the routes of the tests, and misbehave as told."""
    await service.resources.enter_async_context(noted(service, "first"))
    await service.resources.enter_async_context(noted(service, "second"))
    room = new_room()
    service.listen(bind_unix(path), Surface(ROUTES, room), lambda uid: Caller(Role.OPERATOR, uid))
    match behaviour:
        case "main fails":
            raise RuntimeError("main met a defect")
        case "background fails":
            service.start_background(fail_when_rung, room.bell, name="doomed")
        case "background returns":
            service.start_background(trio.lowlevel.checkpoint, name="short")


async def fail_when_rung(bell: trio.Event) -> None:
    """Die when a request breaks something: here, soon."""
    with trio.move_on_after(0.05):
        await bell.wait()
    raise RuntimeError("a background task met a defect")


@asynccontextmanager
async def noted(service: Service, name: str) -> AsyncIterator[None]:
    service.log.info("opened", resource=name)
    yield
    service.log.info("closed", resource=name)


if __name__ == "__main__":
    log.configure("debug")
    sys.exit(
        run_service(
            "small", partial(main, path=Path(sys.argv[1]), behaviour=sys.argv[2] if len(sys.argv) > 2 else "")
        )
    )
