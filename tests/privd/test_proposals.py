"""Proposals over real repositories: pinned, shown, decided once, told, bounded."""

import os

import pytest
import trio

from privd.handlers import history
from privd.handlers import proposals as verdicts
from privd.policy.proposals import DAY_MS
from protocol.approvals import ProposalKind, ProposalState
from protocol.configuration import (
    Deny,
    ListProposals,
    ListRefs,
    ProposalChanged,
    ReadFile,
    ReadLog,
    WithdrawProposal,
)
from protocol.limits import PROPOSALS_OPEN_MAX
from protocol.names import MANAGER_NAME
from protocol.problem import Problem, Refused
from runtime.clock import now_ms
from tests.support.configuring import MANAGER, OPERATOR, Desk, desk, ground, toml

pytestmark = [pytest.mark.anyio, pytest.mark.root, pytest.mark.cage]


async def listed(at: Desk, *, ended: bool = False) -> list[tuple[str, int, ProposalState]]:
    rows = await verdicts.list_proposals(ListProposals(ended=ended), OPERATOR, at.host)
    return [(row.agent, row.number, row.state) for row in rows]


async def test_a_commit_is_pinned_and_shown_whole() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned(MANAGER_NAME)
            await at.spawned("iris")
            commit = at.commit(
                "iris", toml(at.host, "iris", model="opus", egress_hosts=("packages.example",))
            )
            proposal = await at.propose("iris", commit=commit, description="a better model")
            assert (proposal.number, proposal.state, proposal.by) == (2, ProposalState.OPEN, "manager")
            assert proposal.base == at.host.repositories.applied("iris").main()
            again = await at.propose("iris", commit=commit, description="once more")
            assert again == proposal, "an identical one is the same one"
            at.commit("iris", "model = 'haiku'\n")
            at.config("iris").git("update-ref", "-d", "refs/heads/main")
            page = await at.show(proposal)
            (file,) = page.diff
            assert ("+", 'model = "opus"') in [(line.kind, line.text) for line in file.lines]
            assert [(each.subject, each.notable) for each in page.proposal.capabilities] == [
                ("connects to packages.example", True),
                ("model", False),
            ]
            assert page.current_base == proposal.base
            asked = ReadFile(commit, "agent.toml", "iris")
            assert b'"opus"' in (await history.read_file(asked, OPERATOR, at.host)).data


async def test_a_configuration_that_is_wrong_is_refused_and_leaves_no_proposal() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            for text, words in (
                ("modell = 'opus'", "agent.toml: modell"),
                ("[environment]\nA = 'sk-ant-api03-" + "a" * 20 + "'", "looks like an API key"),
            ):
                commit = at.commit("iris", text)
                with pytest.raises(Refused, match=words):
                    await at.propose("iris", commit=commit)
            repository = at.config("iris")
            repository.git("rm", "-q", "agent.toml")
            (repository.folder / "other").write_text("x")
            repository.git("add", "other")
            repository.git("commit", "-qm", "none")
            with pytest.raises(Refused, match=r"agent\.toml: the file is missing"):
                await at.propose("iris", commit=repository.git("rev-parse", "HEAD"))
            assert await listed(at) == []


async def test_a_denial_has_its_reason_and_is_told_once() -> None:
    with ground() as place:
        async with desk(place) as at:
            proposal = await at.propose("iris", ProposalKind.SPAWN, template="reviewer")
            with at.host.decisions.subscribed() as told:
                row = await verdicts.deny(Deny("iris", 1, "not now"), OPERATOR, at.host)
                (event,) = told.take_waiting(9)
            assert event == ProposalChanged(row)
            assert (row.state, row.reason) == (ProposalState.DENIED, "not now")
            for act in (
                lambda: verdicts.deny(Deny("iris", 1), OPERATOR, at.host),
                lambda: verdicts.withdraw(WithdrawProposal("iris", 1), MANAGER, at.host),
                lambda: at.approve(proposal, None),
            ):
                with pytest.raises(Refused) as refused:
                    await act()
                assert refused.value.problem is Problem.CONFLICT
            assert await listed(at) == []
            assert await listed(at, ended=True) == [("iris", 1, ProposalState.DENIED)]


