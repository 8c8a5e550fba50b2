"""What a decoder complains of, said to people: no pattern, no type as a programming language names it. Pure.

Peers of a socket, who are programs, are told in the decoder's own words (protocol.frames).
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import inspect

from protocol.names import RULES

TYPES: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
INVALID_CHOICE: Final = "Invalid enum value"
SIDES: Final = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}

_PATTERN: Final = re.compile(r"`str` matching regex '.*'")
_BOUND: Final = re.compile(
    r"Expected (?P<type>`\w+`) (?P<length>of length )?(?P<side>[<>]=?) (?P<bound>-?[\d.]+)"
)
_KEY: Final = re.compile(r"Object (?P<kind>contains unknown|missing required) field (?P<key>`[^`]*`)")
_TYPES: Final = re.compile(r"`(\w+(?: \| \w+)*)`")


def in_plain_words(fault: str, rules: Mapping[str, str] = RULES) -> str:
    """A decoder's complaint in words; `rules` says what a pattern means."""
    for pattern, words in rules.items():
        fault = fault.replace(f"`str` matching regex {pattern!r}", words)
    fault = _PATTERN.sub("text of another form", fault)
    fault = _BOUND.sub(_bound, fault)
    fault = _KEY.sub(_key, fault)
    return _TYPES.sub(_types, fault) if fault.startswith("Expected ") else fault


def choices_at(shape: type[msgspec.Struct], key: str) -> list[str]:
    """What may stand at `web.port` or `agents[0]` of *shape*, where that is one of a few words."""
    found: inspect.Type = inspect.type_info(shape)
    for name in re.sub(r"\[\.\.\.\]|\[\d+\]", "", key).split("."):
        fields = found.fields if isinstance(found, inspect.StructType) else ()
        found = next((_bare(field.type) for field in fields if field.encode_name == name), inspect.AnyType())
    match found:
        case inspect.EnumType(cls=kind):
            return [str(member.value) for member in kind]
        case inspect.LiteralType(values=values):
            return [str(value) for value in values]
        case _:
            return []


def _bare(kind: inspect.Type) -> inspect.Type:
    """The type without its rules, of one or of many, or none."""
    match kind:
        case inspect.Metadata(type=inner) | inspect.VarTupleType(item_type=inner):
            return _bare(inner)
        case inspect.UnionType(types=types):
            return _bare(next(one for one in types if not isinstance(one, inspect.NoneType)))
        case _:
            return kind


def _bound(found: re.Match[str]) -> str:
    length = "with a length of" if found["length"] else "of"
    return f"Expected {found['type']} {length} {SIDES[found['side']]} {found['bound']}"


def _key(found: re.Match[str]) -> str:
    return (
        f"Unknown key {found['key']}" if "unknown" in found["kind"] else f"The key {found['key']} is missing"
    )


def _types(found: re.Match[str]) -> str:
    kinds = found[1].split(" | ")
    return " or ".join(TYPES[kind] for kind in kinds) if set(kinds) <= TYPES.keys() else found[0]
