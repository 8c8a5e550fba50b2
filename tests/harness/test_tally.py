"""Tool calls are counted, however many names there are."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from harness.tally import NAMELESS, OTHER, Tally
from protocol.agent import EndTurn
from protocol.limits import TOOL_NAME_CHARS_MAX, TURN_TOOLS_MAX
from protocol.turns import Outcome, Said, ToolCalled


def called(tool: str) -> ToolCalled:
    return ToolCalled(0, 0, "c1", tool, "", "{}")


def test_calls_are_counted_by_tool_and_nothing_else_is() -> None:
    tally = Tally()
    for event in (called("send"), Said(0, 0, "x"), called("Bash"), called("send"), called("")):
        tally.take(event)
    assert tally.counts() == {"send": 2, "Bash": 1, NAMELESS: 1}


@given(st.lists(st.text(max_size=300), max_size=40), st.integers(0, 3 * TURN_TOOLS_MAX))
def test_any_names_fit_the_wire_and_no_call_is_lost(names: list[str], many: int) -> None:
    tally = Tally()
    calls = [*names, *(f"tool {number}" for number in range(many))]
    for name in calls:
        tally.take(called(name))
    counts = tally.counts()
    assert sum(counts.values()) == len(calls)
    assert len(counts) <= TURN_TOOLS_MAX
    assert all(len(name) <= TOOL_NAME_CHARS_MAX for name in counts)
    assert (OTHER in counts) or len(set(calls)) < TURN_TOOLS_MAX or OTHER in names
    end = EndTurn(1, Outcome.DONE, tools=counts)
    assert msgspec.json.decode(msgspec.json.encode(end), type=EndTurn) == end
