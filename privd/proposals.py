"""Proposals and verdicts: what is asked, shown, approved, denied, withdrawn, or runs out. All of it stands in tags.

What was shown to the operator is remembered in memory alone, for as long as it may be approved: a restart forgets it.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from privd import templates
from privd.approvers import Approvers
from privd.audit import Audit
from privd.boxes import Boxes
from privd.git import contents
from privd.git.applied import Applied
from privd.git.difference import difference
from privd.git.ledger import Ledger
from privd.keeper import Keeper
from privd.policy import proofs
from privd.policy import proposals as policy
from privd.policy.admission import Admitted
from privd.policy.capabilities import changes
from privd.policy.configuration import FILE, Ground, Reading
from privd.policy.configuration import read as read_settings
from privd.policy.listing import brief, fitting
from privd.policy.objects_made import commit_of, tree_of
from privd.policy.proposals import DAY_MS, Shown, Standing
from privd.policy.record import (
    HOUR_MS,
    Agreed,
    Approved,
    Asked,
    Denied,
    Mark,
    Word,
    agreed_of,
    ended_ms,
    is_only_asked,
    proposed_within,
)
from privd.policy.system_text import text_of
from privd.repositories import Repositories
from privd.settings import PrivdSettings
from privd.systems import Systems
from protocol.approvals import (
    AnyProof,
    CapabilityChange,
    Proposal,
    ProposalKind,
    ProposalPage,
    ProposalState,
)
from protocol.configuration import AnyDecision, ProposalChanged, Propose
from protocol.names import OPERATOR
from protocol.problem import Problem, Refused
from protocol.settings import AgentSettings
from runtime.clock import new_key, now_ms
from runtime.fanout import Fanout

SHOWN_MAX: Final = 256
"""Documents that may be approved at once; the oldest is forgotten for the next."""
REFUSED_MAX: Final = 10_000
"""What is remembered of configurations that were refused; far more than are looked at within an hour."""


class Agents(Protocol):
    """What proposals need of the hive."""

    boxes: Boxes
    systems: Systems
    approvers: Approvers
    audit: Audit
    repositories: Repositories

    def ledger(self, agent: str) -> Ledger: ...
    def ledgers(self) -> Iterable[Ledger]: ...
    def keeper(self, agent: str) -> Keeper: ...
    def standing(self, agent: str) -> Standing: ...
    def base(self, agent: str) -> str | None: ...
    def ground(self, agent: str) -> Ground: ...
    async def read(self, agent: str, commit: str) -> Reading: ...
    async def ingest(self, agent: str, commit: str) -> Admitted: ...


class Proposals:
    """All proposals of one hive."""

    def __init__(self, agents: Agents, decisions: Fanout[AnyDecision], settings: PrivdSettings) -> None:
        self._agents = agents
        self._decisions = decisions
        self._settings = settings
        self._shown: dict[str, Shown] = {}
        """By digest, oldest first."""
        self._refused: deque[tuple[int, str, str]] = deque(maxlen=REFUSED_MAX)
        """What could not be taken in: when, for which agent, by whom."""

    async def propose(self, asked: Propose, by: str) -> Proposal:
        """Take a commit in and pin it. An identical open proposal is answered instead."""
        agent, kind = asked.agent, asked.kind
        policy.check_kind(agent, kind, self._agents.standing(agent), has_commit=asked.commit is not None)
        ledger = self._agents.ledger(agent)
        async with ledger.turn:
            base = self._agents.base(agent)
            if asked.commit is not None and (found := self._twin(ledger, kind, base, commit=asked.commit)):
                return found
            self._check_room(ledger, by)
            try:
                commit, tree = await self._taken_in(ledger, asked)
                if asked.commit is None and (found := self._twin(ledger, kind, base, tree=tree)):
                    return found
                summary = await self._summary(agent, commit, base)
            except Refused:
                self._refused.append((now_ms(), agent, by))
                raise
            return await self._pin(ledger, asked, by, commit, tree, base, summary)

    def _check_room(self, ledger: Ledger, by: str) -> None:
        """Refused(limit) for too many proposals, those counted that were refused since privd started."""
        agent, at_ms, ledgers = ledger.agent, now_ms(), tuple(self._agents.ledgers())
        refused = [each for each in self._refused if at_ms - each[0] < HOUR_MS]
        is_new = ledger not in ledgers and self._agents.standing(agent) is Standing.NOBODY
        policy.check_room(
            agent,
            self._open_in_hive(),
            proposed_within(ledger.tags, at_ms) + sum(agent == each for _, each, _ in refused),
            sum(proposed_within(each.tags, at_ms, by=by) for each in ledgers)
            + sum(by == each for _, _, each in refused),
            sum(self._is_only_asked(each, by) for each in ledgers) if is_new else 0,
        )

    def _is_only_asked(self, ledger: Ledger, by: str | None = None) -> bool:
        """Whether a name never was an agent's."""
        nobody = self._agents.standing(ledger.agent) is Standing.NOBODY
        return nobody and is_only_asked(ledger.tags, by)

    async def _taken_in(self, ledger: Ledger, asked: Propose) -> tuple[str, str]:
        """Commit and tree of what is proposed, among the objects of the applied repository."""
        if asked.commit is None:
            return await self._from_template(ledger, asked)
        admitted = await self._agents.ingest(asked.agent, asked.commit)
        return admitted.commit, admitted.tree

    async def _pin(
        self,
        ledger: Ledger,
        asked: Propose,
        by: str,
        commit: str,
        tree: str,
        base: str | None,
        summary: tuple[CapabilityChange, ...],
    ) -> Proposal:
        at_ms, number = now_ms(), ledger.record().next_number
        document = Asked(
            kind=asked.kind,
            commit=commit,
            tree=tree,
            base=base,
            by=by,
            description=asked.description,
            proposed_ms=at_ms,
            expires_ms=at_ms + self._settings.proposal_days * DAY_MS,
            capabilities=summary,
        )
        await ledger.write(Mark.PROPOSAL, number, commit, document, at_ms)
        return self._told(ledger, number)

    async def _from_template(self, ledger: Ledger, asked: Propose) -> tuple[str, str]:
        """A commit of the hive's own: what a kept agent had, or a role's template."""
        files = await ledger.work(lambda applied: self._beginning(applied, asked))
        objects = tree_of(files)
        commit = commit_of(objects[-1].id, (), f"Begin {asked.agent}", now_ms() // 1000)
        ledger.applied.make()
        await ledger.work(lambda applied: applied.put((*objects, commit)))
        return commit.id, objects[-1].id

    def _beginning(self, applied: Applied, asked: Propose) -> dict[str, bytes]:
        """Files that say settings for this agent."""
        main, ground = applied.main(), self._agents.ground(asked.agent)
        fresh = asked.template or asked.runner or asked.model
        if self._agents.standing(asked.agent) is Standing.KEPT and main is not None and not fresh:
            files = contents.files(applied, main)
        else:
            files = templates.files(asked.agent, asked.template, nixos=ground.nixos)
        said = [
            f'{name} = "{value}"\n'
            for name, value in (("runner", asked.runner), ("model", asked.model))
            if value is not None
        ]
        files[FILE] = "".join(said).encode() + files[FILE]
        read_settings(files, ground)
        return files

    async def _summary(self, agent: str, commit: str, base: str | None) -> tuple[CapabilityChange, ...]:
        """What a commit would change in what the agent may or has."""
        after, nixos = await self._agents.read(agent, commit), self._agents.ground(agent).nixos
        old = await self._agents.ledger(agent).work(lambda applied: contents.files(applied, base))
        systems = (text_of(old) if nixos else "", after.system)
        return changes(self._settings_now(agent), after.settings, after.warnings, systems)

    async def withdraw(self, agent: str, number: int, by: str) -> Proposal:
        """Take an open proposal back. Only the operator may take back what somebody else proposed."""
        if by not in {OPERATOR, (whose := self.find(agent, number).by)}:
            raise Refused(Problem.DENIED, f"proposal {number} of {agent} is the {whose}'s, not yours")
        return await self._end(agent, number, ProposalState.WITHDRAWN, by, "")

    async def deny(self, agent: str, number: int, reason: str) -> Proposal:
        """The operator's no."""
        return await self._end(agent, number, ProposalState.DENIED, OPERATOR, reason)

    async def forget(self, agent: str) -> None:
        """End what is open of an agent that is no more. What was decided stays in its record, whatever comes next."""
        for each in tuple(self._open(self._agents.ledger(agent))):
            await self._end(agent, each.number, ProposalState.WITHDRAWN, OPERATOR, f"{agent} was purged")

    async def expire(self) -> None:
        """End everything whose time is over."""
        for ledger in self._agents.ledgers():
            for each in tuple(self._open(ledger)):
                if now_ms() >= each.expires_ms:
                    async with self._agents.audit.effect("expire", each.agent, each.number):
                        await self._end(each.agent, each.number, ProposalState.EXPIRED, "privd", "")
            await ledger.tidy(now_ms(), self._settings.ended_days * DAY_MS)
            await self._forget_name(ledger)

    async def _forget_name(self, ledger: Ledger) -> None:
        """Remove what is left of a name that never was an agent's, and was asked for long ago."""
        async with ledger.turn:
            end_ms, keep_ms = ended_ms(ledger.tags), self._settings.ended_days * DAY_MS
            if end_ms is not None and now_ms() - end_ms > keep_ms and self._is_only_asked(ledger):
                await self._agents.repositories.remove(ledger)

    async def _end(self, agent: str, number: int, end: ProposalState, by: str, reason: str) -> Proposal:
        ledger = self._agents.ledger(agent)
        async with ledger.turn:
            proposal, at_ms = self.find(agent, number), now_ms()
            if proposal.state is not ProposalState.OPEN:
                raise Refused(Problem.CONFLICT, f"proposal {number} of {agent} is {proposal.state} already")
            document = Denied(end, at_ms, by, reason, ledger.asked(number))
            await ledger.write(Mark.DENIED, number, proposal.commit, document, at_ms)
            await ledger.tidy(at_ms, self._settings.ended_days * DAY_MS)
            return self._told(ledger, number)

    async def show(self, agent: str, number: int) -> ProposalPage:
        """Everything that is needed to decide, and a document that may be approved once if that is all."""
        ledger, proposal = self._agents.ledger(agent), self.find(agent, number)
        base = self._agents.base(agent)
        diff = await difference(self._agents.boxes, ledger.applied, base, proposal.commit)
        summary = await self._summary(agent, proposal.commit, base)
        if proposal.state is not ProposalState.OPEN:
            return ProposalPage(proposal, base, diff, "", "", "")
        row = msgspec.structs.replace(proposal, capabilities=summary)
        entitled = self._agents.approvers.entitled()
        if any(file.cut for file in diff):
            return ProposalPage(row, base, diff, "", "", "", entitled)
        host = os.uname().nodename
        shown = policy.show(
            proposal,
            base,
            hive=self._settings.state,
            host=host,
            nonce=new_key(),
            now_ms=now_ms(),
            systems=self._pinned(),
        )
        while len(self._shown) >= SHOWN_MAX:
            del self._shown[next(iter(self._shown))]
        self._shown[shown.digest] = shown
        return ProposalPage(row, base, diff, shown.text, shown.digest, shown.code, entitled)

    async def approve(
        self,
        agent: str,
        number: int,
        digest: str,
        proof: AnyProof,
        uid: int,
        check_idle: Callable[[str], None],
    ) -> Proposal:
        """The operator's yes, written down: a deployment may begin, and nothing else of the agent's is under way.

        The proposal stays open while another key must agree. Refused(denied) for a proof that does not hold.
        """
        ledger = self._agents.ledger(agent)
        async with ledger.turn:
            check_idle(agent)
            proposal, at_ms = self.find(agent, number), now_ms()
            policy.check_open(proposal, at_ms)
            policy.check_kind(
                agent,
                proposal.kind,
                self._agents.standing(agent),
                has_commit=proposal.kind is not ProposalKind.INIT
                and self._agents.standing(agent) is not Standing.NOBODY,
            )
            base = self._agents.base(agent)
            shown = policy.check_shown(self._shown.get(digest), proposal, base, at_ms, self._pinned())
            word = self._word(shown, proof, uid, at_ms)
            required = self._settings.approvers_required
            words = proofs.joined(await self._agreed(ledger, number, base), word, required)
            del self._shown[digest]
            if proofs.is_enough(words, required):
                approved = Approved(at_ms, words)
                await ledger.write(Mark.APPROVED, number, proposal.commit, approved, at_ms)
            else:
                await ledger.write(Mark.AGREED, number, proposal.commit, Agreed(word), at_ms)
            return self._told(ledger, number)

    def _word(self, shown: Shown, proof: AnyProof, uid: int, at_ms: int) -> Word:
        """One approver's yes, proven."""
        known = self._agents.approvers.rows()
        proofs.check_terminal(proof, uid, os.geteuid(), known, self._settings.approvers_required)
        approver = proofs.check(shown.text, proof, known, self._settings.passkey_origins)
        return Word(at_ms, shown.text, proof, approver)

    async def _agreed(self, ledger: Ledger, number: int, base: str | None) -> Word | None:
        """The first of two words, as long as it counts."""
        word = agreed_of(ledger.tags, number)
        if word is None or proofs.counts_still(word, base, self._agents.approvers.entitled(), self._pinned()):
            return word
        await ledger.drop(Mark.AGREED, number)
        return None

    def _pinned(self) -> dict[str, str] | UnsetType:
        """What systems are built from, as documents say it."""
        return self._agents.systems.pinned() or UNSET

    def find(self, agent: str, number: int) -> Proposal:
        """One proposal. Refused(not_found) when there is none."""
        found = self._agents.ledger(agent).record().proposals.get(number)
        if found is None:
            raise Refused(Problem.NOT_FOUND, f"{agent} has no proposal {number}")
        return found

    def rows(self, agent: str | None, limit: int, *, ended: bool) -> tuple[Proposal, ...]:
        """Proposals, newest first, as many as fit in a page."""
        ledgers = self._agents.ledgers() if agent is None else (self._agents.ledger(agent),)
        found = [each for ledger in ledgers for each in self._records(ledger).values()]
        wanted = [each for each in found if ended or each.state is ProposalState.OPEN]
        wanted.sort(key=lambda each: (each.proposed_ms, each.agent, each.number), reverse=True)
        return fitting([brief(each) for each in wanted[:limit]])

    def _records(self, ledger: Ledger) -> Mapping[int, Proposal]:
        return ledger.record().proposals

    def _open(self, ledger: Ledger) -> Iterable[Proposal]:
        return (each for each in self._records(ledger).values() if each.state is ProposalState.OPEN)

    def _open_in_hive(self) -> int:
        return sum(1 for ledger in self._agents.ledgers() for _ in self._open(ledger))

    def _twin(
        self, ledger: Ledger, kind: ProposalKind, base: str | None, *, commit: str = "", tree: str = ""
    ) -> Proposal | None:
        return policy.twin(self._open(ledger), kind, base, commit=commit, tree=tree)

    def _settings_now(self, agent: str) -> AgentSettings | None:
        """What an agent lives by; None where it does not live."""
        living = self._agents.standing(agent) is Standing.LIVING
        return self._agents.keeper(agent).record.settings if living else None

    def _told(self, ledger: Ledger, number: int) -> Proposal:
        row = ledger.record().proposals[number]
        self._decisions.publish(ProposalChanged(brief(row)))
        return brief(row)
