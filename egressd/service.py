"""What egressd does from its start to its end: it follows privd's cages and keeps a door for each.

privd may come later, go and come back: doors stay as they are until it says otherwise.
"""

import os
import ssl
from pathlib import Path
from typing import Final

import trio

from egressd.doors import Doors
from egressd.model import ModelApis
from egressd.news import News
from egressd.routes import ROUTES
from egressd.settings import EgressSettings
from egressd.upstream import NoKey, Upstream, trusting
from protocol.privd import WatchCages
from protocol.problem import Refused
from protocol.rpc import Caller, Role
from runtime.backoff import delays
from runtime.client import Client, Disconnected
from runtime.listening import Admit
from runtime.notify import given_sockets
from runtime.operators import operator_socket, operators
from runtime.service import Service, Unusable
from runtime.session import Surface
from runtime.sockets import Ownership, adopt_fd, bind_unix

AGAIN_FIRST_S: Final = 0.1
AGAIN_MAX_S: Final = 2.0


async def serve(service: Service, settings: EgressSettings) -> None:
    """Open what egressd owns."""
    run = Path(settings.run)
    news = News(tuple(settings.accounts), service)
    apis = ModelApis(news.accounts, await _upstreams(service, settings, news))
    doors = Doors(
        run / "agents", settings.model_scope(), settings.private_targets(), apis, news.refusals, service
    )
    service.resources.callback(doors.close)
    client = await service.resources.enter_async_context(Client(run / "privd" / "egress.sock"))
    service.start_background(follow_cages, client, doors, service, name="cages")
    _listen(service, settings, news)


async def _upstreams(service: Service, settings: EgressSettings, news: News) -> dict[str, Upstream]:
    """Each account's API. A key that cannot be read is said, and does not keep the others from working."""
    if not settings.accounts:
        return {}
    tls = _tls(settings)
    made: dict[str, Upstream] = {}
    for name, account in settings.accounts.items():
        site = account.site()
        judged = site.target not in settings.private_targets()
        upstream = Upstream(site, account.kind, Path(account.key_file), tls, judged=judged)
        service.resources.push_async_callback(upstream.close)
        try:
            upstream.key()
        except NoKey as no_key:
            service.log.warning("a model account cannot be used", account=name, reason=str(no_key))
            news.accounts[name].unusable(str(no_key))
        made[name] = upstream
    return made


def _tls(settings: EgressSettings) -> ssl.SSLContext:
    try:
        return trusting(None if settings.ca_file is None else Path(settings.ca_file))
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "it holds no certificate"
        raise Unusable(f"ca_file: {settings.ca_file} cannot be used: {reason}") from None


def _listen(service: Service, settings: EgressSettings, news: News) -> None:
    """Sockets at which egressd can be seen to live, and told from; nothing can be changed there.

    It cannot give a socket to another uid, so everybody may connect and the uid that the kernel tells decides.
    """
    folder = Path(settings.run) / "egressd"
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    surface = Surface(ROUTES, news)
    admit = operators({os.geteuid(), *settings.operator_uids}, settings.admin_gid)
    sockets = [("operator", operator_socket(settings.admin_gid), admit)]
    if settings.broker_uid is not None:
        sockets.append(("swarm", Ownership(0o666), _broker(settings.broker_uid)))
    given = given_sockets()
    for name, ownership, admits in sockets:
        listener = adopt_fd(given[name]) if name in given else bind_unix(folder / f"{name}.sock", ownership)
        service.listen(listener, surface, admits)


def _broker(uid: int) -> Admit:
    return lambda peer: Caller(Role.BROKER, peer) if peer == uid else None


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
