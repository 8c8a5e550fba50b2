"""Accounts, refusals of the way out and limits of cages, as the dashboard keeps them."""

import pytest

from protocol.brokerd import (
    AccountChanged,
    Activity,
    Agent,
    AgentChanged,
    AgentGone,
    AnyFeedBody,
    EgressRefused,
    FeedEvent,
    LimitReached,
    Snapshot,
)
from protocol.egressd import AccountWindow, Refusal
from protocol.limited import EgressRefusal, LimitHit, ModelAccount
from protocol.privd import Cage, Power, Resource
from protocol.settings import AgentRole, AgentSettings, CageLimits
from protocol.turns import Outcome
from webd.live.limited import REFUSALS_KEPT_MAX, TEXT_CHARS_MAX
from webd.live.rows import AgentState
from webd.live.world import Change, World
from webd.policy.topics import ACCOUNTS, LIMITS, REFUSALS

NOW = 1_800_000_000_000


def refusal(number: int, host: str = "example.org", **more: object) -> EgressRefusal:
    return EgressRefusal(number, "iris", Refusal.NOT_ALLOWED, host, 443, 1, NOW, NOW, **more)


def hit(agent: str = "iris", resource: Resource = Resource.MEMORY, times: int = 1) -> LimitHit:
    return LimitHit(agent, resource, times, NOW, NOW, "a process was ended")


def heard(world: World, body: AnyFeedBody) -> list[Change]:
    return world.heard(FeedEvent(world.seq + 1, NOW, body), NOW)


def begun(**more: object) -> World:
    world = World("hive", "1")
    world.broker_now(Snapshot("e", 0, NOW, (), (), 0, 0, **more), [], NOW)  # type: ignore[arg-type]
    return world


def test_an_account_is_one_row_as_it_was_told_last() -> None:
    world = begun(accounts=(ModelAccount("default"),))
    assert world.limited.accounts == {"default": ModelAccount("default")}
    limited = ModelAccount("default", limited_until_ms=NOW, held=("iris",))
    assert heard(world, AccountChanged(limited)) == [Change(ACCOUNTS, limited, key="default")]
    assert world.limited.accounts == {"default": limited}


def test_words_from_outside_are_made_plain_and_cut() -> None:
    window = AccountWindow("tok\x1b[31mens")
    told = ModelAccount("default", detail="slow\x07 down" + "x" * 10_000, windows=(window,))
    (change,) = heard(begun(), AccountChanged(told))
    assert change.data.windows == (AccountWindow("tokens"),)
    assert change.data.detail.startswith("slow down")
    assert len(change.data.detail) < TEXT_CHARS_MAX + 20
    (change,) = heard(begun(), EgressRefused(refusal(1, "ex\u202eample")))
    assert change.data.host == "example"


def test_a_refusal_that_is_counted_again_is_the_newest() -> None:
    world = begun(refusals=(refusal(1), refusal(2)))
    again = refusal(1, "again.org")
    assert heard(world, EgressRefused(again)) == [Change(REFUSALS, again, key="1")]
    assert list(world.limited.refusals) == ["2", "1"]


def test_so_many_refusals_are_shown_and_no_more() -> None:
    world = begun(refusals=tuple(refusal(number) for number in range(REFUSALS_KEPT_MAX)))
    new = refusal(REFUSALS_KEPT_MAX)
    assert heard(world, EgressRefused(new)) == [
        Change(REFUSALS, new, key=str(REFUSALS_KEPT_MAX)),
        Change(REFUSALS, None, key="0"),
    ]
    assert len(world.limited.refusals) == REFUSALS_KEPT_MAX


def test_limits_of_a_cage_go_with_its_agent() -> None:
    world = begun(limit_hits=(hit(), hit("atlas")))
    more = hit(resource=Resource.DISK)
    assert heard(world, LimitReached(more)) == [Change(LIMITS, more, key="iris disk")]
    assert heard(world, AgentGone("iris")) == [
        Change(LIMITS, None, key="iris memory"),
        Change(LIMITS, None, key="iris disk"),
    ]
    assert list(world.limited.hits) == ["atlas memory"]


@pytest.mark.parametrize("account", ["default", None])
def test_an_agent_says_which_account_holds_it_and_what_it_may_use(account: str | None) -> None:
    world = begun()
    limits = CageLimits(memory_mib_max=512, disk_mib_max=None)
    settings = AgentSettings("iris", limits=limits, egress_hosts=("crates.io",), account="default")
    world.cages_now([Cage("iris", Power.RUNNING, NOW, "nspawn", 1, 2, settings)], NOW)
    parked = Agent(
        "iris",
        AgentRole.AGENT,
        Activity.PARKED,
        NOW,
        parked=Outcome.RATE_LIMITED,
        until_ms=NOW + 1,
        detail="in its own words",
        limited_by=account,
    )
    heard(world, AgentChanged(parked))
    row = world.agents["iris"]
    assert (row.state, row.until_ms) == (AgentState.LIMITED, NOW + 1)
    assert (row.account, row.limited_by, row.limits) == ("default", account, limits)
    assert row.egress_hosts == ("crates.io",)
    assert row.detail == ("account default is limited" if account else "in its own words")
