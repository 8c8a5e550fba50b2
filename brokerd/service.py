"""What brokerd does from its start to its end: open the databases, serve the operator and every agent, follow privd."""

from pathlib import Path
from typing import Final

import trio

from brokerd import upkeep
from brokerd.host import open_host
from brokerd.routes import AGENT_ROUTES, OPERATOR_ROUTES
from brokerd.settings import BrokerSettings
from brokerd.store import schema, wal
from brokerd.swarm.cages import follow_privd
from brokerd.swarm.doors import Doors
from protocol.limits import BROKER_FRAME_BYTES_MAX
from runtime.notify import given_sockets
from runtime.operators import operator_socket, operators
from runtime.service import Service
from runtime.session import Surface
from runtime.sockets import adopt_fd, bind_unix
from runtime.store import Store, open_store

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
OPERATOR_SOCKET: Final = "operator"
"""The name of the socket that a service manager may hand over."""


async def serve_broker(service: Service, settings: BrokerSettings) -> None:
    """Open what brokerd owns and listen. Returns once everything is served.

    The operator's socket is bound first: a second brokerd of the same hive ends there, before it touches a database.
    """
    listener = _bind_for_operator(settings)
    Path(settings.state).mkdir(mode=0o700, parents=True, exist_ok=True)
    shape = schema.shape_of(settings.database, settings.events_database)
    store = await service.resources.enter_async_context(open_store(shape, schema.migrate))
    host = await open_host(settings, store, BOOT_ID.read_text().strip(), service.log)
    await _grow_log(store)
    for task in (upkeep.end_on_broken_store, upkeep.end_leases, upkeep.look_after):
        service.start_background(task, host, name=task.__name__)
    service.start_background(host.tellings.tell_on, name="tell leases")
    service.start_background(host.harnesses.tell_presence, name="tell presence")
    doors = Doors(
        service, Surface(AGENT_ROUTES, host, frame_bytes_max=BROKER_FRAME_BYTES_MAX), settings.agent_socket
    )
    for known in host.roster.all():
        doors.open(known)
    service.start_background(follow_privd, host, doors, name="follow privd")
    surface = Surface(OPERATOR_ROUTES, host, frame_bytes_max=BROKER_FRAME_BYTES_MAX)
    service.listen(listener, surface, operators(settings.operators, settings.admin_gid))


def _bind_for_operator(settings: BrokerSettings) -> trio.SocketListener:
    given = given_sockets()
    if OPERATOR_SOCKET in given:
        return adopt_fd(given[OPERATOR_SOCKET])
    settings.operator_socket.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    return bind_unix(settings.operator_socket, operator_socket(settings.admin_gid))


async def _grow_log(store: Store) -> None:
    for _ in range(wal.STEPS):
        await store.write(wal.grow)
    await store.write(wal.finish)
