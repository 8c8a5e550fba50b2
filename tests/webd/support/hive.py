"""privd, brokerd and webd in this process, each the real one on real sockets; only cages are remembered, not booted.

Each can be ended and started again. A harness is what a test does at an agent's own broker socket.
"""

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from msgspec.structs import replace

from brokerd.policy.guards import Guards
from brokerd.service import serve_broker
from brokerd.settings import BrokerSettings
from privd.cages.identity import Identity, single
from privd.cages.spec import CageSpec, Places
from privd.host import Host as PrivdHost
from privd.routes import ROUTES as PRIVD_ROUTES
from privd.settings import Peers, PrivdSettings
from protocol.agent import (
    Attach,
    BeginTurn,
    Delivery,
    EndTurn,
    PublishEvents,
    ReportHealth,
    TakeDelivery,
    WatchCommands,
)
from protocol.approvals import DeploymentState
from protocol.names import MANAGER_NAME
from protocol.privd import ListCages
from protocol.rpc import Caller, Role
from protocol.tools import Send
from protocol.turns import AnyTurnEvent, Outcome, Said
from protocol.webd import LoginLink, MintLogin
from runtime.client import Client
from runtime.clock import new_key
from runtime.service import Service
from runtime.session import Surface
from runtime.sockets import bind_unix
from tests.support.daemon import running_service
from tests.support.fake_cages import FakeBackend, FakeCage
from tests.support.spawning import ended, spawn
from tests.support.waiting import until
from tests.webd.support.browser import Browser
from webd.service import serve_webd
from webd.settings import WebSettings

UID_FIRST = 1_048_576
USUAL = Guards()


class OneUidBackend(FakeBackend):
    """Cages whose users are all this process's, so that a test may be the harness; boxes are never root's."""

    async def start(self, spec: CageSpec, places: Places) -> FakeCage:
        """Each start has a time of its own."""
        cage = await super().start(spec, places)
        cage.started_ms = len(self.cages)
        return cage

    def identity(self, uid_base: int) -> Identity:
        own = single(os.geteuid(), os.getegid())
        return own if os.geteuid() else replace(own, agent_uid=uid_base + 1_000, agent_gid=uid_base + 1_000)


@dataclass
class Running:
    """One daemon, as long as it runs."""

    stopped: trio.Event
    ended: trio.Event


@dataclass
class WebHive:
    """The hive of one test: its folders, its daemons by name, and clients of their sockets."""

    folder: Path
    nursery: trio.Nursery
    port: int
    running: dict[str, Running] = field(default_factory=dict)
    clients: list[Client] = field(default_factory=list)
    webd_options: dict[str, object] = field(default_factory=dict)
    guards: Guards = USUAL

    # ------------------------------------------------------------------------------------------------------ daemons

    async def start(self, *names: str) -> None:
        for name in names or ("privd", "brokerd", "webd"):
            serve = {"privd": self._privd, "brokerd": self._brokerd, "webd": self._webd}[name]
            self.running[name] = await self.nursery.start(self._run, name, serve)

    async def stop(self, *names: str) -> None:
        for name in names or ("webd", "brokerd", "privd"):
            running = self.running.pop(name, None)
            if running is not None:
                running.stopped.set()
                await running.ended.wait()

    async def _run(
        self, name: str, serve: Callable[[Service], Awaitable[None]], task_status: trio.TaskStatus[Running]
    ) -> None:
        running = Running(trio.Event(), trio.Event())
        async with running_service(name) as service:
            await serve(service)
            task_status.started(running)
            await running.stopped.wait()
        running.ended.set()

    async def _privd(self, service: Service) -> None:
        settings = PrivdSettings(
            state=str(self.folder / "state"),
            run=str(self.folder),
            peers=Peers(broker_uid=os.geteuid(), web_uid=os.geteuid(), egress_uid=os.geteuid()),
            uid_first=UID_FIRST,
            environment="/usr",
        )

        def attend(task: Callable[[], Awaitable[None]]) -> None:
            service.start_background(task, name="attend")

        host = PrivdHost(settings, OneUidBackend(), attend, service.log)
        service.resources.callback(host.close)
        await host.open()
        surface = Surface(PRIVD_ROUTES, host, canonical=True)
        (self.folder / "privd").mkdir(exist_ok=True)
        for name, role in (("operator", Role.OPERATOR), ("swarm", Role.BROKER)):
            service.listen(
                bind_unix(self.folder / "privd" / f"{name}.sock"),
                surface,
                lambda uid, role=role: Caller(role, uid),  # type: ignore[misc]  # a lambda cannot be annotated
            )

    async def _brokerd(self, service: Service) -> None:
        uid = os.geteuid()
        await serve_broker(
            service,
            BrokerSettings(
                state=str(self.folder / "broker"),
                run=str(self.folder),
                web_uid=uid,
                operator_uids=(uid,),
                guards=self.guards,
            ),
        )

    async def _webd(self, service: Service) -> None:
        await serve_webd(service, self.webd_settings())
        await until(lambda: _answers(self.port), what="webd's port")

    def webd_settings(self) -> WebSettings:
        return WebSettings(
            run=str(self.folder),
            state=str(self.folder / "web"),
            name="test hive",
            port=self.port,
            operator_uids=(os.geteuid(),),
            **self.webd_options,  # type: ignore[arg-type]  # what a test varies
        )

    # ------------------------------------------------------------------------------------------------------ sockets

    def client(self, path: Path) -> Client:
        """A client that is closed with the hive."""
        self.clients.append(Client(path))
        return self.clients[-1]

    def operator(self, daemon: str) -> Client:
        """The operator's client of a daemon, one for the whole test."""
        path = self.folder / daemon / "operator.sock"
        return next((client for client in self.clients if client.path == path), None) or self.client(path)

    async def login_link(self) -> LoginLink:
        return await self.operator("webd").call(MintLogin(), patience_s=5)

    async def browser(self) -> Browser:
        """A browser that has signed in."""
        browser = self.stranger()
        link = await self.login_link()
        answer = await browser.post("/login", {"code": link.url.partition("#code=")[2]})
        assert answer.status == 200, answer
        return browser

    def stranger(self) -> Browser:
        return Browser(self.port)

    # ------------------------------------------------------------------------------------------------------- agents

    async def agent(self, name: str = "iris") -> "Harness":
        """An agent whose cage runs and whose harness is the test."""
        privd = self.client(self.folder / "privd" / "operator.sock")
        (self.folder / "agents" / name / "broker").mkdir(parents=True, exist_ok=True)
        begun = await spawn(privd, name)
        harness = await self.harness(name)
        await self.is_well(harness)
        assert (await ended(privd, begun)).state is DeploymentState.DEPLOYED
        return harness

    def state_of(self, name: str) -> Path:
        """The state folder of an agent, which the agent may look into."""
        folder = self.folder / "state" / "agents" / name / "state"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        return folder

    async def harness(self, name: str) -> "Harness":
        door = self.folder / "agents" / name / "broker" / "broker.sock"
        await until(door.exists, what=f"the door of {name}")
        harness = Harness(name, self.client(door))
        await harness.client.call(Attach(instance=new_key(), version="test"), patience_s=5)
        return harness

    def journal(self, name: str) -> Path:
        """The journal that privd serves for a cage."""
        return Places(self.folder / "state" / "cages" / name).journal

    async def is_well(self, harness: "Harness", fault: str = "") -> None:
        """Say how the harness of a cage is that has started since this was last said, before the hive asks."""
        privd = self.operator("privd")

        async def started_ms() -> int | None:
            cages = await privd.call(ListCages())
            found = next((cage.started_ms for cage in cages if cage.agent == harness.name), None)
            return None if found == harness.started_ms else found

        harness.started_ms = await until(started_ms, what=f"the start of {harness.name}")
        await harness.client.call(ReportHealth(harness.started_ms, fault))

    async def send(self, to: str, body: str = "hello", **more: object) -> int:
        request = Send(to=to, body=body, key=new_key(), **more)  # type: ignore[arg-type]  # what a test varies
        return (await self.operator("brokerd").call(request)).message


