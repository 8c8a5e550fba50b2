"""privd's life: choose the backend, recover the cages, serve two or three sockets."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from privd import upkeep
from privd.audit import audited
from privd.cages.probe import choose
from privd.host import Host
from privd.routes import CHANGES_NOTHING, ROUTES
from privd.settings import PrivdSettings
from protocol.limits import FRAME_BYTES_MAX
from protocol.rpc import Caller, Role
from runtime.listening import Admit
from runtime.notify import given_sockets
from runtime.operators import operator_socket, operators
from runtime.service import Service
from runtime.session import Surface
from runtime.sockets import Ownership, adopt_fd, bind_unix


async def serve_privd(service: Service, settings: PrivdSettings) -> None:
    """Open the hive and listen. Returns once everything is served."""

    def attend(task: Callable[[], Awaitable[None]]) -> None:
        service.start_background(task, name="attend")

    host = Host(
        settings,
        await choose(settings.backend, settings.cages, Path(settings.state), settings.nixos),
        attend,
        service.log,
    )
    service.resources.callback(host.close)
    await host.open()
    service.start_background(host.go_on, name="go_on")
    for task in (
        upkeep.rotate_journals,
        upkeep.watch_limits,
        upkeep.watch_disks,
        upkeep.expire_proposals,
        upkeep.renew_stale,
    ):
        service.start_background(task, host, name=task.__name__)
    routes = audited(ROUTES, CHANGES_NOTHING, host.audit)
    surface = Surface(routes, host, canonical=True, frame_bytes_max=FRAME_BYTES_MAX)
    peers, own = settings.peers, os.geteuid()
    # Without an admin group only root and webd need to come in: the kernel can say no to everybody else.
    gid = peers.web_uid if peers.admin_gid is None and host.separate else peers.admin_gid
    sockets: tuple[tuple[str, Ownership, Admit], ...] = (
        (
            "operator",
            operator_socket(gid),
            operators({own, peers.web_uid, *peers.operator_uids}, peers.admin_gid),
        ),
        ("swarm", _for(peers.broker_uid, separate=host.separate), only(peers.broker_uid, Role.BROKER)),
        ("egress", _for(peers.egress_uid, separate=host.separate), only(peers.egress_uid, Role.EGRESS)),
    )
    given = given_sockets()
    folder = Path(settings.run) / "privd"
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    for name, ownership, admit in sockets:
        listener = adopt_fd(given[name]) if name in given else bind_unix(folder / f"{name}.sock", ownership)
        service.listen(listener, surface, admit)


def only(uid: int, role: Role) -> Admit:
    """One uid, one role; not even root comes in by another's socket."""
    return lambda peer: Caller(role, peer) if peer == uid else None


def _for(uid: int, *, separate: bool) -> Ownership:
    return Ownership(0o600, uid=uid) if separate else Ownership(0o600)
