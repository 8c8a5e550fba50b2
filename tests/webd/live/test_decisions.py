"""Proposals, deployments and logs as rows; it does not matter when one began to listen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.approvals import (
    BuildLine,
    CapabilityChange,
    Deployment,
    DeploymentKind,
    DeploymentState,
    Proposal,
    ProposalKind,
    ProposalState,
)
from protocol.configuration import (
    AnyDecision,
    BuildSaid,
    DecisionsNow,
    DeploymentChanged,
    ProposalChanged,
)
from protocol.privd import Cage, Power
from protocol.settings import AgentSettings
from webd.live.decisions import ENDED_MAX, LINES_MAX, LOGS_MAX, VALUE_CHARS_MAX, Decisions
from webd.live.world import CLICK_NOTICE, World

NOW = 1_800_000_000_000
HEX = "0123456789abcdef" * 3


def proposal(number: int, state: ProposalState = ProposalState.OPEN, agent: str = "iris") -> Proposal:
    return Proposal(
        agent=agent,
        number=number,
        kind=ProposalKind.CONFIG,
        state=state,
        commit=HEX[:40],
        tree=HEX[1:41],
        base=None,
        by="manager",
        description="why",
        proposed_ms=NOW + number,
        expires_ms=NOW + 9,
        decided_ms=None if state is ProposalState.OPEN else NOW + number,
    )


def deployment(number: int, state: DeploymentState = DeploymentState.BUILDING) -> Deployment:
    ended = state in {DeploymentState.DEPLOYED, DeploymentState.RETURNED, DeploymentState.CANCELLED}
    return Deployment(
        agent="iris",
        number=number,
        kind=DeploymentKind.CONFIG,
        state=state,
        commit=HEX[:40],
        began_ms=NOW,
        since_ms=NOW,
        ended_ms=NOW + number if ended else None,
    )


def lines(*offsets: int) -> tuple[BuildLine, ...]:
    return tuple(BuildLine(offset, f"line {offset}") for offset in offsets)


def test_what_privd_says_first_replaces_what_was_known() -> None:
    kept = Decisions()
    kept.heard(ProposalChanged(proposal(1)))
    kept.heard(ProposalChanged(proposal(2)))
    ended = proposal(2, ProposalState.DENIED)
    told = kept.heard(DecisionsNow((ended, proposal(3)), (deployment(1),), click=True))
    assert told == [
        ("proposals", "iris/1", None),
        ("proposals", "iris/2", ended),
        ("proposals", "iris/3", proposal(3)),
        ("deployments", "iris/1", deployment(1)),
    ]
    assert kept.click
    assert kept.heard(DecisionsNow((ended, proposal(3)), (deployment(1),), click=False)) == []
    assert not kept.click


def test_text_is_made_plain_and_bounded() -> None:
    change = CapabilityChange("mod\x1b[31mel", None, "x" * (VALUE_CHARS_MAX + 1), notable=True)
    row = replace(proposal(1), description="a\u202eb", reason="\x9b31mno", capabilities=(change,))
    kept = Decisions()
    kept.heard(ProposalChanged(row))
    shown = kept.proposals["iris/1"]
    assert (shown.description, shown.reason, shown.capabilities[0].subject) == ("ab", "no", "model")
    assert shown.capabilities[0].after == "x" * VALUE_CHARS_MAX + "… (cut)"
    kept.heard(DeploymentChanged(replace(deployment(1), detail="\x1b]0;evil\x07why")))
    assert kept.deployments["iris/1"].detail == "why"
    kept.heard(BuildSaid("iris", 1, (BuildLine(0, "\x1b[2Jgone"),)))
    assert kept.builds["iris/1"].lines == (BuildLine(0, "gone"),)


def test_what_has_ended_is_kept_short() -> None:
    change = CapabilityChange("model", None, "opus", notable=True)
    kept = Decisions()
    for state in (ProposalState.OPEN, ProposalState.DENIED):
        long = replace(proposal(1, state), description="x" * 2_000, capabilities=(change,))
        kept.heard(ProposalChanged(long))
        row = kept.proposals["iris/1"]
        is_open = state is ProposalState.OPEN
        assert (len(row.description) > VALUE_CHARS_MAX * 2, row.capabilities == (change,)) == (
            is_open,
            is_open,
        )


def test_what_has_ended_is_let_go_oldest_first_and_what_waits_is_not() -> None:
    kept = Decisions()
    kept.heard(ProposalChanged(proposal(1)))
    kept.heard(DeploymentChanged(deployment(1)))
    told = []
    for number in range(2, ENDED_MAX + 4):
        told += kept.heard(ProposalChanged(proposal(number, ProposalState.EXPIRED)))
        told += kept.heard(DeploymentChanged(deployment(number, DeploymentState.DEPLOYED)))
    gone = [(topic, key) for topic, key, row in told if row is None]
    assert gone == [
        ("proposals", "iris/2"),
        ("deployments", "iris/2"),
        ("proposals", "iris/3"),
        ("deployments", "iris/3"),
    ]
    assert len(kept.proposals) == len(kept.deployments) == ENDED_MAX + 1
    assert "iris/1" in kept.proposals
    assert kept.going() == [deployment(1)]


@given(st.permutations(range(6)), st.integers(0, 6))
def test_a_log_is_the_same_whatever_was_read_and_heard_first(order: list[int], read: int) -> None:
    kept = Decisions()
    for place in order[:read]:
        kept.said("iris", 1, lines(*range(place * 10, place * 10 + 10)))
    kept.said("iris", 1, lines(*range(60)))
    for place in order[read:]:
        assert kept.said("iris", 1, lines(place * 10)) == [] or place * 10 < 60 - LINES_MAX
    assert kept.builds["iris/1"].lines == lines(*range(60))[-LINES_MAX:]


def test_the_log_that_was_silent_longest_is_let_go() -> None:
    kept = Decisions()
    for number in range(LOGS_MAX):
        kept.heard(BuildSaid("iris", number + 1, lines(0)))
    kept.heard(BuildSaid("iris", 1, lines(10)))
    told = kept.heard(BuildSaid("atlas", 1, lines(0)))
    assert ("builds", "iris/2", None) in told
    assert "iris/1" in kept.builds


@pytest.mark.parametrize("click", [True, False])
def test_that_a_click_is_enough_stands_on_every_page(click: bool) -> None:
    world = World("hive", "1", ("standing",))
    event: AnyDecision = DecisionsNow((), (), click=click)
    world.decided(event, NOW)
    assert world.hive.click is click
    assert world.hive.notices == (("standing", CLICK_NOTICE) if click else ("standing",))
    world.decided(DecisionsNow((), (), click=False), NOW)
    assert world.hive.notices == ("standing",)


def test_a_draft_is_no_agent_of_the_swarm_and_nothing_kept() -> None:
    world = World("hive", "1")
    draft = Cage("iris", Power.DRAFT, NOW, "nspawn", 1, 2, AgentSettings(name="iris"))
    told = world.cages_now([draft], NOW)
    assert [(change.topic, change.key) for change in told] == [("drafts", "iris")]
    assert (world.agents, world.kept) == ({}, {})
    told = world.cage_changed(replace(draft, power=Power.STARTING), NOW)
    assert [(change.topic, change.data is None) for change in told] == [("agents", False), ("drafts", True)]
