"""Writes docs/reference/{requests,problems,limits,settings,tools}.md from the code, and the counts in privd.md.

python -m docs.generate            write them
python -m docs.generate --check    say which differ, and exit 1 when one does
"""

import argparse
import importlib
import json
import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect as shape

from docs import counted
from docs.declared import Bound, bounds, enum_words, field_words, modules, structs_in
from protocol.limits import COMMAND_CHARS_MAX, ICON_CHARS_MAX, PRONOUNS_CHARS_MAX
from protocol.names import (
    ACCOUNT_PATTERN,
    AGENT_NAME_PATTERN,
    HOST_PATTERN,
    KEY_PATTERN,
    MODEL_PATTERN,
    RECIPIENT_PATTERN,
    RULES,
    STATE_PATH_PATTERN,
)
from protocol.problem import PROBLEM_MEANINGS
from protocol.rpc import Request, Role, Route, Watch
from protocol.tools import TOOLS
from runtime.settings import ADDRESS_PATTERN, ORIGIN_PATTERN, PATH_PATTERN, SITE_PATTERN, URL_PATTERN

REFERENCE: Final = Path(__file__).parent / "reference"
PACKAGES: Final = (
    "protocol",
    "runtime",
    "privd",
    "boxes",
    "brokerd",
    "webd",
    "egressd",
    "harness",
    "hivectl",
)
NOTE: Final = "<!-- Written by docs/generate.py from the code; change it there. -->\n"

SOCKETS: Final = (
    ("privd", "privd.routes", "ROUTES", "`privd/operator.sock`, `privd/swarm.sock`, `privd/egress.sock`"),
    ("brokerd, from a cage", "brokerd.routes", "AGENT_ROUTES", "`agents/<name>/broker/broker.sock`"),
    ("brokerd, for the operator", "brokerd.routes", "OPERATOR_ROUTES", "`brokerd/operator.sock`"),
    ("webd", "webd.routes", "ROUTES", "`webd/operator.sock`"),
    ("egressd", "egressd.routes", "ROUTES", "`egressd/operator.sock`, `egressd/swarm.sock`"),
)
SETTINGS: Final = (
    (
        "hive.toml",
        "hivectl.up.configuration",
        "HiveSettings",
        "The operator's file, `hive.toml` in the hive's folder.",
    ),
    (
        "An agent's settings",
        "protocol.settings",
        "AgentSettings",
        "What privd renders into a cage as `/etc/hyperhive/agent.json`.",
    ),
    (
        "privd",
        "privd.settings",
        "PrivdSettings",
        "Rendered by `hive up`, or written by the service manager's unit.",
    ),
    ("brokerd", "brokerd.settings", "BrokerSettings", "As above."),
    ("webd", "webd.settings", "WebSettings", "As above."),
    ("egressd", "egressd.settings", "EgressSettings", "As above."),
)

PATTERN_WORDS: Final = {
    AGENT_NAME_PATTERN: "agent's name",
    RECIPIENT_PATTERN: "recipient",
    KEY_PATTERN: "key",
    ACCOUNT_PATTERN: "model account's name",
    STATE_PATH_PATTERN: "place below an agent's state folder",
    HOST_PATTERN: "host",
    PATH_PATTERN: "absolute path",
    MODEL_PATTERN: "model's name",
    r"\A[A-Za-z_][A-Za-z0-9_]{0,63}\Z": "variable's name",
    r"\A[0-9a-f]{40}\Z": "commit's id",
    r"\A[0-9a-f]{64}\Z": "SHA-256 in hex",
    r"\A[a-z0-9][a-z0-9._-]{0,31}\Z": "name of a key",
    r"\A[a-z][a-z0-9_-]{0,31}\Z": "MCP server's name",
    r"\A[^\x00-\x1f\x7f]{1,1024}\Z": "text of 1 to 1024 characters, none of them a control character",
    rf"\A[^\x00-\x1f\x7f]{{1,{COMMAND_CHARS_MAX}}}\Z": f"text of 1 to {COMMAND_CHARS_MAX} characters in one line",
    rf"\A[^\x00-\x1f\x7f]{{0,{ICON_CHARS_MAX}}}\Z": f"text of at most {ICON_CHARS_MAX} characters in one line",
    rf"\A[^\x00-\x1f\x7f]{{0,{PRONOUNS_CHARS_MAX}}}\Z": f"text of at most {PRONOUNS_CHARS_MAX} characters in one line",
    r"\A[^\x00-\x1f\x7f]{0,1024}\Z": "text of at most 1024 characters, none of them a control character",
    SITE_PATTERN: "host or host:port",
    ADDRESS_PATTERN: "address",
    r"\Asha256-[A-Za-z0-9+/]{43}=\Z": "SHA-256 in base64, as Nix writes it",
    ORIGIN_PATTERN: "scheme and host of a page",
    URL_PATTERN: "http:// or https:// address",
}
"""Every pattern that a field may have to match, in words; a new one is a KeyError here."""


