"""A privd without sockets whose cages are real, as any user, and every cage that is started counts as well.

    python -m tests.privd.cages.config_driver BACKEND FOLDER ENVIRONMENT

Obeys JSON lines as `tests.privd.cages.driver` does.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import trio

from privd.cages.nixos import Nixos
from privd.cages.spec import Places
from privd.handlers import agents
from privd.policy.nar import Content
from protocol.approvals import ProposalKind
from protocol.privd import PurgeAgent
from runtime import log
from tests.privd.cages.driver import backend_of, obey
from tests.support.configuring import OPERATOR, Desk, desk
from tests.support.nixos.host import FakeHost


class Driver:
    def __init__(self, at: Desk) -> None:
        self._at = at

    async def decide(self, agent: str, kind: str, commit: str | None = None) -> Any:
        """Propose, approve, and what became of it."""
        proposal = await self._at.propose(agent, ProposalKind(kind), commit)
        return _said(await self._at.healthy(await self._at.approve(proposal)))

    async def row(self, agent: str) -> Any:
        return _said(self._at.host.keeper(agent).row())

    async def restart(self, agent: str) -> Any:
        return _said(await self._at.host.keeper(agent).restart(5))

    async def destroy(self, agent: str) -> Any:
        return _said(await self._at.host.destroy(agent))

    async def purge(self, agent: str) -> None:
        await agents.purge(PurgeAgent(agent, agent), OPERATOR, self._at.host)

    async def tags(self, agent: str) -> list[str]:
        return sorted(f"{mark}/{number}" for mark, number in self._at.host.ledger(agent).tags)


class Prebuilt(Nixos, frozen=True):
    """Its systems are there before anybody asks for them."""

    async def build(
        self, agent: str, files: Mapping[str, Content], places: Places, say: Callable[[str], None]
    ) -> None:
        await trio.lowlevel.checkpoint()

    async def aim(self, agent: str, files: Mapping[str, Content]) -> None:
        await trio.to_thread.run_sync(FakeHost(self.flakes.folder.parent).deploy, agent)


def _said(row: msgspec.Struct) -> Any:
    return msgspec.to_builtins(row)


async def main(name: str, folder: Path, environment: str) -> None:
    backend = backend_of(name, folder)
    if isinstance(backend, Nixos):
        backend = Prebuilt(backend.hive, backend.flakes, backend.host)
    async with desk(folder, real=backend, environment=environment) as at:
        await obey(Driver(at))


if __name__ == "__main__":
    log.configure()
    trio.run(main, sys.argv[1], Path(sys.argv[2]), sys.argv[3])
