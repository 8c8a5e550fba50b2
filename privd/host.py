"""What privd's handlers act on: the agents of this hive, their keepers, and what is published about them."""

import os
from pathlib import Path
from typing import Final

import trio

from privd.approvers import Approvers
from privd.audit import Audit
from privd.box_unit import SOCKET_NAME
from privd.boxes import boxes_of_this_process
from privd.cages import folders
from privd.cages.backend import Backend
from privd.cages.journal import Journal
from privd.cages.spec import CageSpec, Places
from privd.deployments import Deployments
from privd.furnish import KEPT, agent_folder, furnish, socket_folder
from privd.git.ledger import Ledger
from privd.keeper import Attend, Keeper
from privd.policy.admission import Admitted
from privd.policy.agents import check_creation, check_purge, check_runner, check_size, role_of
from privd.policy.base import Outlook
from privd.policy.configuration import Ground, Reading, render
from privd.policy.objects_made import commit_of, tree_of
from privd.policy.proposals import Standing
from privd.policy.record import Begun, Deployed, Mark, generation_of, unfinished
from privd.policy.steps import Step
from privd.proposals import Proposals
from privd.proposed import Editor, WorkTrees
from privd.provision import check_vacant, credentials, give, next_range
from privd.registry import AgentRecord, Registry
from privd.repositories import Repositories
from privd.settings import BackendChoice, Launching, PrivdSettings
from privd.systems import Systems
from protocol.approvals import DeploymentKind
from protocol.configuration import AnyDecision
from protocol.privd import AnyCageEvent, Cage, CageChanged, CageGone, Power
from protocol.problem import Problem, Refused
from protocol.settings import AgentRole, AgentSettings
from runtime import VERSION
from runtime.clock import now_ms
from runtime.fanout import Fanout
from runtime.log import Log

DAY_MS: Final = 24 * 3_600_000
OwnedFolder = tuple[Path, tuple[int, int]]
"""A folder of an agent, and the user and group that own it."""