# words


def in_one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def type_words(info: shape.Type) -> str:
    """A type as a reader of the page says it."""
    match info:
        case shape.Metadata(type=inner, extra_json_schema=extra):
            words = type_words(inner)
            said = (extra or {}).get("description")
            return (
                words
                if said is None or getattr(inner, "pattern", None) in PATTERN_WORDS
                else f"{words}: {said}"
            )
        case shape.StructType(cls=kind) | shape.EnumType(cls=kind):
            return f"[{kind.__name__}](#{kind.__name__.lower()})"
        case shape.UnionType(types=types):
            return " or ".join(type_words(one) for one in types)
        case shape.VarTupleType(item_type=item):
            return f"list of {type_words(item)}{_size(info.min_length, info.max_length, 'entries')}"
        case shape.DictType(key_type=key, value_type=value):
            return f"table from {type_words(key)} to {type_words(value)}{_size(None, info.max_length, 'entries')}"
        case _:
            return _leaf_words(info)


def _leaf_words(info: shape.Type) -> str:
    match info:
        case shape.IntType(ge=least, le=most):
            return "whole number" + _range(least, most)
        case shape.StrType(pattern=str(pattern)):
            return PATTERN_WORDS[pattern]
        case shape.StrType():
            return "text" + _size(info.min_length, info.max_length, "characters")
        case shape.LiteralType(values=values):
            return " or ".join(f"`{one}`" for one in values)
        case shape.BoolType():
            return "`true` or `false`"
        case shape.NoneType():
            return "nothing"
        case shape.FloatType():
            return "number"
        case shape.BytesType():
            return "bytes in base64"
        case _:
            raise TypeError(f"the reference has no words for {info}")


