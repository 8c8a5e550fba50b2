"""The state of proposals and deployments as a function of tags alone, wherever a crash left them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privd.policy.record import (
    PASSING,
    Agreed,
    AnyDocument,
    Approved,
    Asked,
    Begun,
    Denied,
    Deployed,
    Failed,
    Mark,
    Word,
    begin,
    decode,
    derive,
    droppable,
    encode,
    ended_ms,
    generation_of,
    is_only_asked,
    proposed_within,
    tag_name,
    unfinished,
)
from protocol.approvals import (
    Approver,
    AtTerminal,
    Click,
    DeploymentKind,
    DeploymentState,
    Passkey,
    PasskeyAssertion,
    ProposalKind,
    ProposalState,
    SshKey,
    SshSignature,
)

ASKED = Asked(ProposalKind.CONFIG, "c" * 40, "t" * 40, "b" * 40, "manager", "why", 1_000, 9_000, ())
APPROVED = Approved(2_000, (Word(2_000, "{}", Click(), None),))
ANNA = Approver("anna", SshKey("ssh-ed25519 AAAA"), "SHA256:a", 500)
BERT = Approver("bert", Passkey(b"id", b"key"), "SHA256:b", 600)
FIRST = Word(1_500, "{}", SshSignature("signed"), ANNA)
SECOND = Word(2_000, "{}", PasskeyAssertion(b"id", b"said", b"data", b"\xff\x00"), BERT)
AGREED = Agreed(FIRST)
BY_TWO = Approved(2_000, (FIRST, SECOND))
BEGUN = begin(ASKED, 2_500)
DEPLOYED = Deployed(3_000, BEGUN, "l" * 64, ASKED, APPROVED)
FAILED = Failed(3_000, "it would not start", BEGUN, "l" * 64, asked=ASKED, approved=APPROVED)
CANCELLED = Failed(3_000, "cancelled", BEGUN, "l" * 64, cancelled=True, asked=ASKED, approved=APPROVED)
ROLLBACK = Begun(DeploymentKind.ROLLBACK, "r" * 40, "t" * 40, "b" * 40, 2_500, of=1)

Tags = dict[tuple[Mark, int], AnyDocument]


def denied(end: ProposalState) -> Denied:
    return Denied(end, 2_000, "operator", "no need", ASKED)


def tags(*documents: AnyDocument, number: int = 1) -> Tags:
    marks = {
        Asked: Mark.PROPOSAL,
        Agreed: Mark.AGREED,
        Approved: Mark.APPROVED,
        Denied: Mark.DENIED,
        Begun: Mark.BUILDING,
        Deployed: Mark.DEPLOYED,
        Failed: Mark.FAILED,
    }
    return {(marks[type(document)], number): document for document in documents}


@pytest.mark.parametrize(
    ("documents", "proposal", "deployment"),
    [
        ((ASKED,), ProposalState.OPEN, None),
        ((ASKED, AGREED), ProposalState.OPEN, None),
        ((ASKED, AGREED, BY_TWO), ProposalState.APPROVED, DeploymentState.WAITING),
        ((AGREED, denied(ProposalState.DENIED)), ProposalState.DENIED, None),
        ((ASKED, APPROVED), ProposalState.APPROVED, DeploymentState.WAITING),
        ((ASKED, APPROVED, BEGUN), ProposalState.APPROVED, DeploymentState.BUILDING),
        ((ASKED, APPROVED, BEGUN, DEPLOYED), ProposalState.DEPLOYED, DeploymentState.DEPLOYED),
        ((DEPLOYED,), ProposalState.DEPLOYED, DeploymentState.DEPLOYED),
        ((FAILED,), ProposalState.FAILED, DeploymentState.RETURNED),
        ((ASKED, FAILED), ProposalState.FAILED, DeploymentState.RETURNED),
        ((CANCELLED,), ProposalState.FAILED, DeploymentState.CANCELLED),
        ((ASKED, denied(ProposalState.DENIED)), ProposalState.DENIED, None),
        ((denied(ProposalState.WITHDRAWN),), ProposalState.WITHDRAWN, None),
        ((denied(ProposalState.EXPIRED),), ProposalState.EXPIRED, None),
        ((ROLLBACK,), None, DeploymentState.BUILDING),
        ((Deployed(3_000, ROLLBACK, ""),), None, DeploymentState.DEPLOYED),
    ],
)
def test_the_state_follows_from_the_tags(
    documents: tuple[AnyDocument, ...], proposal: ProposalState | None, deployment: DeploymentState | None
) -> None:
    record = derive("iris", tags(*documents))
    assert (record.proposals[1].state if 1 in record.proposals else None) == proposal
    assert (record.deployments[1].state if 1 in record.deployments else None) == deployment
    assert record.next_number == 2


def test_no_tag_is_needed_once_there_is_an_end() -> None:
    """A crash may leave any of the tags before it: what is known stays the same."""
    ends: tuple[AnyDocument, ...] = (DEPLOYED, FAILED, CANCELLED)
    before: tuple[AnyDocument, ...] = (ASKED, AGREED, APPROVED, BEGUN)
    for end in ends:
        whole = derive("iris", tags(ASKED, APPROVED, BEGUN, end))
        for count in range(5):
            for left in itertools.combinations(before, count):
                assert derive("iris", tags(*left, end)) == whole


def test_reasons_and_proofs_are_told() -> None:
    record = derive("iris", tags(FAILED))
    assert (record.proposals[1].reason, record.proposals[1].proof) == ("it would not start", "click")
    assert (record.deployments[1].detail, record.deployments[1].ended_ms) == ("it would not start", 3_000)
    assert derive("iris", tags(denied(ProposalState.DENIED))).proposals[1].reason == "no need"
    at_terminal = Approved(2_000, (Word(2_000, "{}", AtTerminal(), None),))
    assert derive("iris", tags(ASKED, at_terminal)).proposals[1].proof == "terminal"


def test_who_agreed_is_told_until_it_is_decided() -> None:
    waiting = derive("iris", tags(ASKED, AGREED)).proposals[1]
    assert (waiting.approvals, waiting.proof, waiting.decided_ms) == (("anna",), "", None)
    decided = derive("iris", tags(ASKED, AGREED, BY_TWO)).proposals[1]
    assert (decided.approvals, decided.proof) == ((), "ssh anna, passkey bert")


@pytest.mark.parametrize(
    "document", [ASKED, AGREED, APPROVED, BY_TWO, BEGUN, DEPLOYED, FAILED, denied(ProposalState.EXPIRED)]
)
def test_documents_come_back(document: AnyDocument) -> None:
    ((key, _),) = tags(document, number=7).items()
    assert decode(tag_name(*key), encode(document)) == (key, document)
    assert encode(document).count(b"\n") == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("proposal/0", encode(ASKED)),
        ("proposal/01", encode(ASKED)),
        ("other/1", encode(ASKED)),
        ("proposal/1", b"{}"),
        ("proposal/1", b" " + encode(ASKED)),
        ("proposal/1", encode(ASKED).replace(b'"commit"', b'"more":1,"commit"')),
        ("approved/1", encode(ASKED)),
        ("proposal/1", b"\xff"),
    ],
)
def test_what_is_no_document_is_refused(name: str, content: bytes) -> None:
    with pytest.raises(ValueError):
        decode(name, content)


def test_only_what_has_not_ended_goes_on() -> None:
    found = {
        **tags(ASKED, number=1),
        **tags(ASKED, APPROVED, number=2),
        **tags(ASKED, APPROVED, BEGUN, number=3),
        **tags(ROLLBACK, number=4),
        **tags(ASKED, APPROVED, BEGUN, DEPLOYED, number=5),
        **tags(ASKED, denied(ProposalState.DENIED), number=6),
    }
    assert unfinished(found) == (2, 3, 4)
    assert generation_of(found) == 5


def test_a_draft_is_no_generation() -> None:
    draft = Deployed(1, Begun(DeploymentKind.INIT, "c" * 40, "t" * 40, None, 1), "")
    assert generation_of(tags(draft)) is None


def test_proposals_of_an_hour_are_counted_whatever_became_of_them() -> None:
    found = {
        **tags(ASKED, number=1),
        **tags(FAILED, number=2),
        **tags(denied(ProposalState.DENIED), number=3),
    }
    assert proposed_within(found, 1_000 + 3_599_999) == 3
    assert proposed_within(found, 1_000 + 3_600_000) == 0
    assert proposed_within(found, 1_000, by=ASKED.by) == 3
    assert proposed_within(found, 1_000, by="somebody") == 0


def test_a_name_of_which_nothing_was_approved() -> None:
    no = denied(ProposalState.WITHDRAWN)
    found = {**tags(ASKED, no, number=1), **tags(no, number=2)}
    assert is_only_asked(found)
    assert is_only_asked(found, ASKED.by)
    assert not is_only_asked(found, "somebody")
    assert ended_ms(found) == no.at_ms
    assert ended_ms({**found, **tags(ASKED, number=3)}) is None
    assert (is_only_asked({}), is_only_asked({}, ASKED.by), ended_ms({})) == (True, False, 0)
    for approved in (APPROVED, BEGUN, DEPLOYED, FAILED):
        assert not is_only_asked({**found, **tags(approved, number=3)})


ENDS = st.sampled_from([DEPLOYED, FAILED, CANCELLED, denied(ProposalState.DENIED), None])


@given(
    st.lists(st.tuples(ENDS, st.sets(st.sampled_from([ASKED, APPROVED, BEGUN]))), max_size=6), st.booleans()
)
def test_dropping_loses_nothing_but_what_is_old(
    found: list[tuple[AnyDocument | None, set[AnyDocument]]], old: bool
) -> None:
    every: Tags = {}
    for number, (end, before) in enumerate(found, 1):
        every |= tags(*(before if end else (ASKED,)), *((end,) if end else ()), number=number)
    now_ms = 3_000 + (1_000_000 if old else 1)
    dropped = droppable(every, now_ms, keep_ms=500_000)
    left = {key: document for key, document in every.items() if tag_name(*key) not in dropped}
    was, now = derive("iris", every), derive("iris", left)
    assert now.next_number == was.next_number
    for number, row in was.deployments.items():
        aged = old and row.state is not DeploymentState.DEPLOYED and row.ended_ms is not None
        if not aged or number in now.deployments:
            assert now.deployments[number] == row
    ended = {number for (mark, number) in every if mark in {Mark.DENIED, Mark.DEPLOYED, Mark.FAILED}}
    assert not any(mark in PASSING and number in ended for mark, number in left)
    assert all(key in left for key in every if key[0] is Mark.DEPLOYED)
    assert droppable(left, now_ms, 500_000) == ()
