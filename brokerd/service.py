"""What brokerd does from its start to its end: open the databases, serve the operator and every agent, follow privd."""

import os
from pathlib import Path
from typing import Final

import trio

from brokerd import upkeep
from brokerd.host import open_host
from brokerd.live.room import Room
from brokerd.routes import AGENT_ROUTES, OPERATOR_ROUTES
from brokerd.settings import BrokerSettings
from brokerd.store import ballast, folder, schema, wal
from brokerd.swarm.cages import follow_privd
from brokerd.swarm.deployments import follow_deployments
from brokerd.swarm.doors import Doors
from brokerd.swarm.egress import follow_egressd
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
    service.resources.callback(listener.socket.close)  # also when it never comes to listening
    _take_folder(service, Path(settings.state))
    shape = schema.shape_of(settings.database, settings.events_database)
    store = await service.resources.enter_async_context(open_store(shape, schema.migrate))
    host = await open_host(settings, store, BOOT_ID.read_text().strip(), service.log)
    await service.resources.enter_async_context(host.privd)
    await _grow_log(store, host.room)
    for task in (upkeep.end_on_broken_store, upkeep.end_leases, upkeep.look_after, upkeep.look_through):
        service.start_background(task, host, name=task.__name__)
    service.start_background(host.room.watch, store, name="watch the disk")
    service.start_background(host.backups.make_nightly, name="make backups")
    service.start_background(host.tellings.tell_on, name="tell leases")
    service.start_background(host.harnesses.tell_presence, name="tell presence")
    service.start_background(host.behind.follow, name="follow the messages")
    service.start_background(host.behind.note_depths, name="note the inboxes")
    service.start_background(host.sweeping.run, name="remove what is over")
    service.start_background(host.scheduler.run, name="fire reminders")
    service.start_background(host.deadlines.expire, name="expire questions")
    service.start_background(host.digests.tell_on, name="tell the manager")
    service.start_background(host.accounts.run, name="end limits of accounts")
    service.start_background(host.limit_hits.tell_on, name="tell limits of cages")
    doors = Doors(
        service, Surface(AGENT_ROUTES, host, frame_bytes_max=BROKER_FRAME_BYTES_MAX), settings.agent_socket
    )
    for known in host.roster.all():
        doors.open(known)
    service.start_background(follow_privd, host, doors, name="follow privd")
    service.start_background(follow_deployments, host, name="follow privd's decisions")
    service.start_background(host.health.tell_on, host.privd, name="tell privd of harnesses")
    service.start_background(follow_egressd, host, name="follow egressd")
    surface = Surface(OPERATOR_ROUTES, host, frame_bytes_max=BROKER_FRAME_BYTES_MAX)
    service.listen(listener, surface, operators(settings.operators, settings.admin_gid))


def _bind_for_operator(settings: BrokerSettings) -> trio.SocketListener:
    given = given_sockets()
    if OPERATOR_SOCKET in given:
        return adopt_fd(given[OPERATOR_SOCKET])
    settings.operator_socket.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    return bind_unix(settings.operator_socket, operator_socket(settings.admin_gid))


def _take_folder(service: Service, state: Path) -> None:
    """Make brokerd's folder its own. Unusable when it is another's, or half restored."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    service.resources.callback(os.close, folder.hold(state))
    folder.check_whole(state)
    if ballast.make_way(state):
        service.log.warning("the disk is full: the ballast was given back, to open the databases")


async def _grow_log(store: Store, room: Room) -> None:
    """Where there is plenty of room; elsewhere the log is kept short."""
    room.look()
    pages = wal.pages_for(room.space()[0].total_bytes)
    if room.fault is not None or pages < wal.CHECKPOINT_PAGES:
        await store.write(wal.keep_short, pages)
        return
    for _ in range(wal.STEPS):
        await store.write(wal.grow)
    await store.write(wal.finish)
