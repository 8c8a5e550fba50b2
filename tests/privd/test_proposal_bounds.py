"""What proposals may cost root: refused ones leave nothing, and names without an agent are counted and forgotten."""

import gc
import random
from pathlib import Path

import pytest

from privd.handlers import deployments
from privd.policy.proposals import DAY_MS, PROPOSALS_OF_CALLER_PER_HOUR_MAX
from privd.repositories import GONE
from protocol.approvals import ProposalKind, ProposalState
from protocol.configuration import Deny, ListProposals, Propose, ShowProposal, WithdrawProposal
from protocol.limits import DESCRIPTION_CHARS_MAX, PROPOSALS_OPEN_MAX, PROPOSALS_PER_HOUR_MAX
from protocol.problem import Problem, Refused
from protocol.rpc import Request
from runtime.clock import now_ms
from tests.support.configuring import MANAGER, OPERATOR, Desk, commit_in, desk, ground

pytestmark = [pytest.mark.anyio, pytest.mark.root, pytest.mark.cage]


def held(folder: Path) -> set[Path]:
    """Everything in a folder that takes room."""
    return {each.relative_to(folder) for each in folder.rglob("*")}


async def refusal(at: Desk, request: Request, caller: object = MANAGER) -> Refused:
    with pytest.raises(Refused) as refused:
        await at.ask(request, caller)  # type: ignore[arg-type]  # any request
    return refused.value


async def withdrawn(at: Desk, agent: str) -> None:
    proposal = await at.propose(agent, ProposalKind.INIT)
    await at.ask(WithdrawProposal(agent, proposal.number), MANAGER)


async def test_a_configuration_that_is_refused_leaves_nothing_and_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = 4
    assert most < PROPOSALS_PER_HOUR_MAX
    monkeypatch.setattr("privd.policy.proposals.PROPOSALS_PER_HOUR_MAX", most)
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            applied, repository = place / "applied" / "iris.git", at.config("iris")
            before = held(applied)
            (repository.folder / "notes.md").write_text(random.randbytes(100_000).hex())
            repository.git("add", "notes.md")
            for count in range(most - 1):
                commit = commit_in(repository, f"bogus = {count}\n")
                said = await refusal(at, Propose("iris", ProposalKind.CONFIG, commit))
                assert "agent.toml: bogus" in said.detail
                assert held(applied) == before
            commit = commit_in(repository, "bogus = 0\n")
            said = await refusal(at, Propose("iris", ProposalKind.CONFIG, commit))
            assert said.problem is Problem.LIMIT
            assert f"{most} proposals within an hour" in said.detail


async def test_a_beginning_that_is_refused_leaves_nothing() -> None:
    with ground() as place:
        async with desk(place) as at:
            said = await refusal(at, Propose("iris", ProposalKind.SPAWN, template="none"))
            assert said.problem is Problem.NOT_FOUND
            said = await refusal(at, Propose("iris", ProposalKind.SPAWN, runner="claude"))  # type: ignore[arg-type]  # its word
            assert "this hive has no Claude Code" in said.detail
            assert not (place / "applied" / "iris.git").exists()


async def test_a_caller_has_so_many_in_an_hour_under_whatever_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PROPOSALS_OF_CALLER_PER_HOUR_MAX > 3
    monkeypatch.setattr("privd.policy.proposals.PROPOSALS_OF_CALLER_PER_HOUR_MAX", 3)
    with ground() as place:
        async with desk(place) as at:
            for name in ("a", "b"):
                await withdrawn(at, name)
        async with desk(place) as at:
            await refusal(at, Propose("c", ProposalKind.SPAWN, template="none"))
            said = await refusal(at, Propose("d", ProposalKind.INIT))
            assert (said.problem, "for all agents" in said.detail) == (Problem.LIMIT, True)
            await at.ask(Propose("d", ProposalKind.INIT), OPERATOR)
            soon = now_ms() + 3_600_001
            monkeypatch.setattr("privd.proposals.now_ms", lambda: soon)
            await withdrawn(at, "e")


async def test_names_that_became_no_agents_are_counted_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privd.policy.proposals.NAMES_ONLY_ASKED_MAX", 2)
    with ground() as place:
        async with desk(place) as at:
            await at.spawned("iris")
            await withdrawn(at, "a")
            await withdrawn(at, "b")
            said = await refusal(at, Propose("c", ProposalKind.INIT))
            assert (said.problem, "none became an agent" in said.detail) == (Problem.LIMIT, True)
            await withdrawn(at, "b")
            await at.ask(Propose("d", ProposalKind.INIT), OPERATOR)
            late = now_ms() + (at.host.settings.ended_days + 1) * DAY_MS
            monkeypatch.setattr("privd.proposals.now_ms", lambda: late)
            await at.host.proposals.expire()
            assert {each.name for each in (place / "applied").iterdir()} == {"iris.git", "d.git"}
            assert [ledger.agent for ledger in at.host.ledgers()] == ["d", "iris"]
            await withdrawn(at, "c")
            assert (await at.propose("b", ProposalKind.INIT)).number == 1, "its record began anew"


async def test_a_removal_that_was_cut_short_is_finished() -> None:
    with ground() as place:
        async with desk(place) as at:
            await withdrawn(at, "a")
        (place / "applied" / "a.git").rename(place / "applied" / f"a{GONE}")
        async with desk(place) as at:
            assert list((place / "applied").iterdir()) == []
            assert (await at.propose("a", ProposalKind.INIT)).number == 1


async def test_a_name_that_is_only_asked_for_is_not_remembered() -> None:
    with ground() as place:
        async with desk(place) as at:
            await withdrawn(at, "otto")
            for number in range(500):
                assert await at.ask(ListProposals(f"x{number}")) == ()
            for request in (
                ShowProposal("x0", 1),
                WithdrawProposal("x0", 1),
                Deny("x0", 1),
                Propose("x0", ProposalKind.CONFIG, "c" * 40),
            ):
                assert (await refusal(at, request)).problem is Problem.NOT_FOUND
            gc.collect()
            repositories = at.host.repositories
            assert [*repositories._ledgers, *repositories._blank] == ["otto"]


async def test_only_the_operator_takes_back_what_the_operator_proposed() -> None:
    with ground() as place:
        async with desk(place) as at:
            proposal = await at.ask(Propose("iris", ProposalKind.SPAWN), OPERATOR)
            said = await refusal(at, WithdrawProposal("iris", proposal.number))
            assert (said.problem, said.detail) == (
                Problem.DENIED,
                "proposal 1 of iris is the operator's, not yours",
            )
            row = await at.ask(WithdrawProposal("iris", proposal.number), OPERATOR)
            assert row.state is ProposalState.WITHDRAWN
            mine = await at.propose("iris", ProposalKind.SPAWN)
            assert (await at.ask(WithdrawProposal("iris", mine.number), OPERATOR)).state is row.state


async def test_a_page_lists_all_that_wait_however_long_they_are_described() -> None:
    with ground() as place:
        async with desk(place) as at:
            for number in range(PROPOSALS_OPEN_MAX):
                await at.propose(f"x{number}", ProposalKind.INIT, description="界" * DESCRIPTION_CHARS_MAX)
            assert len(await at.ask(ListProposals())) == PROPOSALS_OPEN_MAX
            assert len(deployments.now(at.host).proposals) == PROPOSALS_OPEN_MAX
            page = await at.ask(ShowProposal("x0", 1))
            assert page.proposal.description == "界" * DESCRIPTION_CHARS_MAX