async def test_a_proposal_can_be_taken_back_or_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.propose("iris", ProposalKind.SPAWN)
            row = await verdicts.withdraw(WithdrawProposal("iris", 1), MANAGER, at.host)
            assert row.state is ProposalState.WITHDRAWN
            proposal = await at.propose("iris", ProposalKind.SPAWN)
            page = await at.show(proposal)
            later = now_ms() + 8 * DAY_MS
            monkeypatch.setattr("privd.proposals.now_ms", lambda: later)
            with pytest.raises(Refused, match="has expired"):
                await at.approve(proposal, page)
            await at.host.proposals.expire()
            assert await listed(at, ended=True) == [
                ("iris", 2, ProposalState.EXPIRED),
                ("iris", 1, ProposalState.WITHDRAWN),
            ]


async def test_the_record_is_read_from_tags_alone() -> None:
    """Another privd knows the same; git reads it too."""
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            await at.propose("otto", ProposalKind.INIT)
            await verdicts.deny(Deny("otto", 1, "no"), OPERATOR, at.host)
            await at.propose("otto", ProposalKind.INIT, template="triage")
            before = [ledger.record() for ledger in at.host.ledgers()]
        async with desk(place) as at:
            assert [ledger.record() for ledger in at.host.ledgers()] == before
            names = [ref.name for ref in await history.list_refs(ListRefs("otto"), OPERATOR, at.host)]
            assert names == ["proposal/2", "denied/1"]
            (entry, *_) = await history.read_log(ReadLog("iris"), OPERATOR, at.host)
            assert entry.tags == ("deployed/1",)
            assert entry.subject == "Deploy spawn of iris"
            (meta,) = await history.read_log(ReadLog(), OPERATOR, at.host)
            assert meta.subject == "Deploy spawn of iris"


async def test_a_record_that_cannot_be_read_stops_nobody_else() -> None:
    with ground() as place:
        async with desk(place) as at:
            await at.propose("iris", ProposalKind.SPAWN)
        (place / "applied" / "iris.git" / "refs" / "tags" / "proposal" / "1").write_text("0" * 40)
        async with desk(place) as at:
            with pytest.raises(Refused, match="the record of iris cannot be read"):
                await at.propose("iris", ProposalKind.SPAWN)
            await at.propose("otto", ProposalKind.SPAWN)


async def test_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with ground() as place:
        async with desk(place) as at:
            monkeypatch.setattr("privd.policy.proposals.PROPOSALS_OPEN_MAX", 2)
            await at.propose("iris", ProposalKind.SPAWN)
            await at.propose("otto", ProposalKind.SPAWN)
            with pytest.raises(Refused, match="wait for the operator") as refused:
                await at.propose("anna", ProposalKind.SPAWN)
            assert refused.value.problem is Problem.LIMIT
            assert PROPOSALS_OPEN_MAX > 2


async def test_the_terminal_is_roots_alone() -> None:
    with ground() as place:
        async with desk(place) as at:
            proposal = await at.propose("iris", ProposalKind.INIT)
            with pytest.raises(Refused) as refused:
                await at.approve_at_terminal(proposal, os.geteuid() + 1)
            assert refused.value.problem is Problem.DENIED
            await at.ended(await at.approve_at_terminal(proposal, os.geteuid()))
            assert (await listed(at, ended=True)) == [("iris", 1, ProposalState.DEPLOYED)]
            assert at.host.ledger("iris").record().proposals[1].proof == "terminal"


async def test_proposals_at_once_get_numbers_of_their_own() -> None:
    with ground() as place:
        async with desk(place) as at:
            rows = []

            async def propose(role: str) -> None:
                rows.append(await at.propose("iris", ProposalKind.SPAWN, template=role))

            async with trio.open_nursery() as nursery:
                for role in ("plain", "backend", "triage", "backend"):
                    nursery.start_soon(propose, role)
            assert sorted({row.number for row in rows}) == [1, 2, 3]
