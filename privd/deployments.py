"""Makes what was approved live: one deployment at a time for each agent, a few at once in a hive.

How one is made is `privd.deploying`'s matter.
"""

from typing import Final

import trio

from privd.deploying import Agents, Deploying, tidy_up
from privd.keeper import Attend
from privd.policy.proposals import Standing
from privd.policy.record import Begun, Deployed, Mark, unfinished
from privd.policy.steps import check_can_cancel
from protocol.approvals import Deployment, DeploymentKind
from protocol.configuration import AnyDecision
from protocol.privd import Cage
from protocol.problem import Problem, Refused
from runtime.clock import now_ms
from runtime.fanout import Fanout
from runtime.log import Log

DEPLOYMENTS_AT_ONCE: Final = 2


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
        self._at_work: dict[str, Deploying] = {}
        self._places = trio.Semaphore(DEPLOYMENTS_AT_ONCE)
        self._health: dict[str, tuple[int, str]] = {}
        """By agent: which start was well, or what is wrong with it."""

    async def recover(self) -> None:
        """After privd's own start: tidy up after what has ended, and go on with what was approved and has not."""
        for ledger in self._agents.ledgers():
            going = unfinished(ledger.tags)
            if ledger.tags and not going:
                await tidy_up(ledger, self._keep_ms)
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
        work.cancel()
        return self.row(agent, number)

    def is_idle(self, agent: str) -> bool:
        """Whether nothing is being deployed for an agent."""
        return agent not in self._at_work

    def is_well(self, row: Cage) -> bool:
        """Whether the harness of this start of a cage has said that it is well."""
        return row.started_ms is not None and self._health.get(row.agent) == (row.started_ms, "")

    def confirm_health(self, agent: str, started_ms: int, fault: str) -> None:
        """Hear how the harness of a cage is that was started then."""
        self._health[agent] = started_ms, fault

    def _shown(self, row: Deployment) -> Deployment:
        work = self._at_work.get(row.agent)
        return row if work is None or work.number != row.number else work.shown(row)

    def _start(self, agent: str, number: int) -> None:
        work = self._at_work[agent] = Deploying(
            agent, number, self._agents, self._health, self._decisions, self._log, self._keep_ms
        )

        async def run() -> None:
            try:
                async with self._places:
                    await work.run()
            finally:
                if self._at_work.get(agent) is work:
                    del self._at_work[agent]
            work.is_over = True
            work.tell()

        work.tell()
        self._attend(run)
