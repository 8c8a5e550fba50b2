"""Who may be created and purged, and when a crashed cage starts again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privd.policy.agents import (
    ALL_SETTINGS_BYTES_MAX,
    BACKOFF_MAX_MS,
    CRASH_WINDOW_MS,
    CRASHES_MAX,
    SETTINGS_BYTES_MAX,
    check_creation,
    check_purge,
    check_runner,
    check_size,
    restart_after_ms,
    role_of,
)
from protocol.frames import Splitter, encode_event
from protocol.limits import AGENTS_MAX, REPLY_BYTES_MAX, ROLE_PROMPT_CHARS_MAX
from protocol.names import RESERVED_NAMES
from protocol.privd import Cage, CagesNow, Power
from protocol.problem import Problem, Refused
from protocol.settings import AgentRole, AgentSettings, McpServer, Runner


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


def test_whatever_may_be_deployed_can_be_told_in_one_frame() -> None:
    """As many agents as fit, with the largest prompts; each row as full as rows come."""
    fitted: list[AgentSettings] = []
    full: Refused | None = None
    while full is None:
        another = AgentSettings(f"a{len(fitted)}", role_prompt="漢" * ROLE_PROMPT_CHARS_MAX)
        full = refusal_of(another, fitted)
        fitted += [another] if full is None else []
    assert f"at most {ALL_SETTINGS_BYTES_MAX} may be deployed" in full.detail
    assert full.problem is Problem.LIMIT
    assert len(fitted) > 40
    few = [AgentSettings(f"b{number}") for number in range(AGENTS_MAX - len(fitted))]
    rows = tuple(
        Cage(each.name, Power.FAILED, 1, "nspawn", 1, 2, each, detail="d" * 2_000, stale="s" * 500)
        for each in (*fitted, *few)
    )
    splitter = Splitter(REPLY_BYTES_MAX)
    splitter.feed(encode_event(CagesNow(rows)))
    assert splitter.next_frame() is not None


def refusal_of(settings: AgentSettings, others: list[AgentSettings]) -> Refused | None:
    try:
        check_size(settings, others)
    except Refused as refused:
        return refused
    return None


def test_one_agents_settings_have_a_bound_too() -> None:
    servers = {
        f"s{number}": McpServer(("x",), {f"V{each}": "x" * 1_000 for each in range(50)})
        for number in range(3)
    }
    with pytest.raises(Refused, match=f"at most {SETTINGS_BYTES_MAX} may be deployed") as refused:
        check_size(AgentSettings("iris", mcp_servers=servers), ())
    assert refused.value.problem is Problem.LIMIT
    check_size(AgentSettings("iris", mcp_servers={"s0": servers["s0"]}), ())


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
