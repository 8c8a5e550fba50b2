"""Makes what was approved live: one deployment at a time for each agent, a few at once in a hive.

Each step is written down before it is taken (`privd.policy.steps`), in `step.json` beside the tags. A privd that comes
back takes the step that it finds, so a crash anywhere ends in a generation, or in what was there before.
"""

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

import msgspec
import trio

from privd import build_log, durable
from privd.build_log import Log as BuildLogFile
from privd.git.ledger import Ledger
from privd.keeper import Attend, Keeper
from privd.policy.configuration import Reading
from privd.policy.objects_made import commit_of
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
    unfinished,
)
from privd.policy.steps import STATES, TRIES_MAX, Step, StepName, check_can_cancel, message
from protocol.approvals import Deployment, DeploymentKind, DeploymentState
from protocol.configuration import AnyDecision, BuildSaid, DeploymentChanged, ProposalChanged
from protocol.limits import HEALTH_GATE_S
from protocol.privd import Power
from protocol.problem import Problem, Refused
from runtime.clock import now_ms
from runtime.fanout import Fanout
from runtime.log import Log

DEPLOYMENTS_AT_ONCE: Final = 2
STEP_NAME: Final = "step.json"
LOOK_S: Final = 0.5
"""How often a cage that is being checked is looked at."""
CRASH_LINES_MAX: Final = 30
RETRY_S: Final = 10.0
"""Until a step is tried again that met a full disk."""


class Agents(Protocol):
    """What a deployment needs of the hive."""

    def ledger(self, agent: str) -> Ledger: ...
    def ledgers(self) -> Iterable[Ledger]: ...
    def keeper(self, agent: str) -> Keeper: ...
    def standing(self, agent: str) -> Standing: ...
    def last_lines(self, agent: str, count: int) -> tuple[str, ...]: ...

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


class _Work:
    """One deployment at work."""

    def __init__(self, agent: str, number: int) -> None:
        self.agent = agent
        self.number = number
        self.state = DeploymentState.WAITING
        self.since_ms = now_ms()
        self.detail = ""
        self.scope = trio.CancelScope()
        """Of what may still be cancelled."""
        self.cancelled = False


