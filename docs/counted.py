"""How much runs as root: lines, requests and third-party modules of privd, counted from the code."""

import ast
import io
import json
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from privd.routes import ROUTES
from protocol.rpc import Role

CHECKOUT: Final = Path(__file__).parents[1]
PARTS: Final[Mapping[str, str]] = {
    "privd": "what it decides and drives: proposals, deployments, keepers of cages, boxes",
    "privd/handlers": "one function for each request",
    "privd/policy": "pure decisions, without files and processes",
    "privd/git": "objects, tags and branches of root's own repositories",
    "privd/cages": "backends: namespaces, mounts, limits, processes",
    "protocol": "the types that cross sockets, with their bounds",
    "runtime": "sockets, sessions, settings and log of every daemon",
    "boxes": "programs in boxes, never as root",
}
PROBE: Final = """
import importlib, json, sys
for name in ("greenlet", "rich"):
    sys.modules[name] = None  # of the test environment; structlog would take them up
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
print(json.dumps(sorted(name for name, module in sys.modules.items() if module is not None)))
"""
_SILENT: Final = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def loaded(*modules: str) -> frozenset[str]:
    """Names of all modules that a fresh interpreter has loaded with these."""
    argv = [sys.executable, "-I", "-c", PROBE, str(CHECKOUT), *modules]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    return frozenset(json.loads(done.stdout))


def third_party(modules: frozenset[str]) -> frozenset[str]:
    """Top-level names that are neither ours nor Python's."""
    ours = {path.parent.name for path in CHECKOUT.glob("*/__init__.py")} | {"__main__", "sitecustomize"}
    tops = {name.partition(".")[0] for name in modules}
    return frozenset(name for name in tops - ours - set(sys.stdlib_module_names) if not name.startswith("_"))


def code_lines(text: str) -> int:
    """Lines that do something: none of blank ones, comments and docstrings."""
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _SILENT:
            held.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            held.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(held)


def section() -> str:
    """The counted part of docs/reference/privd.md."""
    modules = loaded("privd.__main__")
    rows, own, own_code = [], 0, 0
    for part, words in PARTS.items():
        texts = [path.read_text() for path in _files(part, modules)]
        lines, code = sum(text.count("\n") for text in texts), sum(code_lines(text) for text in texts)
        rows.append(f"| `{part}` | {words} | {len(texts)} | {lines} | {code} |\n")
        if part.startswith("privd"):
            own, own_code = own + lines, own_code + code
    operator_only = sum(route.callers == Role.OPERATOR for route in ROUTES)
    others = ", ".join(f"`{name}`" for name in sorted(third_party(modules)))
    return (
        "| part | what | files | lines | of code |\n| --- | --- | --- | --- | --- |\n"
        + "".join(rows)
        + f"\nprivd's own: {own} lines, {own_code} of them code (no blank lines, comments, docstrings). Of "
        "`protocol` and `runtime` what its process loads.\n"
        f"\nRequests: {len(ROUTES)}, of which {operator_only} only the operator may ask.\n"
        f"\nThird-party modules in its process: {others}.\n"
    )


def _files(part: str, modules: frozenset[str]) -> Iterator[Path]:
    """All of a folder of privd's and of the boxes; elsewhere what privd's process loads."""
    for path in sorted((CHECKOUT / part).glob("*.py")):
        name = f"{part.replace('/', '.')}.{path.stem}".removesuffix(".__init__")
        if part.startswith("privd") or part == "boxes" or name in modules:
            yield path
