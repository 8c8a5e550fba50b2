"""What egressd does from its start to its end: it follows privd's cages and keeps a door for each.

privd may come later, go and come back: doors stay as they are until it says otherwise.
"""

import os
from pathlib import Path
from typing import Final

import trio

from egressd.doors import Doors
from egressd.settings import EgressSettings
from protocol.hello import WIRE_VERSION, Greeting, Hello
from protocol.privd import WatchCages
from protocol.problem import Refused
from protocol.rpc import Caller, Role
from runtime import VERSION
from runtime.backoff import delays
from runtime.client import Client, Disconnected
from runtime.notify import given_sockets
from runtime.operators import operator_socket, operators
from runtime.service import Service
from runtime.session import Surface
from runtime.sockets import adopt_fd, bind_unix

AGAIN_FIRST_S: Final = 0.1
AGAIN_MAX_S: Final = 2.0


async def serve(service: Service, settings: EgressSettings) -> None:
    """Open what egressd owns."""
    run = Path(settings.run)
    doors = Doors(run / "agents", settings.model_scope(), settings.private_targets(), service)
    service.resources.callback(doors.close)
    client = await service.resources.enter_async_context(Client(run / "privd" / "egress.sock"))
    service.start_background(follow_cages, client, doors, service, name="cages")
    _listen_for_operators(service, settings)


def _listen_for_operators(service: Service, settings: EgressSettings) -> None:
    """A socket at which egressd can be seen to live; nothing can be changed there."""
    folder = Path(settings.run) / "egressd"
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    given = given_sockets()
    listener = (
        adopt_fd(given["operator"])
        if "operator" in given
        else bind_unix(folder / "operator.sock", operator_socket(settings.admin_gid))
    )
    admit = operators({os.geteuid(), *settings.operator_uids}, settings.admin_gid)
    service.listen(listener, Surface(ROUTES, None), admit)


async def hello(request: Hello, caller: Caller, host: None) -> Greeting:
    """Who answers."""
    return Greeting(daemon="egressd", version=VERSION, wire=WIRE_VERSION)


ROUTES: Final = (Hello.answered_by(hello, callers=Role.OPERATOR),)


async def follow_cages(client: Client, doors: Doors, service: Service) -> None:
    """Apply every event of privd's watch, for ever; a watch that ends is opened again."""
    waits = delays(AGAIN_FIRST_S, AGAIN_MAX_S)
    while True:
        wait_s = AGAIN_FIRST_S
        try:
            async with client.watch(WatchCages()) as events:
                async for event in events:
                    waits = delays(AGAIN_FIRST_S, AGAIN_MAX_S)
                    doors.apply(event)
        except (Disconnected, Refused) as fault:
            wait_s = next(waits)
            service.log.warning("no news of cages", reason=str(fault), again_s=round(wait_s, 2))
        await trio.sleep(wait_s)