class Host:
    """One hive on this machine."""

    def __init__(self, settings: PrivdSettings, backend: Backend, attend: Attend, log: Log) -> None:
        self.settings = settings
        self.backend = backend
        self.separate = os.geteuid() == 0
        self.changes: Fanout[AnyCageEvent] = Fanout()
        self.boxes = boxes_of_this_process(log, _box_socket(settings))
        self.repositories = Repositories(Path(settings.state), self.boxes)
        self.work_trees = WorkTrees(settings, self.boxes, log, self._editor)
        self._registry = Registry(Path(settings.state) / "cages")
        self._keepers: dict[str, Keeper] = {}
        self._changing = trio.Lock()
        """Held while it changes who there is: a name that is being removed cannot be made anew underneath."""
        self._attend = attend
        self.log = log
        self.audit = Audit(Path(settings.state), log)
        self.decisions: Fanout[AnyDecision] = Fanout()
        self.approvers = Approvers(Path(settings.state))
        self.proposals = Proposals(self, self.decisions, settings)
        self.deployments = Deployments(self, self.decisions, attend, log, settings.ended_days * DAY_MS)
        self.systems = Systems(settings, backend, self.repositories)
        self._told: dict[str, tuple[int | None, str]] = {}
        """Generation and staleness of each agent, as they were published last."""

    async def open(self) -> None:
        """Read the records, then adopt, end and start what they say, all cages at once."""
        self._registry.load()
        if fault := self.approvers.load():
            self.log.error("the list of keys cannot be read, so nothing is approved", reason=fault)
        await self.audit.started(f"hyperhive {VERSION}, {self.backend.name} cages")
        await self.repositories.open(self.log)
        for record in self._registry.all():
            self.work_trees.take_along(record.agent)
            self._keepers[record.agent] = self._keep(record)
        async with trio.open_nursery() as nursery:
            for keeper in self._keepers.values():
                nursery.start_soon(keeper.recover, self.settings.stop_grace_s)

    def close(self) -> None:
        for keeper in self._keepers.values():
            keeper.let_go()
        self.audit.close()

    def rows(self) -> tuple[Cage, ...]:
        return tuple(self._keepers[name].row() for name in sorted(self._keepers))

    def keeper(self, agent: str) -> Keeper:
        """One agent's keeper; Refused(not_found) when there is none."""
        keeper = self._keepers.get(agent)
        if keeper is None:
            known = ", ".join(sorted(self._keepers)) or "no agent at all"
            raise Refused(Problem.NOT_FOUND, f"there is no agent {agent}; there are: {known}")
        return keeper

    def journal(self, agent: str) -> Journal:
        return Journal(Places(self._registry.folder(self.keeper(agent).record.agent)).journal)

    def keepers(self) -> tuple[Keeper, ...]:
        return tuple(self._keepers.values())

    def state_of(self, agent: str) -> OwnedFolder:
        """An agent's own files, and the user whose they are; kept ones too."""
        return self.owned(agent)[0]

    def owned(self, agent: str) -> tuple[OwnedFolder, ...]:
        """The folders that an agent's cage writes and nobody else does; its own files first."""
        identity = self.backend.identity(self.keeper(agent).record.uid_base)
        home = agent_folder(self.settings, agent)
        own, internal = (identity.agent_uid, identity.agent_gid), (identity.harness_uid, identity.harness_gid)
        return (home / "state", own), (home / "claude", own), (home / "harness", internal)

    def degraded(self) -> tuple[str, ...]:
        """What this machine does not give, for the banner."""
        lacks = self.backend.degraded()
        return lacks if self.separate else ("no privilege separation: every process runs as one user", *lacks)

    async def make(self, settings: AgentSettings, *, draft: bool = False) -> Cage:
        """Make an agent: record, uid range, folders, credentials. The cage stays stopped; a draft has none.

        One that was destroyed comes back to its own range, and to what it left.
        """
        agent = settings.name
        async with self._changing:
            check_creation(agent, ((record.agent, record.kept) for record in self._registry.all()))
            check_runner(settings.runner, has_claude=self.settings.claude is not None)
            left = self._registry.get(agent)
            if left is None:
                check_vacant(agent_folder(self.settings, agent))
            given = {} if left else credentials(self.settings)
            record = AgentRecord(
                agent=agent,
                uid_base=left.uid_base if left else self._next_range(),
                created_ms=now_ms(),
                settings=settings,
                draft=draft,
            )
            self._registry.put(record)
            keeper = self._keep(record)
            try:
                await self.backend.prepare(self._furnish(record), Places(self._registry.folder(agent)))
                place = agent_folder(self.settings, agent) / "claude"
                give(place, self.backend.identity(record.uid_base), given, separate=self.separate)
            except BaseException:
                self._take_back(agent, left)
                raise
            self._keepers[agent] = keeper
            self.changes.publish(CageChanged(keeper.row()))
            return keeper.row()

    def _take_back(self, agent: str, left: AgentRecord | None) -> None:
        """Undo a creation that failed half-way, so that it can be tried again."""
        if left is not None:
            self._registry.put(left)
            return
        folders.remove(agent_folder(self.settings, agent))
        self.work_trees.remove(agent)
        self._registry.forget(agent)
        folders.remove(self._registry.folder(agent))

    async def destroy(self, agent: str) -> Cage:
        """Remove an agent's cage and harness internals; what it keeps stays."""
        keeper = self.keeper(agent)
        row = await keeper.destroy(self.settings.stop_grace_s)
        async with self._changing:
            if self._keepers.get(agent) is keeper:  # else it was purged or came back meanwhile
                for folder in (
                    agent_folder(self.settings, agent) / "harness",
                    socket_folder(self.settings, agent),
                ):
                    await trio.to_thread.run_sync(folders.remove, folder)
        return row

    async def purge(self, agent: str, confirm: str) -> None:
        """Delete everything that a destroyed agent left."""
        async with self._changing:
            check_purge(agent, confirm, self.keeper(agent).power)
            home = agent_folder(self.settings, agent)
            for folder in (*(home / name for name in KEPT), home, socket_folder(self.settings, agent)):
                await trio.to_thread.run_sync(folders.remove, folder)
            await trio.to_thread.run_sync(self.work_trees.remove, agent)
            self._registry.forget(agent)
            del self._keepers[agent]
            await trio.to_thread.run_sync(folders.remove, self._registry.folder(agent))
            self.changes.publish(CageGone(agent))

    def ledger(self, agent: str) -> Ledger:
        """The record of one agent's proposals and deployments; it begins empty."""
        return self.repositories.ledger(agent)

    def ledgers(self) -> tuple[Ledger, ...]:
        """All records that can be read, by agent."""
        return self.repositories.ledgers()

    def standing(self, agent: str) -> Standing:
        """What an agent is, as far as proposals care."""
        record = self._registry.get(agent)
        if record is None:
            return Standing.NOBODY
        if record.kept:
            return Standing.KEPT
        return Standing.DRAFT if record.draft else Standing.LIVING

    def base(self, agent: str) -> str | None:
        """The commit that is deployed for an agent; None where nothing is."""
        return self.ledger(agent).applied.main() if self.standing(agent) is Standing.LIVING else None

    def ground(self, agent: str) -> Ground:
        """What no configuration of this agent says."""
        record = self._registry.get(agent)
        return Ground(
            name=agent,
            role=role_of(agent),
            runner=self.settings.runner,
            credential=self.settings.credential
            if record is None or record.kept
            else record.settings.credential,
            limits=self.settings.limits,
            api_base_url=self.settings.model_api.base_url,
            has_claude=self.settings.claude is not None,
            nixos=self.backend.name == BackendChoice.NIXOS,
        )

    async def read(self, agent: str, commit: str) -> Reading:
        """The settings that a commit of an agent's applied repository says."""
        return await self.repositories.read(agent, commit, self.ground(agent))

    def check_size(self, settings: AgentSettings) -> None:
        """Refuse settings that would make the rows of all agents too large to be told."""
        check_size(settings, (each.settings for each in self._registry.all() if each.agent != settings.name))

    def last_lines(self, agent: str, count: int) -> tuple[str, ...]:
        return self.journal(agent).last(count)

    async def take_up(self, agent: str, step: Step) -> bool:
        """Give an agent its new settings, made anew where there was none. Whether a cage runs now."""
        kind = step.begun.kind
        self.check_size(step.after)  # again: others may have been deployed since it was built
        if kind in {DeploymentKind.INIT, DeploymentKind.SPAWN}:
            if self.standing(agent) in {Standing.NOBODY, Standing.KEPT}:
                await self.make(step.after, draft=kind is DeploymentKind.INIT)
            await self.fill(agent, step.begun.commit)
            if role_of(agent) is AgentRole.MANAGER:
                await self._take_over()
        elif self.standing(agent) is not Standing.LIVING:
            raise Refused(Problem.CONFLICT, f"{agent} was destroyed meanwhile")
        if kind is DeploymentKind.INIT:
            return False
        await self.systems.aim(agent, step.begun.commit)
        wanted = step.wanted or kind is DeploymentKind.SPAWN
        row = await self.keeper(agent).switch(step.after, self.settings.stop_grace_s, wanted=wanted)
        return row.power is Power.RUNNING

    async def give_back(self, agent: str, step: Step) -> None:
        """Make an agent what it was before."""
        match step.standing, step.before:
            case Standing.LIVING, AgentSettings() as before:
                if step.main is not None:
                    await self.systems.aim(agent, step.main)
                await self.keeper(agent).switch(before, self.settings.stop_grace_s, wanted=step.wanted)
            case Standing.DRAFT, AgentSettings() as before:
                await self.keeper(agent).switch(before, 0, wanted=False, draft=True)
            case Standing.KEPT, AgentSettings() as before:
                await self.destroy(agent)
                await self.keeper(agent).switch(before, 0, wanted=False)
            case _ if self.standing(agent) is not Standing.NOBODY:
                await self.destroy(agent)
                await self.purge(agent, agent)

    async def went_live(self, text: str, at_ms: int) -> None:
        """One commit more in the meta repository, where something else is live than it says."""
        living = {name for name in self._keepers if self.standing(name) is Standing.LIVING}
        await self.repositories.went_live(living, self.backend.record(sorted(living)), text, at_ms)
        self._tell_rows()

    async def fill(self, agent: str, commit: str) -> None:
        """Begin an agent's proposed repository with a commit, unless it has one."""
        await self.work_trees.fill(agent, self.repositories.applied(agent), commit)

    async def _take_over(self) -> None:
        """Let a manager that is new edit what was made before it."""
        for record in self._registry.all():
            content = self.ledger(record.agent).content()
            if content is not None and not record.kept and self.work_trees.is_anothers(record.agent):
                await self.fill(record.agent, content)

    async def adopt(self, agent: str) -> None:
        """Give an agent that lives and was never deployed its first generation: what it is now."""
        ledger = self.ledger(agent)
        async with ledger.turn:
            deployed = generation_of(ledger.tags) is not None or unfinished(ledger.tags)
            if deployed or self.standing(agent) is not Standing.LIVING:
                return
            at_ms, number = now_ms(), ledger.record().next_number
            objects = tree_of(render(self.keeper(agent).record.settings, self.ground(agent)))
            commit = commit_of(objects[-1].id, (), f"Take up {agent} as it is", at_ms // 1000)
            begun = Begun(DeploymentKind.SPAWN, commit.id, objects[-1].id, None, at_ms)
            async with self.audit.effect("take_up", agent, number):
                ledger.applied.make()
                await ledger.work(lambda applied: applied.put((*objects, commit)))
                await ledger.work(lambda applied: applied.move_main(commit.id))
                await ledger.write(Mark.DEPLOYED, number, commit.id, Deployed(at_ms, begun, ""), at_ms)
        await self.went_live(f"Take up {agent} as it is", at_ms)
        await self.fill(agent, commit.id)

    async def go_on(self) -> None:
        """What privd has to do once it serves: deployments that its end interrupted, first generations."""
        try:
            await self.deployments.recover()
            await self.went_live("Take up what is deployed", now_ms())
        except (Refused, OSError) as fault:
            self.log.warning("what was left of deployments cannot be tidied up", reason=str(fault))
        for keeper in self.keepers():
            try:
                await self.adopt(keeper.record.agent)
            except (Refused, OSError) as fault:
                agent = keeper.record.agent
                self.log.warning("a first generation cannot be made", agent=agent, reason=str(fault))

    async def ingest(self, agent: str, commit: str) -> Admitted:
        """Take a commit of an agent's proposed configuration into its applied repository; nothing points at it yet."""
        proposed, ground = self.work_trees.source(agent), self.ground(agent)
        return await self.repositories.ingest(agent, commit, proposed, ground)

    def _keep(self, record: AgentRecord) -> Keeper:
        return Keeper(
            record,
            self._registry,
            self.backend,
            self._furnish,
            lambda agent, count: self.journal(agent).last(count),
            self.changes.publish,
            self._attend,
            self.log,
            self._outlook,
            self.audit,
        )

    def _outlook(self, record: AgentRecord) -> Outlook:
        living = not (record.kept or record.draft)
        generation = generation_of(self.ledger(record.agent).tags) if living else None
        return Outlook(generation, self.systems.base(record.settings.runner))

    def look_at_base(self) -> None:
        """Find out what a new cage would be made from, and tell whose row that changes."""
        self.systems.look_again()
        self._tell_rows()

    def _tell_rows(self) -> None:
        """Publish rows of which nothing changed but what their keepers cannot know."""
        for name, keeper in self._keepers.items():
            row = keeper.row()
            if self._told.get(name) != (said := (row.generation, row.stale)):
                self._told[name] = said
                self.changes.publish(CageChanged(row))

    def _furnish(self, record: AgentRecord) -> CageSpec:
        return furnish(
            record,
            self.settings,
            self.backend.identity(record.uid_base),
            (os.geteuid(), os.getegid()),
            editor=self._editor(record.agent).identity,
            separate=self.separate,
            base=self.systems.look(record.settings.runner),
        )

    def _next_range(self) -> int:
        return next_range(self.settings.uid_first, self._registry.ranges())

    def _editor(self, agent: str) -> Editor:
        """Whose an agent's proposed configuration is: the manager's, also while it is kept; else the agent's own."""
        own = self._registry.get(agent) or self.keeper(agent).record
        managers = (each for each in self._registry.all() if each.settings.role is AgentRole.MANAGER)
        record = next(managers, own)
        return Editor(record.agent, self.backend.identity(record.uid_base))


def _box_socket(settings: PrivdSettings) -> Path | None:
    """Where systemd makes boxes for us, if it runs the hive."""
    return Path(settings.run) / "privd" / SOCKET_NAME if settings.cages is Launching.UNITS else None
