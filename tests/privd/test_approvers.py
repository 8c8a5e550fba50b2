"""Keys that decide, in a privd: enrolled by root, asked for from the first one on, by two where two must agree."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from privd.approvers import NAME, Approvers
from privd.handlers import approvers as handlers
from privd.handlers import deployments
from privd.handlers import proposals as verdicts
from privd.policy.proofs import check_approved
from privd.policy.record import Deployed, Mark
from protocol.approvals import (
    Approver,
    AtTerminal,
    Click,
    Deployment,
    DeploymentState,
    Proposal,
    ProposalKind,
    ProposalState,
    SshKey,
)
from protocol.configuration import (
    DecisionsNow,
    Deny,
    EnrolApprover,
    ListApprovers,
    RevokeApprover,
    RollBack,
)
from protocol.names import MANAGER_NAME
from protocol.problem import Problem, Refused
from protocol.rpc import Caller, Role
from tests.support.approvers import ORIGIN, Authenticator, SshSigner
from tests.support.configuring import OPERATOR, Desk, desk, ground, toml

pytestmark = [pytest.mark.anyio, pytest.mark.root, pytest.mark.cage]
Signer = SshSigner | Authenticator
Act = Callable[[], Awaitable[Any]]
TWO: Final[dict[str, Any]] = {"approvers_required": 2, "passkey_origins": (ORIGIN,)}


async def enrol(at: Desk, name: str, signer: Signer) -> Approver:
    return await handlers.enrol(EnrolApprover(name, signer.key), OPERATOR, at.host)


async def sign(at: Desk, proposal: Proposal, signer: Signer) -> Deployment | None:
    page = await at.show(proposal)
    return (await at.prove(proposal, page, signer.sign(page.document))).deployment


async def commit(at: Desk, host: str) -> Proposal:
    text = toml(at.host, "iris", egress_hosts=(host,))
    return await at.propose("iris", commit=at.commit("iris", text))


def row(at: Desk, proposal: Proposal) -> Proposal:
    return at.host.ledger(proposal.agent).record().proposals[proposal.number]


async def refused(at: Desk, proposal: Proposal, signer: Signer | Click | AtTerminal) -> Refused:
    page = await at.show(proposal)
    proof = signer if isinstance(signer, Click | AtTerminal) else signer.sign(page.document)
    with pytest.raises(Refused) as caught:
        await at.prove(proposal, page, proof)
    return caught.value


async def test_only_root_says_whose_keys_decide(tmp_path: Path) -> None:
    somebody = Caller(Role.OPERATOR, os.geteuid() + 1)
    with ground() as place:
        async with desk(place) as at:
            key = SshSigner(tmp_path).key
            acts: tuple[Act, ...] = (
                lambda: handlers.enrol(EnrolApprover("anna", key), somebody, at.host),
                lambda: handlers.revoke(RevokeApprover("anna"), somebody, at.host),
            )
            for act in acts:
                with pytest.raises(Refused, match="only root says whose keys decide") as caught:
                    await act()
                assert caught.value.problem is Problem.DENIED
            assert await handlers.list_approvers(ListApprovers(), OPERATOR, at.host) == ()
            assert at.host.approvers.is_click_enough


async def test_keys_last_and_are_never_forgotten(tmp_path: Path) -> None:
    first, second = SshSigner(tmp_path, "zoe"), SshSigner(tmp_path, "anna")
    with ground() as place:
        async with desk(place) as at:
            zoe, anna = await enrol(at, "zoe", first), await enrol(at, "anna", second)
            gone = await handlers.revoke(RevokeApprover("zoe"), OPERATOR, at.host)
            assert gone.revoked_ms is not None
            assert await handlers.revoke(RevokeApprover("zoe"), OPERATOR, at.host) == gone
            faults: tuple[tuple[Act, Problem], ...] = (
                (lambda: enrol(at, "zoe", SshSigner(tmp_path, "new")), Problem.CONFLICT),
                (lambda: enrol(at, "other", first), Problem.CONFLICT),
                (lambda: handlers.revoke(RevokeApprover("bert"), OPERATOR, at.host), Problem.NOT_FOUND),
                (
                    lambda: handlers.enrol(EnrolApprover("x", SshKey("ssh-rsa A")), OPERATOR, at.host),
                    Problem.MALFORMED,
                ),
            )
            for act, problem in faults:
                with pytest.raises(Refused) as caught:
                    await act()
                assert caught.value.problem is problem
        async with desk(place) as at:
            rows = await handlers.list_approvers(ListApprovers(), OPERATOR, at.host)
            assert rows == (anna, msgspec.structs.replace(zoe, revoked_ms=gone.revoked_ms))
            assert at.host.approvers.entitled() == (anna,)


async def test_watchers_hear_that_no_click_is_enough_any_more(tmp_path: Path) -> None:
    with ground() as place:
        async with desk(place) as at:
            assert deployments.now(at.host) == DecisionsNow((), (), click=True)
            with at.host.decisions.subscribed() as told:
                await enrol(at, "anna", SshSigner(tmp_path))
                await handlers.revoke(RevokeApprover("anna"), OPERATOR, at.host)
                assert told.take_waiting(9) == [DecisionsNow((), (), click=False)] * 2


@pytest.mark.parametrize("signer", ["ssh", "passkey"])
async def test_a_key_decides_and_its_proof_is_kept_whole(tmp_path: Path, signer: str) -> None:
    with ground() as place:
        async with desk(place, passkey_origins=(ORIGIN,)) as at:
            proposal = await at.propose("iris", ProposalKind.SPAWN)
            assert (await at.show(proposal)).approvers == ()
            key: Signer = SshSigner(tmp_path) if signer == "ssh" else Authenticator()
            anna = await enrol(at, "anna", key)
            assert (await at.show(proposal)).approvers == (anna,)
            assert (await refused(at, proposal, Click())).problem is Problem.DENIED
            begun = await sign(at, proposal, key)
            assert begun is not None
            assert (await at.healthy(begun)).state is DeploymentState.DEPLOYED
            assert row(at, proposal).proof == f"{signer} anna"
        async with desk(place) as at:
            document = at.host.ledger("iris").tags[Mark.DEPLOYED, 1]
            assert isinstance(document, Deployed)
            assert (document.asked is not None, document.approved is not None) == (True, True)
            check_approved("iris", 1, document.asked, document.approved, at.host.approvers.rows())  # type: ignore[arg-type] # said above
            assert document.approved.words[0].approver == anna  # type: ignore[union-attr] # the same


async def test_root_at_its_terminal_needs_no_key_where_one_is_enough(tmp_path: Path) -> None:
    with ground() as place:
        async with desk(place) as at:
            await enrol(at, "anna", SshSigner(tmp_path))
            proposal = await at.propose("iris", ProposalKind.INIT)
            await at.ended(await at.approve_at_terminal(proposal, os.geteuid()))
            assert row(at, proposal).proof == "terminal"


async def test_a_revoked_key_decides_nothing_and_no_click_comes_back(tmp_path: Path) -> None:
    with ground() as place:
        async with desk(place) as at:
            signer = SshSigner(tmp_path)
            await enrol(at, "anna", signer)
            proposal = await at.propose("iris", ProposalKind.SPAWN)
            page = await at.show(proposal)
            proof = signer.sign(page.document)
            await handlers.revoke(RevokeApprover("anna"), OPERATOR, at.host)
            with pytest.raises(Refused, match="was revoked"):
                await at.prove(proposal, page, proof)
            assert (await refused(at, proposal, Click())).problem is Problem.DENIED
            assert (await at.show(proposal)).approvers == ()


async def test_two_keys_agree_across_a_restart(tmp_path: Path) -> None:
    anna, bert = SshSigner(tmp_path, "anna"), Authenticator()
    with ground() as place:
        async with desk(place, **TWO) as at:
            await enrol(at, "anna", anna)
            await enrol(at, "bert", bert)
            proposal = await at.propose("iris", ProposalKind.SPAWN)
            assert await sign(at, proposal, anna) is None
            assert (row(at, proposal).state, row(at, proposal).approvals) == (ProposalState.OPEN, ("anna",))
            assert (await refused(at, proposal, anna)).problem is Problem.CONFLICT
            assert (await refused(at, proposal, AtTerminal())).problem is Problem.DENIED
            assert len(at.backend.cages) == 0
        async with desk(place, **TWO) as at:
            assert row(at, proposal).approvals == ("anna",)
            begun = await sign(at, proposal, bert)
            assert begun is not None
            assert (await at.healthy(begun)).state is DeploymentState.DEPLOYED
            assert row(at, proposal).proof == "ssh anna, passkey bert"
            document = at.host.ledger("iris").tags[Mark.DEPLOYED, 1]
            assert isinstance(document, Deployed)
            check_approved("iris", 1, document.asked, document.approved, at.host.approvers.rows())  # type: ignore[arg-type] # it was proposed


async def test_the_first_word_is_void_when_the_base_moves_or_its_key_goes(tmp_path: Path) -> None:
    anna, bert, carl = (SshSigner(tmp_path, name) for name in ("anna", "bert", "carl"))
    with ground() as place:
        async with desk(place, **TWO) as at:
            await at.spawned(MANAGER_NAME)
            await at.spawned("iris")
            one, other = await commit(at, "one.example"), await commit(at, "other.example")
            for name, signer in (("anna", anna), ("bert", bert), ("carl", carl)):
                await enrol(at, name, signer)
            assert await sign(at, one, anna) is None
            assert await sign(at, other, anna) is None
            begun = await sign(at, other, bert)
            assert begun is not None
            await at.healthy(begun)
            assert await sign(at, one, bert) is None, "what anna has seen is not what it would change now"
            assert row(at, one).approvals == ("bert",)
            await handlers.revoke(RevokeApprover("bert"), OPERATOR, at.host)
            assert await sign(at, one, anna) is None
            assert row(at, one).approvals == ("anna",)
            begun = await sign(at, one, carl)
            assert begun is not None
            assert (await at.healthy(begun)).state is DeploymentState.DEPLOYED
            assert row(at, one).proof == "ssh anna, ssh carl"
            assert at.host.keeper("iris").row().settings.egress_hosts == ("one.example",)


async def test_one_word_of_two_can_be_denied(tmp_path: Path) -> None:
    anna = SshSigner(tmp_path)
    with ground() as place:
        async with desk(place, **TWO) as at:
            await enrol(at, "anna", anna)
            proposal = await at.propose("iris", ProposalKind.SPAWN)
            assert await sign(at, proposal, anna) is None
            await verdicts.deny(Deny("iris", 1, "no"), OPERATOR, at.host)
            assert sorted(mark for mark, _ in at.host.ledger("iris").tags) == [Mark.DENIED]


async def test_a_rollback_needs_a_click_alone(tmp_path: Path) -> None:
    """What it makes live was approved before; whatever else is wanted goes through an approval."""
    signer = SshSigner(tmp_path)
    with ground() as place:
        async with desk(place) as at:
            await at.spawned(MANAGER_NAME)
            await at.spawned("iris")
            await at.healthy(await at.approve(await commit(at, "one.example")))
            await enrol(at, "anna", signer)
            ended = await at.healthy(await deployments.roll_back(RollBack("iris", 1), OPERATOR, at.host))
            assert (ended.state, ended.of) == (DeploymentState.DEPLOYED, 1)
            with pytest.raises(Refused, match="no generation 9"):
                await deployments.roll_back(RollBack("iris", 9), OPERATOR, at.host)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'[{"name":"Anna"}]'])
async def test_a_list_that_cannot_be_read_approves_nothing(content: bytes) -> None:
    with ground() as place:
        (place / NAME).write_bytes(content)
        async with desk(place) as at:
            assert not at.host.approvers.is_click_enough
            proposal = await at.propose("iris", ProposalKind.SPAWN)
            with pytest.raises(Refused, match="nothing is approved") as caught:
                await at.show(proposal)
            assert caught.value.problem is Problem.FAILED
            assert (place / NAME).read_bytes() == content


async def test_a_list_that_cannot_be_written_stays_as_it_is(tmp_path: Path) -> None:
    with ground() as place:
        store = Approvers(place / "none")
        assert store.load() == ""
        with pytest.raises(Refused, match="nothing was changed"):
            store.enrol("anna", SshSigner(tmp_path).key, 1)
        assert store.rows() == ()
