"""A brokerd in this process, on real sockets and databases; stand-ins for privd and egressd say what a test wants."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from brokerd.policy.guards import Guards
from brokerd.service import serve_broker
from brokerd.settings import BrokerSettings
from brokerd.store.schema import shape_of
from protocol.agent import Attach, Attached, BeginTurn, Delivery, EndTurn, TakeDelivery, TurnClosed
from protocol.approvals import Deployment, Proposal, ProposalKind, ProposalState
from protocol.brokerd import Agent, ListMessages, Snapshot, TakeSnapshot
from protocol.configuration import (
    AnyDecision,
    ConfirmHealth,
    DecisionsNow,
    DeploymentChanged,
    ListProposals,
    ProposalChanged,
    Propose,
    WatchDeployments,
    WithdrawProposal,
)
from protocol.egressd import Account, AccountChanged, AnyEgressEvent, EgressNow, WatchEgress
from protocol.messages import DeliveryState, Message, Receipt
from protocol.names import MANAGER_NAME
from protocol.privd import (
    AnyCageEvent,
    Cage,
    CageChanged,
    CageGone,
    CagesNow,
    JournalLine,
    JournalPage,
    Power,
    ReadJournal,
    RebuildCage,
    RestartCage,
    StartCage,
    StopCage,
    WatchCages,
)
from protocol.problem import Problem, Refused
from protocol.rpc import Caller, Request, Role
from protocol.settings import AgentRole, AgentSettings
from protocol.tools import Send, Sent
from protocol.turns import Outcome
from runtime.client import Client
from runtime.clock import new_key, now_ms
from runtime.fanout import Fanout
from runtime.service import Service
from runtime.session import Surface
from runtime.sockets import bind_unix
from runtime.store import Db, connect
from tests.support.daemon import running_service
from tests.support.waiting import until

UNHURRIED: Final = Guards(
    messages_per_minute=100_000,
    pair_messages_per_minute=100_000,
    bytes_per_minute=2**40,
    operator_messages_per_minute=1_000_000,
    turns_per_hour=1_000_000,
    share_deliveries_max=1_000_000,
    share_bytes_max=2**40,
)
"""Tests send faster than agents do; what holds them back has tests of its own."""


def cage(name: str, power: Power = Power.RUNNING, **settings: object) -> Cage:
    role = AgentRole.MANAGER if name == MANAGER_NAME else AgentRole.AGENT
    deployed = AgentSettings(name=name, role=role, **settings)  # type: ignore[arg-type]  # what a test varies
    return Cage(name, power, now_ms(), "test", os.geteuid(), os.geteuid(), deployed)


AnyPower = StartCage | StopCage | RestartCage | RebuildCage


def proposal(
    agent: str = "iris", number: int = 1, state: ProposalState = ProposalState.OPEN, **more: Any
) -> Proposal:
    """One that the manager made, unless a test says otherwise."""
    given = {"kind": ProposalKind.CONFIG, "by": "manager", "commit": "a" * 40} | more
    return Proposal(
        agent=agent,
        number=number,
        state=state,
        tree="b" * 40,
        base=None,
        description="",
        proposed_ms=number,
        expires_ms=9,
        **given,
    )


@dataclass
class Privd:
    """What privd would say. `events` goes to everybody who watches, brokerd among them."""

    run: Path
    cages: dict[str, Cage] = field(default_factory=dict)
    events: Fanout[AnyCageEvent] = field(default_factory=Fanout)
    decisions: Fanout[AnyDecision] = field(default_factory=Fanout)
    proposals: dict[tuple[str, int], Proposal] = field(default_factory=dict)
    deployments: dict[tuple[str, int], Deployment] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    """What brokerd carried here."""
    refuses: Refused | None = None
    """What is answered to that, instead of doing it."""
    confirmed: list[ConfirmHealth] = field(default_factory=list)
    deaf: int = 0
    """So many times it is too busy to hear how a harness is."""

    @asynccontextmanager
    async def watch_decisions(
        self, request: WatchDeployments, caller: Caller, host: "Privd"
    ) -> AsyncIterator[AsyncIterator[AnyDecision]]:
        with self.decisions.subscribed() as watcher:
            now = DecisionsNow(tuple(self.proposals.values()), tuple(self.deployments.values()), click=True)
            watcher.offer(now)
            yield watcher

    def decide(self, proposal: Proposal) -> None:
        """A proposal stands so now."""
        self.proposals[proposal.agent, proposal.number] = proposal
        self.decisions.publish(ProposalChanged(proposal))

    def deploy(self, deployment: Deployment) -> None:
        """A deployment stands so now."""
        self.deployments[deployment.agent, deployment.number] = deployment
        self.decisions.publish(DeploymentChanged(deployment))

    async def confirm(self, request: ConfirmHealth, caller: Caller, host: "Privd") -> None:
        if self.deaf:
            self.deaf -= 1
            raise Refused(Problem.BUSY, "not now")
        self.confirmed.append(request)

    def _hear(self, request: Request) -> None:
        self.asked.append(request)
        if self.refuses is not None:
            raise self.refuses

    async def propose(self, request: Propose, caller: Caller, host: "Privd") -> Proposal:
        self._hear(request)
        return proposal(request.agent, kind=request.kind, commit=request.commit or "0" * 40)

    async def withdraw(self, request: WithdrawProposal, caller: Caller, host: "Privd") -> Proposal:
        self._hear(request)
        found = replace(self.proposals[request.agent, request.number], state=ProposalState.WITHDRAWN)
        self.decide(found)
        return found

    async def list_proposals(
        self, request: ListProposals, caller: Caller, host: "Privd"
    ) -> tuple[Proposal, ...]:
        self._hear(request)
        return tuple(self.proposals.values())

    async def power(self, request: AnyPower, caller: Caller, host: "Privd") -> Cage:
        self._hear(request)
        return self.cages[request.agent]

    async def journal(self, request: ReadJournal, caller: Caller, host: "Privd") -> JournalPage:
        self._hear(request)
        return JournalPage(tuple(JournalLine(at * 10, f"line {at}") for at in range(100)), 7)

    @asynccontextmanager
    async def watch(
        self, request: WatchCages, caller: Caller, host: "Privd"
    ) -> AsyncIterator[AsyncIterator[AnyCageEvent]]:
        with self.events.subscribed() as watcher:
            watcher.offer(CagesNow(tuple(self.cages.values())))
            yield watcher

    def change(self, changed: Cage) -> None:
        (self.run / "agents" / changed.agent / "broker").mkdir(parents=True, exist_ok=True)
        self.cages[changed.agent] = changed
        self.events.publish(CageChanged(changed))

    def remove(self, name: str) -> None:
        del self.cages[name]
        self.events.publish(CageGone(name))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer at swarm.sock."""
        routes = [
            WatchCages.answered_by(self.watch, callers=Role.BROKER),
            WatchDeployments.answered_by(self.watch_decisions, callers=Role.BROKER),
            ConfirmHealth.answered_by(self.confirm, callers=Role.BROKER),
            Propose.answered_by(self.propose, callers=Role.BROKER),
            WithdrawProposal.answered_by(self.withdraw, callers=Role.BROKER),
            ListProposals.answered_by(self.list_proposals, callers=Role.BROKER),
            StartCage.answered_by(self.power, callers=Role.BROKER),
            StopCage.answered_by(self.power, callers=Role.BROKER),
            RestartCage.answered_by(self.power, callers=Role.BROKER),
            RebuildCage.answered_by(self.power, callers=Role.BROKER),
            ReadJournal.answered_by(self.journal, callers=Role.BROKER),
        ]
        async with running_service("privd") as service:
            path = self.run / "privd" / "swarm.sock"
            path.parent.mkdir(parents=True, exist_ok=True)
            service.listen(bind_unix(path), Surface(routes, self), lambda uid: Caller(Role.BROKER, uid))
            yield


