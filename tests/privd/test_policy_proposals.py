"""What may be proposed, and to what an approval holds."""

import hashlib
import json
from typing import Any

import msgspec
import pytest

from privd.policy.proposals import (
    NAMES_ONLY_ASKED_MAX,
    PROPOSALS_OF_CALLER_PER_HOUR_MAX,
    Standing,
    check_kind,
    check_open,
    check_room,
    check_shown,
    show,
    twin,
)
from protocol.approvals import Proposal, ProposalKind, ProposalState
from protocol.limits import APPROVAL_DOCUMENT_S, PROPOSALS_OPEN_MAX, PROPOSALS_PER_HOUR_MAX
from protocol.problem import Problem, Refused

BASE = "b" * 40
OPEN = Proposal(
    "iris",
    3,
    ProposalKind.CONFIG,
    ProposalState.OPEN,
    "c" * 40,
    "e" * 40,
    BASE,
    "manager",
    "",
    1_000,
    99_000_000,
)
SHOWN = show(OPEN, BASE, hive="/h", host="vm", nonce="n" * 32, now_ms=5_000)


def refusal(act: Any) -> Problem | None:
    try:
        act()
    except Refused as refused:
        return refused.problem
    return None


@pytest.mark.parametrize(
    ("kind", "standing", "has_commit", "problem"),
    [
        (ProposalKind.INIT, Standing.NOBODY, False, None),
        (ProposalKind.INIT, Standing.NOBODY, True, Problem.MALFORMED),
        (ProposalKind.INIT, Standing.DRAFT, False, Problem.CONFLICT),
        (ProposalKind.INIT, Standing.LIVING, False, Problem.CONFLICT),
        (ProposalKind.INIT, Standing.KEPT, False, Problem.CONFLICT),
        (ProposalKind.SPAWN, Standing.NOBODY, False, None),
        (ProposalKind.SPAWN, Standing.NOBODY, True, Problem.NOT_FOUND),
        (ProposalKind.SPAWN, Standing.DRAFT, True, None),
        (ProposalKind.SPAWN, Standing.DRAFT, False, Problem.CONFLICT),
        (ProposalKind.SPAWN, Standing.LIVING, False, Problem.CONFLICT),
        (ProposalKind.SPAWN, Standing.LIVING, True, Problem.CONFLICT),
        (ProposalKind.SPAWN, Standing.KEPT, False, None),
        (ProposalKind.SPAWN, Standing.KEPT, True, None),
        (ProposalKind.CONFIG, Standing.LIVING, True, None),
        (ProposalKind.CONFIG, Standing.LIVING, False, Problem.MALFORMED),
        (ProposalKind.CONFIG, Standing.NOBODY, True, Problem.NOT_FOUND),
        (ProposalKind.CONFIG, Standing.DRAFT, True, Problem.CONFLICT),
        (ProposalKind.CONFIG, Standing.KEPT, True, Problem.CONFLICT),
    ],
)
def test_the_kind_must_fit(
    kind: ProposalKind, standing: Standing, has_commit: bool, problem: Problem | None
) -> None:
    assert refusal(lambda: check_kind("iris", kind, standing, has_commit=has_commit)) == problem


@pytest.mark.parametrize("name", ["system", "Iris", "a/b", "toolongname", ""])
def test_a_name_that_no_agent_may_have(name: str) -> None:
    for kind in ProposalKind:
        found = refusal(lambda kind=kind: check_kind(name, kind, Standing.NOBODY, has_commit=False))
        assert found is Problem.MALFORMED


def test_there_is_room_for_so_many() -> None:
    bounds = (
        PROPOSALS_OPEN_MAX,
        PROPOSALS_PER_HOUR_MAX,
        PROPOSALS_OF_CALLER_PER_HOUR_MAX,
        NAMES_ONLY_ASKED_MAX,
    )
    check_room("iris", *(bound - 1 for bound in bounds))
    for at, bound in enumerate(bounds):
        counts = [0, 0, 0, 0]
        counts[at] = bound
        assert refusal(lambda counts=counts: check_room("iris", *counts)) is Problem.LIMIT