@dataclass
class Harness:
    """One agent's harness, as the test plays it."""

    name: str
    client: Client
    events: int = 0
    started_ms: int | None = None
    """Of the cage whose health was said last."""

    async def take(self) -> Delivery:
        delivery = (await self.client.call(TakeDelivery(wait_s=10))).delivery
        assert delivery is not None
        return delivery

    async def begin(self) -> int:
        """Take the next delivery and begin its turn."""
        delivery = await self.take()
        self.events = 0
        return (await self.client.call(BeginTurn(delivery.id, delivery.token))).turn

    async def says(self, turn: int, *texts: str) -> None:
        events = tuple(Said(n=self.events + place, at_ms=1, text=text) for place, text in enumerate(texts))
        await self.publish(turn, *events)

    async def publish(self, turn: int, *events: AnyTurnEvent) -> None:
        await self.client.call(PublishEvents(turn=turn, events=events))
        self.events += len(events)

    async def end(self, turn: int, outcome: Outcome = Outcome.DONE) -> None:
        await self.client.call(EndTurn(turn, outcome))

    async def send(self, to: str, body: str) -> int:
        """A message by the agent itself."""
        return (await self.client.call(Send(to=to, body=body, key=new_key()))).message

    @asynccontextmanager
    async def commands(self) -> AsyncIterator[AsyncIterator[Any]]:
        """What the operator wants of this harness, as it comes."""
        async with self.client.watch(WatchCommands()) as commands:
            yield commands

    async def turn(self, *texts: str) -> int:
        """A whole turn for the next delivery."""
        turn = await self.begin()
        if texts:
            await self.says(turn, *texts)
        await self.end(turn)
        return turn


@asynccontextmanager
async def web_hive(folder: Path, *, guards: Guards = USUAL, **webd_options: object) -> AsyncIterator[WebHive]:
    """A hive whose daemons are up, without agents."""
    async with trio.open_nursery() as nursery:
        hive = WebHive(folder, nursery, free_port(), webd_options=webd_options, guards=guards)
        try:
            await hive.start()
            yield hive
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 20):
                for client in hive.clients:
                    await client.__aexit__(None, None, None)
                await hive.stop()
        nursery.cancel_scope.cancel()


def free_port() -> int:
    """A port that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


__all__ = ["MANAGER_NAME", "Harness", "WebHive", "free_port", "web_hive"]
