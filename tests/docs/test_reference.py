"""Nothing is undocumented: the reference is what the code declares, and every name of it is in there."""

import ast
import re
from pathlib import Path

import pytest

from docs.counted import code_lines
from docs.generate import COUNTED, PAGES, REFERENCE, SETTINGS, main
from privd.routes import ROUTES
from protocol import limits
from protocol.problem import Problem
from protocol.tools import TOOLS
from tests.support.shapes import requests

CHECKOUT = Path(__file__).parents[2]


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text()


def test_the_pages_are_what_the_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().err


def test_a_page_that_differs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = tmp_path / "docs" / "reference"
    reference.mkdir(parents=True)
    (reference / "privd.md").write_text("old count".join(COUNTED))
    monkeypatch.setattr("docs.generate.REFERENCE", reference)
    assert main(["--check"]) == 1
    assert capsys.readouterr().err.count("docs/reference/") == len(PAGES) + 1
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert "old count" not in (reference / "privd.md").read_text()
    with (reference / "tools.md").open("a") as tools:
        tools.write("more\n")
    assert main(["--check"]) == 1
    assert "docs/reference/tools.md;" in capsys.readouterr().err


@pytest.mark.parametrize("request_", requests(), ids=lambda request: request.__name__)
def test_every_request_has_a_section(request_: type) -> None:
    assert f"\n### {request_.__name__}\n" in page("requests")


def test_exactly_the_requests_of_root_are_argued_for() -> None:
    arguments = page("privd").partition("\n## ")[0]
    rows = re.findall(r"^\|([^|]*)\|", arguments, re.MULTILINE)
    argued = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(argued) == sorted(route.request.__name__ for route in ROUTES)


def test_a_line_of_code_does_something() -> None:
    text = '"""A docstring\n\nof three lines."""\n\n# a comment\nimport os  # one\n\nX = """two\nlines"""\n'
    assert code_lines(text) == 3


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.tool_name)
def test_every_tool_has_a_section_without_what_the_harness_fills_in(tool: type) -> None:
    (section,) = re.findall(rf"\n## {tool.tool_name}\n(.*?)(?=\n## |\Z)", page("tools"), re.DOTALL)  # type: ignore[attr-defined]  # a Tool
    for field in tool.__struct_fields__:  # type: ignore[attr-defined]  # a Struct
        assert (f"`{field}`" in section) == (field not in tool.supplied)  # type: ignore[attr-defined]  # a Tool


@pytest.mark.parametrize("problem", list(Problem))
def test_every_problem_is_explained(problem: Problem) -> None:
    assert re.search(rf"\n\| `{problem}` \| .+ \|\n", page("problems"))


@pytest.mark.parametrize("name", [name for name in vars(limits) if name.isupper()])
def test_every_limit_between_processes_is_listed(name: str) -> None:
    assert f"\n| `{name}` |" in page("limits")


def test_every_struct_of_a_settings_file_is_documented() -> None:
    documented = {module for _, module, _, _ in SETTINGS}
    for file in CHECKOUT.glob("*/settings.py"):
        if any(isinstance(node, ast.ClassDef) for node in ast.parse(file.read_text()).body):
            assert f"{file.parent.name}.settings" in documented | {"runtime.settings", "harness.settings"}


@pytest.mark.parametrize("name", PAGES)
def test_links_within_a_page_lead_somewhere(name: str) -> None:
    text = page(name)
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def test_every_cell_of_a_table_is_in_its_column() -> None:
    for name in PAGES:
        for block in re.findall(r"(?:^\|.*\n)+", page(name), re.MULTILINE):
            columns = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(columns) == 1, block
