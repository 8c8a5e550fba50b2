"""The tools, derived from the request structs of `protocol.tools`. Pure.

A tool takes a request's fields without those that the harness supplies; names, bounds and descriptions come from
the same struct that brokerd decodes, so they cannot differ. What a schema need not say (that a field which may be
left out may be null, a bound that no model reaches) is left out: every agent pays for it at every start.
"""

from collections.abc import Iterable
from inspect import cleandoc
from typing import Any, Final

import msgspec
from msgspec import Struct

from protocol.limits import INTEGER_MAX
from protocol.managing import MANAGER_TOOLS, GetLogs, ListRequests
from protocol.names import AGENT_NAME_RULE, OPERATOR
from protocol.settings import AgentRole
from protocol.tools import (
    TOOLS,
    Ask,
    ListAgents,
    ListReminders,
    OpenThreads,
    ReadReceipt,
    Remind,
    RollUpReminders,
    Send,
    Tool,
    WhoAmI,
)

REFERENCE: Final = "#/$defs/{name}"
FIXED: Final[dict[str, dict[str, Any]]] = {"ask_operator": {"to": OPERATOR}}
"""What an alias sets by its name, so that its schema does not ask for it."""
ALIAS_WORDS: Final = {
    "ask_operator": "Ask the operator: the same as ask without `to`.",
    "request_spawn_draft": "The same as request_init_config.",
    "request_spawn_commit": "The same as request_apply_commit, for a draft.",
}
"""What is listed of an alias instead of the whole description again."""
LEFT_OUT: Final = (("maximum", INTEGER_MAX), ("description", AGENT_NAME_RULE))
"""What no model needs to be told: its numbers are not so large, and the pattern says what a name is."""
READING: Final[frozenset[type[Tool[Any]]]] = frozenset(
    {ReadReceipt, OpenThreads, ListReminders, RollUpReminders, WhoAmI, ListAgents, ListRequests, GetLogs}
)
"""Tools without an effect; whatever is not named here has one, and is refused outside a turn."""
REPEATED: Final[frozenset[type[Tool[Any]]]] = frozenset({Send, Ask, Remind})
"""Tools whose key follows from the delivery and the words: a turn that comes again does not do them twice."""


class ToolCard(Struct, frozen=True):
    """One tool as MCP lists it. `fixed` holds fields that its name decides."""

    name: str
    description: str
    schema: dict[str, Any]
    request: type[Tool[Any]]
    fixed: dict[str, Any] = {}

    @property
    def is_reading(self) -> bool:
        return self.request in READING


def tool_card(request: type[Tool[Any]], name: str | None = None) -> ToolCard:
    """Derive a tool from its request, or one of its aliases. Raises TypeError for a request without a docstring."""
    [whole], others = msgspec.json.schema_components([request], ref_template=REFERENCE)
    shape = dict(others.pop(whole["$ref"].removeprefix("#/$defs/")))
    fixed = FIXED.get(name, {}) if name is not None else {}
    hidden = {"op", *request.supplied, *fixed}
    properties = {field: spare(node) for field, node in shape["properties"].items() if field not in hidden}
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    required = [field for field in shape.get("required", ()) if field not in hidden]
    if required:
        schema["required"] = required
    if others:
        schema["$defs"] = spare(others)
    if not request.__doc__:
        raise TypeError(f"{request.__name__} has no docstring, and the model reads nothing else about it")
    words = cleandoc(request.__doc__) if name is None else ALIAS_WORDS[name]
    return ToolCard(name or request.tool_name, words, schema, request, fixed)


def spare(node: Any) -> Any:
    """A schema in fewer words: optional fields without their null, and nothing that is LEFT_OUT.

    Patterns are spelled as JavaScript reads them: Python's anchors (`anchored`) mean letters there.
    """
    if isinstance(node, list):
        return [spare(each) for each in node]
    if not isinstance(node, dict):
        return node
    choices = node.get("anyOf")
    if choices is not None and {"type": "null"} in choices and "default" in node and node["default"] is None:
        left = [each for each in choices if each != {"type": "null"}]
        others = {key: value for key, value in node.items() if key not in {"anyOf", "default"}}
        return spare(others | left[0] if len(left) == 1 else others | {"anyOf": left})
    return {
        key: anchored(value) if key == "pattern" and isinstance(value, str) else spare(value)
        for key, value in node.items()
        if not any(key == left_out and value == told for left_out, told in LEFT_OUT)
    }


def anchored(pattern: str) -> str:
    return pattern.replace(r"\A", "^").replace(r"\Z", "$")


def _cards(requests: Iterable[type[Tool[Any]]]) -> dict[str, ToolCard]:
    cards: dict[str, ToolCard] = {}
    for request in requests:
        for name in (None, *request.aliases):
            card = tool_card(request, name)
            cards[card.name] = card
    return cards


CARDS: Final = _cards(TOOLS)
"""What every agent has."""
MANAGER_CARDS: Final = CARDS | _cards(MANAGER_TOOLS)


def cards_of(role: AgentRole) -> dict[str, ToolCard]:
    """The tools of an agent with this role; brokerd checks the role again."""
    return MANAGER_CARDS if role is AgentRole.MANAGER else CARDS
