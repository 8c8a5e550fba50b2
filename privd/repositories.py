"""Root's own repositories: an applied one for each agent, with its record, and the meta one that says what is live.

<state>/applied/<name>.git     what was proposed and deployed for one agent
<state>/meta                   what is deployed where
"""

import shutil
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import trio

from privd.boxes import Boxes
from privd.durable import sync
from privd.git import contents, meta
from privd.git.applied import Applied
from privd.git.intake import Intake, Proposed, sweep
from privd.git.ledger import Ledger
from privd.git.meta import Live
from privd.policy.admission import Admitted
from privd.policy.configuration import Ground, Reading
from privd.policy.configuration import read as read_settings
from privd.policy.nar import Content
from privd.policy.record import Deployed, Mark, generation_of
from runtime.log import Log

GONE: Final = ".gone"
"""How the folder of a repository ends that is being removed: no agent's name has a dot."""


class Repositories:
    """All repositories of one hive."""

    def __init__(self, state: Path, boxes: Boxes) -> None:
        self.meta = state / "meta"
        self._folder = state / "applied"
        self._intake = Intake(boxes)
        self._writing_meta = trio.Lock()
        self._ledgers: dict[str, Ledger] = {}
        """Of every name of which something is written down."""
        self._blank: WeakValueDictionary[str, Ledger] = WeakValueDictionary()
        """Of names that were only asked for, as long as somebody looks: there is no end of names."""

    async def open(self, log: Log) -> None:
        """Read every record, and take away what a crash left of intakes."""
        sweep(self._folder)
        for left in self._folder.glob(f"*{GONE}"):
            await trio.to_thread.run_sync(shutil.rmtree, left)
        for folder in sorted(self._folder.glob("*.git")):
            ledger = self.ledger(folder.name.removesuffix(".git"))
            self._keep(ledger)
            await trio.to_thread.run_sync(ledger.load)
            if ledger.fault:
                log.error("a record cannot be read", agent=ledger.agent, reason=ledger.fault)

    def ledger(self, agent: str) -> Ledger:
        """The record of one agent's proposals and deployments; it begins empty."""
        found = self._ledgers.get(agent) or self._blank.get(agent)
        if found is None:
            found = self._blank[agent] = Ledger(agent, self._folder / f"{agent}.git", self._keep)
        return found

    def _keep(self, ledger: Ledger) -> None:
        self._ledgers[ledger.agent] = ledger
        self._blank.pop(ledger.agent, None)

    async def remove(self, ledger: Ledger) -> None:
        """Delete a name's repository, under the ledger's turn; its record begins anew when somebody asks again."""
        gone = ledger.folder.with_suffix(GONE)
        ledger.folder.rename(gone)  # from here on there is none
        sync(self._folder)
        self._blank[ledger.agent] = self._ledgers.pop(ledger.agent)
        ledger.clear()
        await trio.to_thread.run_sync(shutil.rmtree, gone)

    def ledgers(self) -> tuple[Ledger, ...]:
        """All records that can be read, by agent."""
        return tuple(ledger for _, ledger in sorted(self._ledgers.items()) if not ledger.fault)

    def applied(self, agent: str) -> Applied:
        """The repository of what was proposed and deployed for one agent; it may not have been made yet."""
        return Applied(self._folder / f"{agent}.git")

    async def read(self, agent: str, commit: str, ground: Ground) -> Reading:
        """The settings that a commit of an agent's applied repository says."""
        return await self.ledger(agent).work(
            lambda applied: read_settings(contents.files(applied, commit), ground)
        )

    async def files(self, agent: str, commit: str) -> dict[str, Content]:
        """All files of a commit."""
        return await self.ledger(agent).work(lambda applied: contents.whole(applied, commit))

    async def ingest(self, agent: str, commit: str, proposed: Proposed, ground: Ground) -> Admitted:
        """Take a commit of a proposed repository into an agent's applied one; nothing points at it yet.

        One that says no settings for this agent is refused, and nothing of it stays.
        """
        applied = self.applied(agent)
        return await self._intake.ingest(
            commit, proposed, applied, judge=lambda files: read_settings(files, ground)
        )

    async def went_live(
        self, living: Container[str], beside: Mapping[str, bytes], text: str, at_ms: int
    ) -> None:
        """One commit more in the meta repository, where something else is live than it says."""
        live = {
            each.agent: Live(generation, deployed.begun.commit, deployed.begun.tree, deployed.at_ms)
            for each in self.ledgers()
            if each.agent in living
            and (generation := generation_of(each.tags)) is not None
            and isinstance(deployed := each.tags[Mark.DEPLOYED, generation], Deployed)
        }
        async with self._writing_meta:
            await trio.to_thread.run_sync(meta.write, self.meta, live, text, at_ms, beside)