@pytest.mark.parametrize(
    ("change", "is_twin"),
    [
        ({}, True),
        ({"state": ProposalState.DENIED}, False),
        ({"kind": ProposalKind.SPAWN}, False),
        ({"base": None}, False),
        ({"commit": "d" * 40}, False),
    ],
)
def test_a_twin_asks_the_same_over_the_same(change: dict[str, Any], is_twin: bool) -> None:
    found = twin([msgspec.structs.replace(OPEN, **change)], ProposalKind.CONFIG, BASE, commit=OPEN.commit)
    assert (found is not None) is is_twin
    assert (twin([OPEN], ProposalKind.CONFIG, BASE, tree=OPEN.tree) is OPEN) is True
    assert twin([OPEN], ProposalKind.CONFIG, BASE) is None


def test_the_document_says_all_that_is_approved() -> None:
    assert json.loads(SHOWN.text) == {
        "hive": "/h",
        "host": "vm",
        "action": "approve",
        "agent": "iris",
        "number": 3,
        "kind": "config",
        "commit": OPEN.commit,
        "tree": OPEN.tree,
        "base": BASE,
        "nonce": "n" * 32,
        "from_ms": 5_000,
        "until_ms": 5_000 + APPROVAL_DOCUMENT_S * 1000,
    }
    assert SHOWN.digest == hashlib.sha256(SHOWN.text.encode()).hexdigest()
    assert (len(SHOWN.code), SHOWN.code.isdecimal()) == (8, True)


def test_two_screens_show_one_code_for_the_same_and_another_for_anything_else() -> None:
    def code(proposal: Proposal = OPEN, base: str | None = BASE, nonce: str = "m" * 32) -> str:
        return show(proposal, base, hive="/h", host="vm", nonce=nonce, now_ms=9_000).code

    assert code() == SHOWN.code
    assert show(OPEN, BASE, hive="/h", host="vm", nonce="m" * 32, now_ms=9_000).digest != SHOWN.digest
    others = {code(base=None), code(msgspec.structs.replace(OPEN, commit="d" * 40))}
    others |= {
        code(msgspec.structs.replace(OPEN, number=4)),
        code(msgspec.structs.replace(OPEN, agent="otto")),
    }
    assert len(others | {SHOWN.code}) == 5


@pytest.mark.parametrize(
    ("shown", "proposal", "base", "now_ms"),
    [
        (None, OPEN, BASE, 5_000),
        (SHOWN, msgspec.structs.replace(OPEN, agent="otto"), BASE, 5_000),
        (SHOWN, msgspec.structs.replace(OPEN, number=4), BASE, 5_000),
        (SHOWN, msgspec.structs.replace(OPEN, commit="d" * 40), BASE, 5_000),
        (SHOWN, msgspec.structs.replace(OPEN, tree="d" * 40), BASE, 5_000),
        (SHOWN, OPEN, "d" * 40, 5_000),
        (SHOWN, OPEN, None, 5_000),
        (SHOWN, OPEN, BASE, 5_000 + APPROVAL_DOCUMENT_S * 1000),
        (SHOWN, OPEN, BASE, 4_999),
    ],
)
def test_an_approval_of_anything_else_is_void(
    shown: Any, proposal: Proposal, base: str | None, now_ms: int
) -> None:
    assert check_shown(SHOWN, OPEN, BASE, 5_000) is SHOWN
    assert refusal(lambda: check_shown(shown, proposal, base, now_ms)) is Problem.CONFLICT


def test_an_approval_is_for_the_sources_that_were_shown() -> None:
    old, new = {"nixpkgs": "sha256-a"}, {"nixpkgs": "sha256-b"}
    shown = show(OPEN, BASE, hive="/h", host="vm", nonce="n" * 32, now_ms=5_000, systems=old)
    assert check_shown(shown, OPEN, BASE, 5_000, old) is shown
    assert refusal(lambda: check_shown(shown, OPEN, BASE, 5_000, new)) is Problem.CONFLICT
    assert refusal(lambda: check_shown(shown, OPEN, BASE, 5_000)) is Problem.CONFLICT
    assert refusal(lambda: check_shown(SHOWN, OPEN, BASE, 5_000, new)) is Problem.CONFLICT


@pytest.mark.parametrize("state", [each for each in ProposalState if each is not ProposalState.OPEN])
def test_nothing_is_decided_twice(state: ProposalState) -> None:
    check_open(OPEN, 1_000)
    assert refusal(lambda: check_open(msgspec.structs.replace(OPEN, state=state), 1_000)) is Problem.CONFLICT
    assert refusal(lambda: check_open(OPEN, OPEN.expires_ms)) is Problem.CONFLICT
