"""Who gets a message, and who may write to whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.policy.recipients import (
    ALL_AT_ONCE_MAX,
    Sender,
    Verdict,
    addressed,
    manager_of,
    may_write,
    not_allowed,
)
from brokerd.store.deliveries import PLACE_BITS
from protocol.limits import AGENTS_MAX
from protocol.problem import Problem, Refused
from protocol.settings import AgentRole

AGENT, MANAGER = AgentRole.AGENT, AgentRole.MANAGER
HIVE = {"hm1nd": MANAGER, "iris": AGENT, "atlas": AGENT}


@pytest.mark.parametrize(
    ("to", "sender", "expected"),
    [
        ("iris", "atlas", ("iris",)),
        ("iris", "operator", ("iris",)),
        ("operator", "iris", ("operator",)),
        ("manager", "iris", ("hm1nd",)),
        ("hm1nd", "iris", ("hm1nd",)),
        ("*", "iris", ("atlas", "hm1nd")),
        ("*", "operator", ("atlas", "hm1nd", "iris")),
    ],
)
def test_whom_a_recipient_means(to: str, sender: str, expected: tuple[str, ...]) -> None:
    assert addressed(to, sender, HIVE) == expected


@pytest.mark.parametrize(
    ("to", "sender", "agents", "problem", "words"),
    [
        (
            "nobody",
            "iris",
            HIVE,
            Problem.NOT_FOUND,
            "there is no agent nobody; there are: atlas, hm1nd, iris",
        ),
        ("system", "iris", HIVE, Problem.NOT_FOUND, "there is no agent system"),
        ("iris", "operator", {}, Problem.NOT_FOUND, "no agent at all"),
        ("iris", "iris", HIVE, Problem.DENIED, "a message to yourself: use a reminder"),
        ("manager", "hm1nd", HIVE, Problem.DENIED, "a message to yourself: use a reminder"),
        ("operator", "operator", HIVE, Problem.DENIED, "a message to yourself: use a reminder"),
        (
            "manager",
            "iris",
            {"iris": AGENT},
            Problem.NOT_FOUND,
            "no agent of this hive holds the manager role",
        ),
        ("*", "iris", {"iris": AGENT}, Problem.NOT_FOUND, "there is no other agent"),
        ("*", "operator", {f"a{n}": AGENT for n in range(128)}, Problem.LIMIT, "128 agents are more"),
    ],
)
def test_whom_nobody_reaches(
    to: str, sender: str, agents: dict[str, AgentRole], problem: Problem, words: str
) -> None:
    with pytest.raises(Refused) as refused:
        addressed(to, sender, agents)
    assert refused.value.problem is problem
    assert words in refused.value.detail


def test_a_broadcast_to_a_full_hive_fits_into_the_numbers_of_its_deliveries() -> None:
    assert AGENTS_MAX < ALL_AT_ONCE_MAX < 2**PLACE_BITS


@pytest.mark.parametrize(
    ("agents", "expected"),
    [(HIVE, "hm1nd"), ({}, None), ({"iris": AGENT}, None), ({"b": MANAGER, "a": MANAGER}, "a")],
)
def test_who_the_manager_is(agents: dict[str, AgentRole], expected: str | None) -> None:
    assert manager_of(agents) == expected


@pytest.mark.parametrize(
    ("sender", "to", "verdict"),
    [
        (Sender("operator"), "iris", Verdict.ALLOWED),
        (Sender("operator"), "*", Verdict.ALLOWED),
        (Sender("hm1nd", MANAGER, ()), "iris", Verdict.ALLOWED),
        (Sender("iris", AGENT, None), "atlas", Verdict.ALLOWED),
        (Sender("iris", AGENT, ("*",)), "atlas", Verdict.ALLOWED),
        (Sender("iris", AGENT, ("atlas",)), "atlas", Verdict.ALLOWED),
        (Sender("iris", AGENT, ()), "atlas", Verdict.AS_REPLY),
        (Sender("iris", AGENT, ()), "operator", Verdict.ALLOWED),
        (Sender("iris", AGENT, ()), "manager", Verdict.ALLOWED),
        (Sender("iris", AGENT, ()), "hm1nd", Verdict.ALLOWED),
        (Sender("iris", AGENT, ("manager",)), "atlas", Verdict.AS_REPLY),
        (Sender("iris", AGENT, ()), "*", Verdict.DENIED),
        (Sender("iris", AGENT, ("hm1nd",)), "*", Verdict.DENIED),
        (Sender("iris", AGENT, ("atlas",)), "*", Verdict.ALLOWED),
    ],
)
def test_who_may_write_to_whom(sender: Sender, to: str, verdict: Verdict) -> None:
    assert may_write(sender, to, addressed(to, sender.name, HIVE), HIVE) is verdict


@given(st.frozensets(st.sampled_from(["iris", "atlas", "hm1nd", "manager", "operator"])))
def test_an_empty_scope_is_nothing_and_a_larger_one_never_forbids_more(allowed: frozenset[str]) -> None:
    sender = Sender("iris", AGENT, tuple(sorted(allowed)))
    verdict = may_write(sender, "atlas", ("atlas",), HIVE)
    assert (verdict is Verdict.ALLOWED) == ("atlas" in allowed)


def test_the_refusal_says_who_and_whom() -> None:
    refused = not_allowed("iris", "atlas")
    assert (refused.problem, refused.detail) == (Problem.DENIED, "iris may not write to atlas")
