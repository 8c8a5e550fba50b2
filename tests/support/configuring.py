"""A privd without its sockets, over cages that are only remembered: real repositories, real boxes, real tags."""

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from privd.audit import audited
from privd.cages.backend import Backend
from privd.cages.identity import block_of
from privd.cages.spec import CageSpec, Places
from privd.host import Host
from privd.routes import CHANGES_NOTHING, ROUTES
from privd.settings import Peers, PrivdSettings
from protocol.approvals import (
    AnyProof,
    Approval,
    AtTerminal,
    Click,
    Deployment,
    Proposal,
    ProposalKind,
    ProposalPage,
)
from protocol.configuration import Approve, Propose, ShowProposal
from protocol.rpc import Caller, Request, Role
from runtime.log import logger
from tests.support.fake_cages import FakeBackend, FakeCage
from tests.support.repositories import Repository

OPERATOR = Caller(Role.OPERATOR, os.geteuid())
MANAGER = Caller(Role.BROKER, os.geteuid())


class CountingBackend(FakeBackend):
    """Each start has a time of its own."""

    started = 100

    async def start(self, spec: CageSpec, places: Places) -> FakeCage:
        cage = await super().start(spec, places)
        self.started += 1
        cage.started_ms = self.started
        cage.settings_json = spec.settings_json  # type: ignore[attr-defined]  # for tests that look at it
        return cage

    async def adopt(self, places: Places) -> FakeCage | None:
        """No cage outlives a privd of these tests."""
        await trio.lowlevel.checkpoint()
        return None


class Desk:
    """One hive, and whoever asks something of it."""

    def __init__(self, host: Host, backend: CountingBackend, place: Path) -> None:
        self.host = host
        self.backend = backend
        self.place = place
        self._routes = {route.request: route for route in audited(ROUTES, CHANGES_NOTHING, host.audit)}

    async def ask(self, request: Request, caller: Caller = OPERATOR) -> Any:
        """What privd answers, by the way that a request of its sockets takes."""
        return await self._routes[type(request)].handler(request, caller, self.host)

    async def propose(
        self, agent: str, kind: ProposalKind = ProposalKind.CONFIG, commit: str | None = None, **more: str
    ) -> Proposal:
        found: Proposal = await self.ask(Propose(agent, kind, commit, **more), MANAGER)  # type: ignore[arg-type]  # any field of the request
        return found

    async def show(self, proposal: Proposal) -> ProposalPage:
        page: ProposalPage = await self.ask(ShowProposal(proposal.agent, proposal.number))
        return page

    async def approve(self, proposal: Proposal, page: ProposalPage | None = None) -> Deployment:
        shown = page or await self.show(proposal)
        return begun(await self.prove(proposal, shown, Click()))

    async def prove(
        self, proposal: Proposal, page: ProposalPage, proof: AnyProof, uid: int = OPERATOR.uid
    ) -> Approval:
        """Approve what was shown, with a proof of one's own."""
        request = Approve(proposal.agent, proposal.number, page.digest, proof)
        approval: Approval = await self.ask(request, Caller(Role.OPERATOR, uid))
        return approval

    async def approve_at_terminal(self, proposal: Proposal, uid: int) -> Deployment:
        return begun(await self.prove(proposal, await self.show(proposal), AtTerminal(), uid))

    async def ended(self, deployment: Deployment) -> Deployment:
        """The same deployment, when it has come to its end."""
        while True:
            row = self.host.deployments.row(deployment.agent, deployment.number)
            if row.ended_ms is not None and deployment.agent not in self.host.deployments._at_work:
                return row
            await trio.sleep(0.01)

    async def healthy(self, deployment: Deployment, fault: str = "") -> Deployment:
        """Its end, while the broker finds every cage well (or not)."""
        async with trio.open_nursery() as nursery:

            async def confirm() -> None:
                while True:
                    await trio.sleep(0.01)
                    for row in self.host.rows():
                        if row.started_ms is not None:
                            self.host.deployments.confirm_health(row.agent, row.started_ms, fault)

            nursery.start_soon(confirm)
            ended = await self.ended(deployment)
            nursery.cancel_scope.cancel()
        return ended

    async def spawned(self, agent: str) -> Deployment:
        """An agent that runs."""
        return await self.healthy(await self.approve(await self.propose(agent, ProposalKind.SPAWN)))

    def config(self, agent: str) -> Repository:
        return config_of(self.place, agent)

    def commit(self, agent: str, text: str, path: str = "agent.toml") -> str:
        return commit_in(self.config(agent), text, path)


def config_of(place: Path, agent: str) -> Repository:
    """An agent's proposed repository, as the manager works in it; its folder is opened, as no cage shows it."""
    folder = place / "proposed" / "agents" / agent / "config"
    folder.parents[2].chmod(0o711)
    found = object.__new__(Repository)
    found.folder, found.uid, found.inner = folder, folder.stat().st_uid, folder / ".git"
    return found


def commit_in(repository: Repository, text: str, path: str = "agent.toml") -> str:
    """Edit a file and commit it there, with real git and the identity that the repository has; the commit's id."""
    file = repository.folder / path
    file.write_text(text)
    repository.git("add", path)
    repository.git("commit", "-q", "-m", f"change {path}")
    return repository.git("rev-parse", "HEAD")


def begun(approval: Approval) -> Deployment:
    """The deployment of an approval that was enough."""
    assert approval.deployment is not None, approval
    return approval.deployment


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that no event tells."""
    while not condition():  # noqa: ASYNC110 - as it says
        await trio.sleep(0.01)


@contextmanager
def ground() -> Iterator[Path]:
    """A folder that other users can pass through on the way to what is theirs."""
    with tempfile.TemporaryDirectory(prefix="hive-", dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o711)
        yield place


@asynccontextmanager
async def desk(
    place: Path,
    backend: CountingBackend | None = None,
    real: Backend | None = None,
    environment: str = "/opt/hive/env",
    **more: Any,
) -> AsyncIterator[Desk]:
    """A hive in a folder; leaving it is privd's end, however far it has come. `real` makes real cages instead.

    `more` are settings of privd.
    """
    uid = os.geteuid()
    settings = PrivdSettings(
        state=str(place),
        run=str(place / "run"),
        peers=Peers(broker_uid=uid, web_uid=uid, egress_uid=uid),
        uid_first=block_of("/tests"),
        environment=environment,
    )
    settings = msgspec.structs.replace(settings, **more)
    used = backend or CountingBackend()
    with ExitStack() as ended:
        async with trio.open_nursery() as nursery:
            host = Host(settings, real or used, nursery.start_soon, logger("test"))
            ended.callback(host.close)
            await host.open()
            await host.go_on()
            yield Desk(host, used, place)
            nursery.cancel_scope.cancel()


def toml(host: Host, agent: str, **changes: object) -> str:
    """agent.toml of an agent as it is, with other values."""
    from privd.policy.configuration import FILE, render  # noqa: PLC0415 - of the one helper

    settings = msgspec.structs.replace(host.keeper(agent).record.settings, role_prompt="", **changes)
    return render(settings, host.ground(agent))[FILE].decode()