def _range(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" from {least} to {most}"
    return f" from {least}" if least is not None else f" up to {most}" if most is not None else ""


def _size(least: int | None, most: int | None, what: str) -> str:
    if least and most:
        return f", {least} to {most} {what}"
    return f", at most {most} {what}" if most else f", at least {least} {what}" if least else ""


def default_words(field: shape.Field) -> str:
    if field.required:
        return "required"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if isinstance(value, msgspec.Struct):
        return "its defaults"
    if value is None:
        return ""
    return f"`{json.dumps(value.value if isinstance(value, Enum) else value)}`".replace("|", "\\|")


# tables


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def field_table(kind: type) -> str:
    rows = [field_row(kind, field) for field in fields_of(kind)]
    return table(("field", "type", "default", "meaning"), rows) if rows else ""


def fields_of(kind: type) -> tuple[shape.Field, ...]:
    info = shape.type_info(kind)
    return info.fields if isinstance(info, shape.StructType) else ()


def field_row(kind: type, field: shape.Field) -> tuple[str, str, str, str]:
    words = in_one_line(field_words(kind).get(field.name))
    return f"`{field.encode_name}`", type_words(field.type), default_words(field), words


def type_section(kind: type) -> str:
    text = f"\n### {kind.__name__}\n\n{in_one_line(kind.__doc__)}\n\n"
    if issubclass(kind, Enum):
        return text + table(
            ("value", "meaning"), ((f"`{value}`", said) for value, said in enum_words(kind).items())
        )
    info = shape.type_info(kind)
    if isinstance(info, shape.StructType) and info.tag_field:
        text += f'Marked by `"{info.tag_field}":"{info.tag}"`.\n\n'
    return text + field_table(kind)


# pages


def requests_page() -> str:
    text = """# Requests

Every request, by the socket that serves it. What root may be asked is argued for in [privd](privd.md). The form of a
frame and of a refusal stands in `protocol/frames.py`; [problems](problems.md) has the codes.

"""
    text += table(
        ("in the tables below", "is"), ((PATTERN_WORDS[pattern], rule) for pattern, rule in RULES.items())
    )
    kinds: dict[type, None] = {}
    for title, module, name, place in SOCKETS:
        routes: tuple[Route[Any], ...] = getattr(importlib.import_module(module), name)
        text += f"\n## {title}\n\nAt {place}.\n"
        for route in routes:
            text += request_section(route)
            kinds |= dict.fromkeys(kind for kind in _types_of(route.request) if kind is not route.request)
    return (
        text
        + "\n## Types\n"
        + "".join(type_section(kind) for kind in sorted(kinds, key=lambda one: one.__name__))
    )


def _types_of(request: type[Request]) -> Iterable[type]:
    yield from structs_in(request)
    yield from structs_in(request.answer_type())


def request_section(route: Route[Any]) -> str:
    kind = route.request
    answer = type_words(shape.type_info(kind.answer_type()))
    facts = [
        f"Asked by {roles(route.callers)}",
        f"answers with a stream of {answer}" if issubclass(kind, Watch) else f"answers with {answer}",
    ]
    facts += ["waits"] if kind.waits else []
    facts += [] if kind.repeatable or issubclass(kind, Watch) else ["is not sent twice"]
    head = (
        f"\n### {kind.__name__}\n\n{in_one_line(kind.__doc__)}\n\n`{kind.operation()}`. {'; '.join(facts)}.\n"
    )
    fields = field_table(kind)
    return f"{head}\n{fields}" if fields else head


def roles(callers: Role) -> str:
    return ", ".join((role.name or "").lower() for role in callers)


def problems_page() -> str:
    text = "# Problems\n\nThe codes of a refusal, a closed set. Programs branch on the code, not on the text.\n\n"
    text += table(
        ("code", "meaning"), ((f"`{problem}`", words) for problem, words in PROBLEM_MEANINGS.items())
    )
    return text + "\negressd says the code of a refusal in the HTTP header `X-Hive-Problem`.\n"


def limits_page() -> str:
    text = "# Limits\n\nEvery bound, with its unit last in its name.\n\n## Between processes\n"
    found = {module.__name__: list(bounds(module)) for package in PACKAGES for module in modules(package)}
    text += grouped(found.pop("protocol.limits"))
    text += "\n## Inside one process\n\n"
    rows = (
        (
            f"`{bound.name}`",
            _number(bound.value),
            in_one_line(bound.words),
            f"`{module.replace('.', '/')}.py`",
        )
        for module, inside in found.items()
        for bound in inside
    )
    return text + table(("bound", "value", "meaning", "where"), rows)


def grouped(found: list[Bound]) -> str:
    """A table under each comment that opens a group."""
    text = ""
    for heading in dict.fromkeys(bound.heading for bound in found):
        rows = [
            (f"`{bound.name}`", _number(bound.value), in_one_line(bound.words))
            for bound in found
            if bound.heading == heading
        ]
        text += f"\n{heading}\n\n" + table(("bound", "value", "meaning"), rows)
    return text


def _number(value: float) -> str:
    return f"{value:_}".replace("_", " ") if isinstance(value, int) else f"{value:g}"


def settings_page() -> str:
    text = "# Settings\n\nUnknown keys are refused; a wrong value is named with file, key and reason.\n"
    known: set[type] = set()
    for title, module, name, words in SETTINGS:
        kind: type = getattr(importlib.import_module(module), name)
        text += f"\n## {title}\n\n{words} {in_one_line(kind.__doc__)}\n\n{field_table(kind)}"
        for inner in structs_in(kind):
            if inner not in known and inner is not kind:
                known.add(inner)
                text += type_section(inner)
    return text


def tools_page() -> str:
    text = "# Tools\n\nWhat an agent can do in the hive, as MCP tools that its harness offers.\n"
    for tool in TOOLS:
        text += f"\n## {tool.tool_name}\n\n{in_one_line(tool.__doc__)}\n\n"
        if tool.aliases:
            text += (
                f"Also as {', '.join(f'`{name}`' for name in tool.aliases)}, with the operator as `to`.\n\n"
            )
        rows = [field_row(tool, field) for field in fields_of(tool) if field.name not in tool.supplied]
        text += table(("argument", "type", "default", "meaning"), rows) if rows else "No arguments.\n"
    return text


PAGES: Final = {
    "requests": requests_page,
    "problems": problems_page,
    "limits": limits_page,
    "settings": settings_page,
    "tools": tools_page,
}


COUNTED: Final = ("<!-- Counted by docs/counted.py. -->\n", "<!-- End of what is counted. -->\n")


def privd_page() -> str:
    """The page that argues for each request, with its counts made anew."""
    before, _, rest = (REFERENCE / "privd.md").read_text().partition(COUNTED[0])
    return before + COUNTED[0] + counted.section() + COUNTED[1] + rest.partition(COUNTED[1])[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or compare the pages; the exit code."""
    parser = argparse.ArgumentParser(
        prog="docs.generate", description="Write the generated pages of the reference."
    )
    parser.add_argument("--check", action="store_true", help="only compare")
    check: bool = parser.parse_args(arguments).check
    stale: list[str] = []
    texts = {name: NOTE + page() for name, page in PAGES.items()} | {"privd": privd_page()}
    for name, text in texts.items():
        path = REFERENCE / f"{name}.md"
        if check and (not path.exists() or path.read_text() != text):
            stale.append(str(path.relative_to(REFERENCE.parents[1])))
        elif not check:
            path.write_text(text)
    if stale:
        print(f"not what the code says: {', '.join(stale)}; run: python -m docs.generate", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