@dataclass
class Egressd:
    """What egressd would say."""

    run: Path
    accounts: dict[str, Account] = field(default_factory=dict)
    events: Fanout[AnyEgressEvent] = field(default_factory=Fanout)

    @asynccontextmanager
    async def watch(
        self, request: WatchEgress, caller: Caller, host: "Egressd"
    ) -> AsyncIterator[AsyncIterator[AnyEgressEvent]]:
        with self.events.subscribed() as watcher:
            watcher.offer(EgressNow(tuple(self.accounts.values())))
            yield watcher

    def says(self, account: Account) -> None:
        self.accounts[account.name] = account
        self.events.publish(AccountChanged(account))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer at swarm.sock, once brokerd has begun to listen."""
        routes = [WatchEgress.answered_by(self.watch, callers=Role.BROKER)]
        async with running_service("egressd") as service:
            path = self.run / "egressd" / "swarm.sock"
            path.parent.mkdir(parents=True, exist_ok=True)
            service.listen(bind_unix(path), Surface(routes, self), lambda uid: Caller(Role.BROKER, uid))
            await until(lambda: bool(self.events), what="brokerd to follow egressd")
            yield


@dataclass
class Hive:
    """A hive's folders, its privd, and clients of its brokerd's sockets."""

    folder: Path
    privd: Privd
    clients: dict[str, Client] = field(default_factory=dict)
    guards: Guards = UNHURRIED

    @property
    def settings(self) -> BrokerSettings:
        return BrokerSettings(
            state=str(self.folder / "broker"),
            run=str(self.folder),
            web_uid=os.geteuid(),
            operator_uids=(os.geteuid(),),
            guards=self.guards,
        )

    @property
    def operator(self) -> Client:
        return self._client("operator", self.settings.operator_socket)

    def agent(self, name: str) -> Client:
        return self._client(name, self.settings.agent_socket(name))

    def _client(self, name: str, path: Path) -> Client:
        if name not in self.clients:
            self.clients[name] = Client(path)
        return self.clients[name]

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[Service]:
        """A brokerd that serves all cages that privd knows; may be entered again after it ended."""
        async with running_service("brokerd") as service:
            await serve_broker(service, self.settings)
            await self.served(
                *(each.agent for each in self.privd.cages.values() if each.power is not Power.KEPT)
            )
            yield service
        await self.forget_connections()

    @contextmanager
    def reader(self) -> Iterator[Db]:
        """The databases as an operator's shell would see them."""
        shape = shape_of(self.settings.database, self.settings.events_database)
        with closing(connect(shape, read_only=True)) as db:
            yield db

    async def forget_connections(self) -> None:
        for client in self.clients.values():
            await client.__aexit__(None, None, None)
        self.clients.clear()

    async def served(self, *names: str) -> None:
        """Wait until brokerd knows these agents and serves their sockets."""

        async def known() -> bool:
            agents = {now.agent.name for now in (await self.snapshot()).agents}
            return agents >= set(names) and all(self.settings.agent_socket(name).exists() for name in names)

        await until(known, what=f"sockets of {names}")

    # What the dialogue of a test is made of.

    async def snapshot(self) -> Snapshot:
        return await self.operator.call(TakeSnapshot())

    async def activity(self, name: str) -> str:
        return next(
            now.agent.activity.value for now in (await self.snapshot()).agents if now.agent.name == name
        )

    async def row(self, name: str) -> Agent:
        """One agent as brokerd shows it."""
        return next(now.agent for now in (await self.snapshot()).agents if now.agent.name == name)

    async def messages(self) -> tuple[Message, ...]:
        """Oldest first."""
        return (await self.operator.call(ListMessages(limit=200))).messages[::-1]

    async def receipts(self, message: int) -> tuple[Receipt, ...]:
        return next(each.deliveries for each in await self.messages() if each.id == message)

    async def states(self, message: int) -> list[DeliveryState]:
        return [receipt.state for receipt in await self.receipts(message)]

    async def send(self, sender: str, to: str, body: str = "hello", **more: object) -> Sent:
        client = self.operator if sender == "operator" else self.agent(sender)
        key = more.pop("key", None) or new_key()
        return await client.call(Send(to=to, body=body, key=key, **more))  # type: ignore[arg-type]  # what a test varies

    async def attach(self, name: str, instance: str | None = None) -> Attached:
        return await self.agent(name).call(Attach(instance=instance or new_key(), version="test"))

    async def take(self, name: str, wait_s: int = 0) -> Delivery | None:
        return (await self.agent(name).call(TakeDelivery(wait_s=wait_s))).delivery

    async def taken(self, name: str, wait_s: int = 0) -> Delivery:
        delivery = await self.take(name, wait_s)
        assert delivery is not None
        return delivery

    async def begin(self, name: str, delivery: Delivery) -> int:
        return (await self.agent(name).call(BeginTurn(delivery.id, delivery.token))).turn

    async def begun(self, name: str) -> tuple[Delivery, int]:
        """Take the next delivery and begin its turn."""
        delivery = await self.taken(name)
        return delivery, await self.begin(name, delivery)

    async def end(
        self, name: str, turn: int, outcome: Outcome = Outcome.DONE, until_ms: int | None = None
    ) -> TurnClosed:
        return await self.agent(name).call(EndTurn(turn, outcome, until_ms=until_ms))
