"""webd's life: take up the sessions, follow the daemons, serve the operator's socket and the port."""

import os
import secrets
from pathlib import Path
from typing import Final

import trio

from runtime import VERSION
from runtime.client import Client
from runtime.clock import now_ms
from runtime.notify import given_sockets
from runtime.operators import operator_socket, operators
from runtime.service import Service
from runtime.session import Surface
from runtime.sockets import adopt_fd, bind_unix
from runtime.store import Store, open_store
from webd.attempts import Attempts
from webd.deeds import Deeds
from webd.gate import Gate
from webd.http.connection import Connection, Patience
from webd.http.port import PortState, take_given, take_port
from webd.http.server import Place, serve_port
from webd.live.hub import Hub
from webd.live.journals import Journals
from webd.live.tails import Tails
from webd.live.upstream import Cages, Feed, Picture, Presence, follow
from webd.live.views import Views
from webd.live.world import World
from webd.policy.headers import STANDING
from webd.render.shells import Shells
from webd.render.static import read_static
from webd.routes import ROUTES
from webd.sessions import Sessions
from webd.settings import WebSettings
from webd.store import schema
from webd.visit import Host

STATIC: Final = Path(__file__).parent / "static"
CAUGHT_UP_S: Final = 0.5
"""How long a tail that was just read waits for the feed to come as far."""
EPOCH_BYTES: Final = 4


async def serve_webd(service: Service, settings: WebSettings) -> None:
    """Open what webd owns and serve. The port may come later: it is waited for, for ever."""
    sessions = await open_sessions(service, Path(settings.state))
    host = await make_host(service, settings, sessions)
    listen_for_operators(service, host)
    gate = Gate(host)
    service.start_work(_serve_browsers, service, settings, host, gate, name="port")


async def open_sessions(service: Service, folder: Path) -> Sessions:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = await service.resources.enter_async_context(open_store(schema.shape(folder), schema.migrate))
    service.start_background(_end_when_broken, store, name="store")
    sessions = Sessions(store, now_ms, service.log)
    await sessions.load()
    service.start_background(sessions.sweep, name="sweep sessions")
    return sessions


async def _end_when_broken(store: Store) -> None:
    await store.failed.wait()
    raise OSError("the disk did not take a commit: webd ends, so that nothing is believed that is not stored")


async def make_host(service: Service, settings: WebSettings, sessions: Sessions) -> Host:
    """Everything that handlers act on, with its background tasks running."""
    run = Path(settings.run)

    async def client(daemon: str) -> Client:
        return await service.resources.enter_async_context(Client(run / daemon / "operator.sock"))

    privd, brokerd, egressd = await client("privd"), await client("brokerd"), await client("egressd")
    hub = Hub(secrets.token_hex(EPOCH_BYTES))
    world = World(settings.name, VERSION, settings.notices)
    picture = Picture(world, hub, now_ms)

    async def caught_up(seq: int) -> None:
        await picture.until(lambda: world.seq >= seq, CAUGHT_UP_S)

    tails = Tails(brokerd, hub, caught_up, service.log)
    journals = Journals(privd, hub, service.start_background, service.log)
    for name, task in (("beat", hub.beat), ("tick", picture.tick), ("tails", tails.keep)):
        service.start_background(task, name=name)
    feed = Feed(brokerd, picture, tails, service.log)
    for source in (Cages(privd, picture), feed, Presence("egressd", egressd)):
        service.start_background(follow, source, picture, service.log, name=f"follow {source.name}")
    static = read_static(STATIC)
    return Host(
        settings=settings,
        names=settings.names(),
        sessions=sessions,
        picture=picture,
        views=Views(picture, tails, journals),
        deeds=Deeds(picture, service.start_work, service.log),
        shells=Shells(static.prefix, settings.name),
        static=static,
        privd=privd,
        brokerd=brokerd,
        port=PortState(),
        attempts=Attempts(),
        stopping=service.stopping,
        now_ms=now_ms,
        log=service.log,
    )


def listen_for_operators(service: Service, host: Host) -> None:
    """The socket where login links are made: root, this uid, the hive's operators."""
    settings = host.settings
    folder = Path(settings.run) / "webd"
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    given = given_sockets()
    listener = (
        adopt_fd(given["operator"])
        if "operator" in given
        else bind_unix(folder / "operator.sock", operator_socket(settings.admin_gid))
    )
    admit = operators({os.geteuid(), *settings.operator_uids}, settings.admin_gid)
    service.listen(listener, Surface(ROUTES, host), admit)


async def _serve_browsers(service: Service, settings: WebSettings, host: Host, gate: Gate) -> None:
    """Get the port, then answer at it until the stop."""
    given = given_sockets()
    listener: trio.SocketListener | None = None
    if "http" in given:
        listener = take_given(adopt_fd(given["http"]), settings.port, host.port)
    else:
        with service.stopping.ends():
            listener = await take_port(settings.host, settings.port, host.port, service.log)
    if listener is None:
        return
    service.log.info("serving browsers", address=settings.address())

    async def serve(stream: trio.SocketStream, place: Place) -> None:
        await Connection(
            stream,
            place,
            gate.answer,
            patience=Patience(body_s=settings.body_s),
            standing=STANDING,
            turn_away=gate.turn_away,
            stopping=service.stopping,
            log=service.log,
        ).serve()

    await serve_port(listener, serve, stopping=service.stopping, log=service.log)
