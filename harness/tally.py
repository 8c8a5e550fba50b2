"""How often a turn called each tool, counted from its events; however many names a CLI makes up."""

from collections import Counter
from typing import Final

from harness.policy.budget import cut_chars
from protocol.limits import TOOL_NAME_CHARS_MAX, TURN_TOOLS_MAX
from protocol.turns import ToolCalled, TurnEvent

OTHER: Final = "other"
NAMELESS: Final = "?"


class Tally:
    """The tools of one turn."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()

    def take(self, event: TurnEvent) -> None:
        if not isinstance(event, ToolCalled):
            return
        name = cut_chars(event.tool, TOOL_NAME_CHARS_MAX) or NAMELESS
        if name not in self._calls and len(self._calls) >= TURN_TOOLS_MAX - 1:
            name = OTHER
        self._calls[name] += 1

    def counts(self) -> dict[str, int]:
        """Calls by tool; what there was no room for is together under `other`."""
        return dict(self._calls)
