"""The tools, derived from the request structs of `protocol.tools`. Pure.

A tool takes a request's fields without those that the harness supplies; names, bounds and descriptions come from
the same struct that brokerd decodes, so they cannot differ.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

from protocol.tools import TOOLS, Tool

REFERENCE: Final = "#/$defs/{name}"


class ToolCard(Struct, frozen=True):
    """One tool as MCP lists it."""

    name: str
    description: str
    schema: dict[str, Any]
    request: type[Tool[Any]]


def tool_card(request: type[Tool[Any]]) -> ToolCard:
    """Derive a tool from its request. Raises TypeError for a request without a docstring."""
    [whole], others = msgspec.json.schema_components([request], ref_template=REFERENCE)
    shape = dict(others.pop(whole["$ref"].removeprefix("#/$defs/")))
    hidden = {"op", *request.supplied}
    properties = {
        name: for_javascript(field) for name, field in shape["properties"].items() if name not in hidden
    }
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    required = [name for name in shape.get("required", ()) if name not in hidden]
    if required:
        schema["required"] = required
    if others:
        schema["$defs"] = for_javascript(others)
    if not request.__doc__:
        raise TypeError(f"{request.__name__} has no docstring, and the model reads nothing else about it")
    return ToolCard(request.tool_name, request.__doc__, schema, request)


def for_javascript(node: Any) -> Any:
    """Spell patterns as JavaScript reads them: Python's anchors (`anchored`) mean letters there."""
    if isinstance(node, dict):
        return {
            key: anchored(value) if key == "pattern" and isinstance(value, str) else for_javascript(value)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [for_javascript(each) for each in node]
    return node


def anchored(pattern: str) -> str:
    return pattern.replace(r"\A", "^").replace(r"\Z", "$")


CARDS: Final = {card.name: card for card in map(tool_card, TOOLS)}
