"""T9: what is approved is what was shown. Rewritten after it was proposed, over a moved base, or approved again."""

import pytest

from privd.handlers import deployments as handlers
from privd.handlers import proposals as verdicts
from protocol.approvals import Click, DeploymentState, Proposal, ProposalKind, ProposalPage
from protocol.configuration import Approve, RollBack
from protocol.names import MANAGER_NAME
from protocol.problem import Problem, Refused
from runtime.clock import now_ms
from tests.support.configuring import OPERATOR, Desk, desk, ground, toml

pytestmark = [pytest.mark.anyio, pytest.mark.root, pytest.mark.cage]


def hosts(at: Desk) -> tuple[str, ...]:
    return at.host.keeper("iris").row().settings.egress_hosts


async def refused(at: Desk, proposal: Proposal, digest: str) -> Refused:
    """The no to an approval; nothing comes of it."""
    cages, main = len(at.backend.cages), at.host.repositories.applied("iris").main()
    with pytest.raises(Refused) as caught:
        await verdicts.approve(Approve(proposal.agent, proposal.number, digest, Click()), OPERATOR, at.host)
    assert (len(at.backend.cages), at.host.repositories.applied("iris").main()) == (cages, main)
    return caught.value


async def two_proposals(at: Desk) -> tuple[Proposal, Proposal]:
    """One that is harmless, and one that is not."""
    await at.spawned(MANAGER_NAME)
    await at.spawned("iris")
    good = at.commit("iris", toml(at.host, "iris", egress_hosts=("good.example",)))
    bad = at.commit("iris", toml(at.host, "iris", egress_hosts=("evil.example",)))
    return await at.propose("iris", commit=good), await at.propose("iris", commit=bad)


async def test_a_repository_that_is_rewritten_changes_nothing() -> None:
    """Branches moved, objects replaced, the whole folder made anew: what was pinned is deployed."""
    with ground() as place:
        async with desk(place) as at:
            good, bad = await two_proposals(at)
            repository = at.config("iris")
            objects = repository.inner / "objects"
            one, other = (
                objects / each[:2] / each[2:]
                for each in (
                    repository.git("rev-parse", f"{good.commit}:agent.toml"),
                    repository.git("rev-parse", f"{bad.commit}:agent.toml"),
                )
            )
            one.chmod(0o600)
            one.write_bytes(other.read_bytes())
            repository.git("update-ref", "refs/heads/main", bad.commit)
            page = await at.show(good)
            for file in objects.rglob("*"):
                if file.is_file():
                    file.unlink()
            ended = await at.healthy(await at.approve(good, page))
            assert (ended.state, hosts(at)) == (DeploymentState.DEPLOYED, ("good.example",))


async def test_what_one_was_shown_for_approves_no_other() -> None:
    with ground() as place:
        async with desk(place) as at:
            good, bad = await two_proposals(at)
            page = await at.show(good)
            assert (await refused(at, bad, page.digest)).problem is Problem.CONFLICT
            assert (await refused(at, bad, "0" * 64)).problem is Problem.CONFLICT
            assert hosts(at) == ()
            assert (await at.healthy(await at.approve(good, page))).state is DeploymentState.DEPLOYED


async def test_an_approval_over_a_base_that_moved_is_void() -> None:
    with ground() as place:
        async with desk(place) as at:
            good, bad = await two_proposals(at)
            shown = await at.show(bad)
            await at.healthy(await at.approve(good))
            no = await refused(at, bad, shown.digest)
            assert no.problem is Problem.CONFLICT
            assert "what is deployed has changed" in no.detail
            again = await at.show(bad)
            assert again.current_base == at.host.repositories.applied("iris").main() != shown.current_base
            assert [line.text for file in again.diff for line in file.lines if line.kind == "-"] == [
                'hosts = ["good.example"]'
            ], "it is shown against what is deployed now"
            await at.healthy(await handlers.roll_back(RollBack("iris", 1), OPERATOR, at.host))
            assert (await refused(at, bad, again.digest)).problem is Problem.CONFLICT


async def test_an_approval_works_once() -> None:
    """Also when it is used again at once, and when its deployment was returned."""
    with ground() as place:
        async with desk(place) as at:
            good, bad = await two_proposals(at)
            page: ProposalPage = await at.show(good)
            ended = await at.healthy(await at.approve(good, page), "not well")
            assert ended.state is DeploymentState.RETURNED
            assert (await refused(at, good, page.digest)).problem is Problem.CONFLICT
            assert (await refused(at, bad, page.digest)).problem is Problem.CONFLICT
            again = await at.propose("iris", commit=good.commit)
            assert again.number > bad.number, "the same commit again is another proposal"
            assert (await refused(at, again, page.digest)).problem is Problem.CONFLICT


async def test_a_document_is_forgotten_with_the_privd_that_gave_it() -> None:
    with ground() as place:
        async with desk(place) as at:
            proposal = await at.propose("iris", ProposalKind.SPAWN)
            digest = (await at.show(proposal)).digest
        async with desk(place) as at:
            request = Approve("iris", proposal.number, digest, Click())
            with pytest.raises(Refused, match="was not shown, or was used already"):
                await verdicts.approve(request, OPERATOR, at.host)


async def test_a_document_is_good_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with ground() as place:
        async with desk(place) as at:
            proposal = await at.propose("iris", ProposalKind.SPAWN)
            page = await at.show(proposal)
            late = now_ms() + 601_000
            monkeypatch.setattr("privd.proposals.now_ms", lambda: late)
            with pytest.raises(Refused, match="longer ago than 600 s"):
                await at.approve(proposal, page)
