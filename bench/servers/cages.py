"""A stand-in for privd: it tells of so many cages that run, all of this one user, so that brokerd serves their agents.

And for egressd, which has nothing to tell: brokerd would knock at its door for ever.

python -m bench.servers.cages RUN_FOLDER NUMBER
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from protocol.configuration import AnyDecision, DecisionsNow, WatchDeployments
from protocol.egressd import AnyEgressEvent, EgressNow, WatchEgress
from protocol.hello import WIRE_VERSION, Greeting, Hello
from protocol.privd import AnyCageEvent, Cage, CagesNow, ListCages, Power, WatchCages
from protocol.rpc import EVERY_ROLE, Caller, Role
from protocol.settings import AgentSettings
from runtime import VERSION, log
from runtime.service import Service, run_service
from runtime.session import Surface
from runtime.sockets import bind_unix

E = TypeVar("E")

Cages = tuple[Cage, ...]
Watching = AbstractAsyncContextManager[AsyncIterator[E]]


async def hello(request: Hello, caller: Caller, cages: Cages) -> Greeting:
    return Greeting(daemon="privd", version=VERSION, wire=WIRE_VERSION)


async def list_cages(request: ListCages, caller: Caller, cages: Cages) -> Cages:
    return cages


@asynccontextmanager
async def only(event: E) -> AsyncIterator[AsyncIterator[E]]:
    """What is so now, and nothing after it."""

    async def events() -> AsyncIterator[E]:
        yield event
        await trio.sleep_forever()

    yield events()


def watch(request: WatchCages, caller: Caller, cages: Cages) -> Watching[AnyCageEvent]:
    return only(CagesNow(cages))


def decisions(request: WatchDeployments, caller: Caller, cages: Cages) -> Watching[AnyDecision]:
    return only(DecisionsNow((), (), click=True))


def turned_away(request: WatchEgress, caller: Caller, cages: Cages) -> Watching[AnyEgressEvent]:
    return only(EgressNow(()))


ROUTES = (
    Hello.answered_by(hello, callers=EVERY_ROLE),
    ListCages.answered_by(list_cages, callers=EVERY_ROLE),
    WatchCages.answered_by(watch, callers=EVERY_ROLE),
    WatchDeployments.answered_by(decisions, callers=Role.BROKER),
    WatchEgress.answered_by(turned_away, callers=Role.BROKER),
)


def cage(run: Path, number: int) -> Cage:
    """One cage and the folder that brokerd puts its socket into."""
    name = f"a{number:02}"
    (run / "agents" / name / "broker").mkdir(parents=True)
    uid = os.geteuid()
    return Cage(name, Power.RUNNING, 0, "none", uid, uid, AgentSettings(name))


async def main(service: Service) -> None:
    """Serve brokerd and webd."""
    run = Path(sys.argv[1])
    for daemon in ("privd", "egressd"):
        (run / daemon).mkdir()
    surface = Surface(ROUTES, tuple(cage(run, number) for number in range(int(sys.argv[2]))))
    sockets = (
        ("egressd/swarm", Role.BROKER),
        ("privd/swarm", Role.BROKER),
        ("privd/operator", Role.OPERATOR),
    )
    for name, role in sockets:
        service.listen(bind_unix(run / f"{name}.sock"), surface, partial(caller_of, role))


def caller_of(role: Role, uid: int) -> Caller:
    return Caller(role, uid)


if __name__ == "__main__":
    log.configure("warning")
    sys.exit(run_service("cages", main))
