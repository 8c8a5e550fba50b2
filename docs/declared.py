"""What the code declares, read for the reference pages: bounds and fields with the words that stand beside them."""

import ast
import importlib
import inspect
import pkgutil
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import ModuleType
from typing import Any

from msgspec import inspect as shape

UNITS = (
    "_MAX",
    "_MIN",
    "_S",
    "_DAYS",
    "_MS",
    "_BYTES",
    "_ROWS",
    "_FRAMES",
    "_JOBS",
    "_VERSION",
    "_DEFAULT",
    "_FACTOR",
)
"""Endings of names that are bounds."""


@dataclass(frozen=True)
class Bound:
    """A named constant: its value, the words beside it and the heading it stands under."""

    name: str
    value: Any
    words: str
    heading: str


@cache
def field_words(kind: type) -> dict[str, str]:
    """What is said beside each field of a class, the inherited ones among them."""
    words: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]):
        try:
            tree = ast.parse(_dedented(inspect.getsource(one)))
        except (OSError, TypeError):
            continue
        body = tree.body[0]
        if isinstance(body, ast.ClassDef):
            words |= _words_beside(body.body)
    return words


def _dedented(source: str) -> str:
    return inspect.cleandoc(f"\n{source}")


def _words_beside(body: list[ast.stmt]) -> dict[str, str]:
    """Docstrings that follow an assignment, by its name."""
    words: dict[str, str] = {}
    for statement, after in zip(body, [*body[1:], None], strict=True):
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                words[name] = _text_of(after)
            case _:
                continue
    return words


def _text_of(statement: ast.stmt | None) -> str:
    match statement:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return inspect.cleandoc(text)
        case _:
            return ""


def enum_words(kind: type[Enum]) -> dict[str, str]:
    """What is said beside each value of an enum."""
    beside = field_words(kind)
    return {str(one.value): beside.get(one.name, "") for one in kind}


def bounds(module: ModuleType) -> Iterator[Bound]:
    """The bounds that a module names, in order, each under the comment that opens its group."""
    source = inspect.getsource(module)
    headings = _comment_blocks(source)
    body = ast.parse(source).body
    words = _words_beside(body)
    for statement in body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), lineno=line) if _is_bound(
                name, getattr(module, name, None)
            ):
                heading = next((text for at, text in reversed(headings) if at < line), "")
                yield Bound(name, getattr(module, name), words[name], heading)


def _is_bound(name: str, value: object) -> bool:
    public = name.isupper() and not name.startswith("_")
    return public and isinstance(value, int | float) and not isinstance(value, bool) and name.endswith(UNITS)


def _comment_blocks(source: str) -> list[tuple[int, str]]:
    """Comments that stand on lines of their own: the line after the block, and its text."""
    blocks: list[tuple[int, str]] = []
    lines = iter(source.splitlines(keepends=True))
    for token in tokenize.generate_tokens(lambda: next(lines, "")):
        if token.type != tokenize.COMMENT or token.start[1]:
            continue
        text = token.string.lstrip("# ")
        if blocks and blocks[-1][0] == token.start[0] - 1:
            blocks[-1] = (token.start[0], f"{blocks[-1][1]} {text}")
        else:
            blocks.append((token.start[0], text))
    return blocks


def modules(package: str) -> Iterator[ModuleType]:
    """A package's modules, itself first."""
    root = importlib.import_module(package)
    yield root
    for found in sorted(pkgutil.walk_packages(root.__path__, f"{package}."), key=lambda one: one.name):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def structs_in(of: Any) -> Iterator[type]:
    """Every struct and enum that a type is made of, itself first, each once."""
    seen: set[type] = set()
    waiting: list[shape.Type] = [shape.type_info(of)]
    while waiting:
        info = waiting.pop(0)
        kind = getattr(info, "cls", None)
        if isinstance(kind, type) and kind not in seen:
            seen.add(kind)
            yield kind
        waiting += _inner(info)


def _inner(info: shape.Type) -> list[shape.Type]:
    match info:
        case shape.Metadata(type=inner):
            return [inner]
        case shape.StructType(fields=fields):
            return [field.type for field in fields]
        case shape.UnionType(types=types):
            return list(types)
        case shape.VarTupleType(item_type=item):
            return [item]
        case shape.DictType(key_type=key, value_type=value):
            return [key, value]
        case _:
            return []
