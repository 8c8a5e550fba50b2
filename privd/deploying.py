"""One deployment at work, step after step.

Each step is written down before it is taken (`privd.policy.steps`), in `step.json` beside the tags. A privd that comes
back takes the step that it finds, so a crash anywhere ends in a generation, or in what was there before.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import msgspec
import trio
from msgspec import UNSET

from privd import build_log, durable
from privd.audit import Audit
from privd.build_log import Log as BuildLogFile
from privd.git.ledger import Ledger
from privd.keeper import Keeper
from privd.policy.configuration import Reading
from privd.policy.objects_made import commit_of
from privd.policy.proofs import check_sources
from privd.policy.proposals import Standing
from privd.policy.record import (
    Approved,
    Begun,
    Deployed,
    Failed,
    Mark,
    approved_of,
    asked_of,
    begun_of,
    end_of,
)
from privd.policy.steps import STATES, TRIES_MAX, Step, StepName, message
from privd.systems import Systems
from protocol.approvals import Deployment, DeploymentKind, DeploymentState
from protocol.configuration import AnyDecision, BuildSaid, DeploymentChanged, ProposalChanged
from protocol.limits import HEALTH_GATE_S
from protocol.privd import Power
from protocol.problem import Refused
from protocol.settings import AgentSettings
from runtime.clock import now_ms
from runtime.fanout import Fanout
from runtime.log import Log

STEP_NAME: Final = "step.json"
LOOK_S: Final = 0.5
"""How often a cage that is being checked is looked at."""
CRASH_LINES_MAX: Final = 30
RETRY_S: Final = 10.0
"""Until a step is tried again that met a full disk."""


class Agents(Protocol):
    """What a deployment needs of the hive."""

    audit: Audit
    systems: Systems

    def ledger(self, agent: str) -> Ledger: ...
    def ledgers(self) -> Iterable[Ledger]: ...
    def keeper(self, agent: str) -> Keeper: ...
    def standing(self, agent: str) -> Standing: ...
    def last_lines(self, agent: str, count: int) -> tuple[str, ...]: ...
    def check_size(self, settings: AgentSettings) -> None: ...

    async def read(self, agent: str, commit: str) -> Reading:
        """The settings that a commit says."""
        ...

    async def take_up(self, agent: str, step: Step) -> bool:
        """Give the agent its new settings, made anew where there was none. Whether a cage runs now."""
        ...

    async def give_back(self, agent: str, step: Step) -> None:
        """Make the agent what it was before."""
        ...

    async def went_live(self, text: str, at_ms: int) -> None:
        """Tell the meta repository."""
        ...


class Deploying:
    """One deployment. `health` says by agent which start of its cage was well, or what is wrong with it."""

    def __init__(
        self,
        agent: str,
        number: int,
        agents: Agents,
        health: Mapping[str, tuple[int, str]],
        decisions: Fanout[AnyDecision],
        log: Log,
        keep_ms: int,
    ) -> None:
        self.agent = agent
        self.number = number
        self.state = DeploymentState.WAITING
        self.is_over = False
        """Whether it stands in nobody's way any more."""
        self._agents = agents
        self._health = health
        self._decisions = decisions
        self._log = log
        self._keep_ms = keep_ms
        self._ledger = agents.ledger(agent)
        self._build_log: BuildLogFile
        self._since_ms = now_ms()
        self._detail = ""
        self._scope = trio.CancelScope()
        """Of what may still be cancelled."""
        self._cancelled = False

    def cancel(self) -> None:
        """Give up what has not switched anything."""
        self._cancelled = True
        self._scope.cancel()

    def shown(self, row: Deployment) -> Deployment:
        """This deployment's row as it is just now: it has an end when another one may begin."""
        if self.is_over:
            return row
        return msgspec.structs.replace(
            row, state=self.state, since_ms=self._since_ms, detail=self._detail, ended_ms=None
        )

    async def run(self) -> None:
        """Until it has ended, however long the disk is full: each step may be taken twice."""
        while True:
            try:
                await self._run()
            except (Refused, OSError) as fault:
                self._log.error(
                    "a deployment cannot go on", agent=self.agent, number=self.number, reason=str(fault)
                )
                self._become(self.state, f"waits {RETRY_S:g} s: {fault}")
                await trio.sleep(RETRY_S)
            else:
                return

    async def _run(self) -> None:
        """Take step after step until there is none left."""
        self._build_log = BuildLogFile(
            self._ledger.log_path(self.number),
            lambda lines: self._decisions.publish(BuildSaid(self.agent, self.number, lines)),
        )
        step = self._written()
        if step is not None:
            self._build_log.say(f"privd came back: going on with {step.step}")
        else:
            step = await self._told("building", self._build)
        takes: dict[StepName, Callable[[Step], Awaitable[Step | None]]] = {
            StepName.SWITCHING: self._switch,
            StepName.CHECKING: self._check,
            StepName.SEALING: self._seal,
            StepName.RETURNING: self._return,
        }
        while step is not None:
            self._become(STATES[step.step], step.reason)
            step = await self._told(step.step, partial(takes[step.step], step))

    async def _told(self, name: str, take: Callable[[], Awaitable[Step | None]]) -> Step | None:
        """Take a step that is told in the audit log before and after."""
        async with self._agents.audit.effect(f"deploy_{name}", self.agent, self.number) as said:
            step = await take()
            if step is not None:
                said.detail = f"then {step.step} {step.reason}".rstrip()
            elif isinstance(end := end_of(self._ledger.tags, self.number), Failed):
                said.detail = end.reason
        return step

    async def _build(self) -> Step | None:
        """Render the settings. Nothing has been touched when this fails or is given up."""
        begun = begun_of(self._ledger.tags, self.number)
        if begun is None:
            raise ValueError(f"{self.agent} has no deployment {self.number}")
        reason = ""
        with trio.CancelScope() as self._scope:
            if self._cancelled:
                self._scope.cancel()
            await self._ledger.write(Mark.BUILDING, self.number, begun.commit, begun, now_ms())
            self._become(DeploymentState.BUILDING)
            self._build_log.say(f"building {begun.kind} of {self.agent} from {begun.commit}")
            try:
                reading = await self._agents.read(self.agent, begun.commit)
                self._agents.check_size(reading.settings)
                standing = self._agents.standing(self.agent)
                for warning in reading.warnings:
                    self._build_log.say(f"warning: {warning}")
                self._build_log.say(
                    f"the settings are well: model {reading.settings.model}, runner {reading.settings.runner}"
                )
                if begun.kind is not DeploymentKind.INIT:
                    check_sources(approved_of(self._ledger.tags, self.number), self._agents.systems.pinned())
                    await self._agents.systems.build(self.agent, begun.commit, self._build_log.say)
                record = None if standing is Standing.NOBODY else self._agents.keeper(self.agent).record
                step = Step(
                    number=self.number,
                    step=StepName.SWITCHING,
                    begun=begun,
                    after=reading.settings,
                    standing=standing,
                    before=None if record is None else record.settings,
                    wanted=record is not None and record.wanted,
                    main=None if standing is Standing.NOBODY else self._ledger.applied.main(),
                )
                if not self._cancelled:
                    self._write(step)
                    return step
            except Refused as refused:
                reason = refused.detail
        cancelled = self._cancelled
        await self._fail(
            begun,
            "cancelled by the operator" if cancelled else reason,
            now_ms(),
            cancelled=cancelled,
        )
        return None

    async def _switch(self, step: Step) -> Step:
        """End the cage, give it the new settings, start it. What goes wrong is returned from."""
        step = msgspec.structs.replace(step, tries=step.tries + 1)
        if step.tries > TRIES_MAX:
            return self._returning(step, f"privd ended {TRIES_MAX} times while it was switched")
        self._write(step)
        self._build_log.say("switching: the running turn may end first")
        try:
            runs = await self._agents.take_up(self.agent, step)
        except (Refused, OSError) as fault:
            reason = fault.detail if isinstance(fault, Refused) else str(fault)
            self._build_log.say(f"it does not come up: {reason}")
            return self._returning(step, reason)
        if not runs:
            self._build_log.say("no cage runs, so there is nothing to check")
            return self._sealing(step)
        return self._next(step, StepName.CHECKING)

    async def _check(self, step: Step) -> Step:
        """The health gate: the harness must say within HEALTH_GATE_S that it is well."""
        self._build_log.say(f"checking: the harness has {HEALTH_GATE_S} s to say that it is well")
        fault = f"its harness did not say within {HEALTH_GATE_S} s that it is well"
        with trio.move_on_after(HEALTH_GATE_S):
            found = await self._verdict()
            if not found:
                self._build_log.say("the harness is well")
                return self._sealing(step)
            fault = found
        for line in self._agents.last_lines(self.agent, CRASH_LINES_MAX):
            self._build_log.say(f"  {line}")
        self._build_log.say(f"not well: {fault}")
        return self._returning(step, fault)

    async def _verdict(self) -> str:
        """What is wrong with the cage, once that is known; empty when it is well."""
        while True:
            row = self._agents.keeper(self.agent).row()
            if row.power in {Power.CRASHED, Power.FAILED}:
                return row.detail or f"the cage is {row.power}"
            if row.power is not Power.RUNNING:
                return f"the cage is {row.power}"
            started_ms, fault = self._health.get(self.agent, (None, ""))
            if row.started_ms is not None and started_ms == row.started_ms:
                return fault
            await trio.sleep(LOOK_S)

    async def _seal(self, step: Step) -> None:
        """Make the generation. Everything here comes out the same when it is done twice."""
        begun, at_ms, commit = step.begun, step.ended_ms, step.begun.commit
        if begun.kind is not DeploymentKind.INIT:
            parents = () if step.main is None else (step.main,)
            text = message(self.agent, self.number, begun)
            made = commit_of(begun.tree, parents, text, at_ms // 1000)
            commit = made.id
            await self._ledger.work(lambda applied: applied.put((made,)))
            await self._ledger.work(lambda applied: applied.move_main(commit))
        if end_of(self._ledger.tags, self.number) is None:
            self._build_log.say(
                f"deployed: generation {self.number}" if commit != begun.commit else "the draft is made"
            )
        document = Deployed(
            at_ms,
            msgspec.structs.replace(begun, commit=commit),
            build_log.digest(self._ledger.log_path(self.number)),
            asked_of(self._ledger.tags, self.number),
            approved_of(self._ledger.tags, self.number),
            self._agents.keeper(self.agent).base or UNSET,
        )
        await self._ledger.write(Mark.DEPLOYED, self.number, commit, document, at_ms)
        if begun.kind is not DeploymentKind.INIT:
            await self._agents.went_live(message(self.agent, self.number, begun), at_ms)
        await tidy_up(self._ledger, self._keep_ms)

    async def _return(self, step: Step) -> None:
        """Bring back what was there before."""
        self._build_log.say("returning to what was there before")
        try:
            await self._agents.give_back(self.agent, step)
        except (Refused, OSError) as fault:
            self._build_log.say(f"what was there before does not start: {fault}")
        await self._fail(step.begun, step.reason, step.ended_ms)

    async def _fail(
        self,
        begun: Begun,
        reason: str,
        at_ms: int,
        *,
        cancelled: bool = False,
    ) -> None:
        self._build_log.say(f"{'cancelled' if cancelled else 'returned'}: {reason}")
        approved: Approved | None = approved_of(self._ledger.tags, self.number)
        document = Failed(
            at_ms,
            reason,
            begun,
            build_log.digest(self._ledger.log_path(self.number)),
            cancelled,
            asked_of(self._ledger.tags, self.number),
            approved,
        )
        await self._ledger.write(Mark.FAILED, self.number, begun.commit, document, at_ms)
        await tidy_up(self._ledger, self._keep_ms)

    def _sealing(self, step: Step) -> Step:
        return self._next(msgspec.structs.replace(step, ended_ms=now_ms()), StepName.SEALING)

    def _returning(self, step: Step, reason: str) -> Step:
        ended = msgspec.structs.replace(step, ended_ms=now_ms(), reason=reason)
        return self._next(ended, StepName.RETURNING)

    def _next(self, step: Step, name: StepName) -> Step:
        """Written down before it is taken."""
        step = msgspec.structs.replace(step, step=name)
        self._write(step)
        return step

    def _write(self, step: Step) -> None:
        durable.write(self._ledger.folder / STEP_NAME, msgspec.json.encode(step))

    def _written(self) -> Step | None:
        """The step that was to be taken, if it is of this deployment."""
        place: Path = self._ledger.folder / STEP_NAME
        if not place.exists():
            return None
        step = msgspec.json.decode(place.read_bytes(), type=Step)
        return step if step.number == self.number else None

    def _become(self, state: DeploymentState, detail: str = "") -> None:
        if (self.state, self._detail) != (state, detail):
            self.state, self._detail, self._since_ms = state, detail, now_ms()
            self.tell()

    def tell(self) -> None:
        """The deployment's row, and its proposal's, to everybody."""
        record = self._ledger.record()
        if self.number in record.deployments:
            self._decisions.publish(DeploymentChanged(self.shown(record.deployments[self.number])))
        if (proposal := record.proposals.get(self.number)) is not None:
            self._decisions.publish(ProposalChanged(proposal))


async def tidy_up(ledger: Ledger, keep_ms: int) -> None:
    """After an end: no step is left, and no tag that need not stay."""
    erase(ledger)
    await ledger.tidy(now_ms(), keep_ms)


def erase(ledger: Ledger) -> None:
    """Forget the step that was written down last."""
    (ledger.folder / STEP_NAME).unlink(missing_ok=True)