class Deployments:
    """All deployments of one hive."""

    def __init__(
        self, agents: Agents, decisions: Fanout[AnyDecision], attend: Attend, log: Log, keep_ms: int
    ) -> None:
        self._agents = agents
        self._decisions = decisions
        self._attend = attend
        self._log = log
        self._keep_ms = keep_ms
        self._at_work: dict[str, _Work] = {}
        self._places = trio.Semaphore(DEPLOYMENTS_AT_ONCE)
        self._health: dict[str, tuple[int, str]] = {}
        """By agent: which start was well, or what is wrong with it."""

    async def recover(self) -> None:
        """After privd's own start: tidy up after what has ended, and go on with what was approved and has not."""
        for ledger in self._agents.ledgers():
            going = unfinished(ledger.tags)
            if ledger.tags and not going:
                await self._end(ledger)
            for number in going:
                self._log.info("going on with a deployment", agent=ledger.agent, number=number)
                self._start(ledger.agent, number)

    def rows(self, agent: str) -> tuple[Deployment, ...]:
        """Every deployment of one agent, in the order of their numbers."""
        return tuple(self._shown(each) for each in self._agents.ledger(agent).record().deployments.values())

    def row(self, agent: str, number: int) -> Deployment:
        found = self._agents.ledger(agent).record().deployments.get(number)
        if found is None:
            raise Refused(Problem.NOT_FOUND, f"{agent} has no deployment {number}")
        return self._shown(found)

    def check_idle(self, agent: str) -> None:
        """Refuse to begin another one beside one that runs."""
        if work := self._at_work.get(agent):
            raise Refused(
                Problem.CONFLICT, f"deployment {work.number} of {agent} is {work.state}: wait for its end"
            )

    def begin(self, agent: str, number: int) -> Deployment:
        """Make live what was approved under this number."""
        self._start(agent, number)
        return self.row(agent, number)

    async def roll_back(self, agent: str, generation: int) -> Deployment:
        """Deploy the content of an older generation again."""
        ledger = self._agents.ledger(agent)
        async with ledger.turn:
            self.check_idle(agent)
            record, found = ledger.record(), ledger.tags.get((Mark.DEPLOYED, generation))
            if not isinstance(found, Deployed) or found.begun.kind is DeploymentKind.INIT:
                raise Refused(Problem.NOT_FOUND, f"{agent} has no generation {generation}")
            if self._agents.standing(agent) is not Standing.LIVING:
                raise Refused(Problem.CONFLICT, f"{agent} has no cage: spawn it again")
            number, main = record.next_number, ledger.applied.main()
            begun = Begun(
                DeploymentKind.ROLLBACK, found.begun.commit, found.begun.tree, main, now_ms(), of=generation
            )
            await ledger.write(Mark.BUILDING, number, begun.commit, begun, begun.began_ms)
        return self.begin(agent, number)

    def cancel(self, agent: str, number: int) -> Deployment:
        """Give up what has not switched anything."""
        check_can_cancel(self.row(agent, number))
        work = self._at_work.get(agent)
        if work is None or work.number != number:
            raise Refused(Problem.CONFLICT, f"deployment {number} of {agent} has ended")
        work.cancelled = True
        work.scope.cancel()
        return self.row(agent, number)

    def confirm_health(self, agent: str, started_ms: int, fault: str) -> None:
        """Hear how the harness of a cage is that was started then."""
        self._health[agent] = started_ms, fault

    def _shown(self, row: Deployment) -> Deployment:
        work = self._at_work.get(row.agent)
        if work is None or work.number != row.number or row.ended_ms is not None:
            return row
        return msgspec.structs.replace(row, state=work.state, since_ms=work.since_ms, detail=work.detail)

    def _start(self, agent: str, number: int) -> None:
        work = self._at_work[agent] = _Work(agent, number)

        async def run() -> None:
            try:
                async with self._places:
                    await self._run_through(work)
            finally:
                if self._at_work.get(agent) is work:
                    del self._at_work[agent]
            self._tell(work)

        self._tell(work)
        self._attend(run)

    async def _run_through(self, work: _Work) -> None:
        """Until it has ended, however long the disk is full: each step may be taken twice."""
        while True:
            try:
                await self._run(work)
            except (Refused, OSError) as fault:
                self._log.error(
                    "a deployment cannot go on", agent=work.agent, number=work.number, reason=str(fault)
                )
                self._become(work, work.state, f"waits {RETRY_S:g} s: {fault}")
                await trio.sleep(RETRY_S)
            else:
                return

    async def _run(self, work: _Work) -> None:
        """Take step after step until there is none left."""
        ledger = self._agents.ledger(work.agent)
        log = BuildLogFile(
            ledger.log_path(work.number),
            lambda lines: self._decisions.publish(BuildSaid(work.agent, work.number, lines)),
        )
        step = self._written(ledger, work.number)
        if step is not None:
            log.say(f"privd came back: going on with {step.step}")
        else:
            step = await self._build(work, ledger, log)
        takes: dict[StepName, Callable[[_Work, Ledger, BuildLogFile, Step], Awaitable[Step | None]]] = {
            StepName.SWITCHING: self._switch,
            StepName.CHECKING: self._check,
            StepName.SEALING: self._seal,
            StepName.RETURNING: self._return,
        }
        while step is not None:
            self._become(work, STATES[step.step], step.reason)
            step = await takes[step.step](work, ledger, log, step)

    async def _build(self, work: _Work, ledger: Ledger, log: BuildLogFile) -> Step | None:
        """Render the settings. Nothing has been touched when this fails or is given up."""
        begun = begun_of(ledger.tags, work.number)
        if begun is None:
            raise ValueError(f"{work.agent} has no deployment {work.number}")
        agent = work.agent
        reason = ""
        with trio.CancelScope() as work.scope:
            if work.cancelled:
                work.scope.cancel()
            await ledger.write(Mark.BUILDING, work.number, begun.commit, begun, now_ms())
            self._become(work, DeploymentState.BUILDING)
            log.say(f"building {begun.kind} of {agent} from {begun.commit}")
            try:
                reading = await self._agents.read(agent, begun.commit)
                standing = self._agents.standing(agent)
                for warning in reading.warnings:
                    log.say(f"warning: {warning}")
                log.say(
                    f"the settings are well: model {reading.settings.model}, runner {reading.settings.runner}"
                )
                record = None if standing is Standing.NOBODY else self._agents.keeper(agent).record
                step = Step(
                    number=work.number,
                    step=StepName.SWITCHING,
                    begun=begun,
                    after=reading.settings,
                    standing=standing,
                    before=None if record is None else record.settings,
                    wanted=record is not None and record.wanted,
                    main=ledger.applied.main(),
                )
                if not work.cancelled:
                    self._write(ledger, step)
                    return step
            except Refused as refused:
                reason = refused.detail
        cancelled = work.cancelled
        await self._fail(
            work,
            ledger,
            log,
            begun,
            "cancelled by the operator" if cancelled else reason,
            now_ms(),
            cancelled=cancelled,
        )
        return None

    async def _switch(self, work: _Work, ledger: Ledger, log: BuildLogFile, step: Step) -> Step:
        """End the cage, give it the new settings, start it. What goes wrong is returned from."""
        step = msgspec.structs.replace(step, tries=step.tries + 1)
        if step.tries > TRIES_MAX:
            return self._returning(ledger, step, f"privd ended {TRIES_MAX} times while it was switched")
        self._write(ledger, step)
        log.say("switching: the running turn may end first")
        try:
            runs = await self._agents.take_up(work.agent, step)
        except (Refused, OSError) as fault:
            reason = fault.detail if isinstance(fault, Refused) else str(fault)
            log.say(f"it does not come up: {reason}")
            return self._returning(ledger, step, reason)
        if not runs:
            log.say("no cage runs, so there is nothing to check")
            return self._sealing(ledger, step)
        return self._next(ledger, step, StepName.CHECKING)

    async def _check(self, work: _Work, ledger: Ledger, log: BuildLogFile, step: Step) -> Step:
        """The health gate: the harness must say within HEALTH_GATE_S that it is well."""
        log.say(f"checking: the harness has {HEALTH_GATE_S} s to say that it is well")
        fault = f"its harness did not say within {HEALTH_GATE_S} s that it is well"
        with trio.move_on_after(HEALTH_GATE_S):
            found = await self._verdict(work.agent)
            if not found:
                log.say("the harness is well")
                return self._sealing(ledger, step)
            fault = found
        for line in self._agents.last_lines(work.agent, CRASH_LINES_MAX):
            log.say(f"  {line}")
        log.say(f"not well: {fault}")
        return self._returning(ledger, step, fault)

    async def _verdict(self, agent: str) -> str:
        """What is wrong with the cage, once that is known; empty when it is well."""
        while True:
            row = self._agents.keeper(agent).row()
            if row.power in {Power.CRASHED, Power.FAILED}:
                return row.detail or f"the cage is {row.power}"
            if row.power is not Power.RUNNING:
                return f"the cage is {row.power}"
            started_ms, fault = self._health.get(agent, (None, ""))
            if row.started_ms is not None and started_ms == row.started_ms:
                return fault
            await trio.sleep(LOOK_S)

    async def _seal(self, work: _Work, ledger: Ledger, log: BuildLogFile, step: Step) -> None:
        """Make the generation. Everything here comes out the same when it is done twice."""
        begun, at_ms, commit = step.begun, step.ended_ms, step.begun.commit
        if begun.kind is not DeploymentKind.INIT:
            parents = () if step.main is None else (step.main,)
            text = message(work.agent, work.number, begun)
            made = commit_of(begun.tree, parents, text, at_ms // 1000)
            commit = made.id
            await ledger.work(lambda applied: applied.put((made,)))
            await ledger.work(lambda applied: applied.move_main(commit))
        if end_of(ledger.tags, work.number) is None:
            log.say(f"deployed: generation {work.number}" if commit != begun.commit else "the draft is made")
        document = Deployed(
            at_ms,
            msgspec.structs.replace(begun, commit=commit),
            build_log.digest(ledger.log_path(work.number)),
            asked_of(ledger.tags, work.number),
            approved_of(ledger.tags, work.number),
        )
        await ledger.write(Mark.DEPLOYED, work.number, commit, document, at_ms)
        if begun.kind is not DeploymentKind.INIT:
            await self._agents.went_live(message(work.agent, work.number, begun), at_ms)
        await self._end(ledger)

    async def _return(self, work: _Work, ledger: Ledger, log: BuildLogFile, step: Step) -> None:
        """Bring back what was there before."""
        log.say("returning to what was there before")
        try:
            await self._agents.give_back(work.agent, step)
        except (Refused, OSError) as fault:
            log.say(f"what was there before does not start: {fault}")
        await self._fail(work, ledger, log, step.begun, step.reason, step.ended_ms)

    async def _fail(
        self,
        work: _Work,
        ledger: Ledger,
        log: BuildLogFile,
        begun: Begun,
        reason: str,
        at_ms: int,
        *,
        cancelled: bool = False,
    ) -> None:
        log.say(f"{'cancelled' if cancelled else 'returned'}: {reason}")
        approved: Approved | None = approved_of(ledger.tags, work.number)
        document = Failed(
            at_ms,
            reason,
            begun,
            build_log.digest(ledger.log_path(work.number)),
            cancelled,
            asked_of(ledger.tags, work.number),
            approved,
        )
        await ledger.write(Mark.FAILED, work.number, begun.commit, document, at_ms)
        await self._end(ledger)

    async def _end(self, ledger: Ledger) -> None:
        self._erase(ledger)
        await ledger.tidy(now_ms(), self._keep_ms)

    def _sealing(self, ledger: Ledger, step: Step) -> Step:
        return self._next(ledger, msgspec.structs.replace(step, ended_ms=now_ms()), StepName.SEALING)

    def _returning(self, ledger: Ledger, step: Step, reason: str) -> Step:
        ended = msgspec.structs.replace(step, ended_ms=now_ms(), reason=reason)
        return self._next(ledger, ended, StepName.RETURNING)

    def _next(self, ledger: Ledger, step: Step, name: StepName) -> Step:
        """Written down before it is taken."""
        step = msgspec.structs.replace(step, step=name)
        self._write(ledger, step)
        return step

    def _write(self, ledger: Ledger, step: Step) -> None:
        durable.write(ledger.folder / STEP_NAME, msgspec.json.encode(step))

    def _erase(self, ledger: Ledger) -> None:
        (ledger.folder / STEP_NAME).unlink(missing_ok=True)

    def _written(self, ledger: Ledger, number: int) -> Step | None:
        """The step that was to be taken, if it is of this deployment."""
        place: Path = ledger.folder / STEP_NAME
        if not place.exists():
            return None
        step = msgspec.json.decode(place.read_bytes(), type=Step)
        return step if step.number == number else None

    def _become(self, work: _Work, state: DeploymentState, detail: str = "") -> None:
        if (work.state, work.detail) != (state, detail):
            work.state, work.detail, work.since_ms = state, detail, now_ms()
            self._tell(work)

    def _tell(self, work: _Work) -> None:
        """The deployment's row, and its proposal's."""
        record = self._agents.ledger(work.agent).record()
        if work.number in record.deployments:
            self._decisions.publish(DeploymentChanged(self._shown(record.deployments[work.number])))
        if (proposal := record.proposals.get(work.number)) is not None:
            self._decisions.publish(ProposalChanged(proposal))
