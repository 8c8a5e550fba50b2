"""Who may be created and purged, and when a crashed cage starts again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privd.policy.agents import (
    BACKOFF_MAX_MS,
    CRASH_WINDOW_MS,
    CRASHES_MAX,
    check_creation,
    check_purge,
    check_runner,
    restart_after_ms,
    role_of,
)
from protocol.limits import AGENTS_MAX
from protocol.names import RESERVED_NAMES
from protocol.privd import Power
from protocol.problem import Problem, Refused
from protocol.settings import AgentRole, Runner


@pytest.mark.parametrize(
    "name", ["", "Iris", "9lives", "iris\n", "a" * 10, "../x", "--help", "аtlas", *sorted(RESERVED_NAMES)]
)
def test_a_bad_name_is_refused_and_says_why(name: str) -> None:
    with pytest.raises(Refused) as refused:
        check_creation(name, ())
    assert refused.value.problem is Problem.MALFORMED
    assert refused.value.detail.isascii()


def test_a_taken_name_is_a_conflict_and_a_kept_one_may_come_back() -> None:
    with pytest.raises(Refused, match="exists already"):
        check_creation("iris", [("iris", False)])
    check_creation("iris", [("iris", True)])
    check_creation("atlas", [("iris", False)])


def test_a_full_hive_names_its_bound() -> None:
    with pytest.raises(Refused) as refused:
        check_creation("new", [(f"a{number}", False) for number in range(AGENTS_MAX)])
    assert refused.value.problem is Problem.LIMIT
    check_creation("a0", [(f"a{number}", True) for number in range(AGENTS_MAX)])


def test_only_hm1nd_is_the_manager() -> None:
    assert role_of("hm1nd") is AgentRole.MANAGER
    assert role_of("iris") is AgentRole.AGENT


@pytest.mark.parametrize("power", [power for power in Power if power is not Power.KEPT])
def test_what_has_a_cage_is_not_purged(power: Power) -> None:
    with pytest.raises(Refused, match="destroy it first"):
        check_purge("iris", "iris", power)


def test_a_purge_wants_the_name_again() -> None:
    with pytest.raises(Refused, match="nothing was deleted"):
        check_purge("iris", "atlas", Power.KEPT)
    check_purge("iris", "iris", Power.KEPT)


@given(st.lists(st.integers(0, 10 * CRASH_WINDOW_MS), max_size=20))
def test_crashes_back_off_within_a_budget(crashes_ms: list[int]) -> None:
    now_ms = 10 * CRASH_WINDOW_MS
    wait_ms = restart_after_ms(crashes_ms, now_ms)
    recent = [at_ms for at_ms in crashes_ms if now_ms - at_ms < CRASH_WINDOW_MS]
    assert (wait_ms is None) == (len(recent) > CRASHES_MAX)
    if wait_ms is not None:
        assert 0 < wait_ms <= BACKOFF_MAX_MS


def test_an_agent_needs_the_cli_that_drives_it() -> None:
    check_runner(Runner.DEMO, has_claude=False)
    check_runner(Runner.CLAUDE, has_claude=True)
    with pytest.raises(Refused, match="runner claude: this hive started without Claude Code") as refused:
        check_runner(Runner.CLAUDE, has_claude=False)
    assert refused.value.problem is Problem.CONFLICT
